"""Layers of the frozen talker: each is the state that its name says, pooled over its own positions, from one pass."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from tune_accent.base.errors import UserError
from tune_accent.models.backbone import Backbone
from tune_accent.models.checkpoint import decoder_blocks
from tune_accent.models.forward import TEXT_POSITION, Inputs, forward, pool
from tune_accent.models.layers import chosen_layers, depth, layer_names, pooled_layers, search_layer, text_positions

MakeBatch = Callable[..., Inputs]
ALL = ("text_encoder_out", "decoder_block_00", "decoder_block_01", "decoder_block_02", "decoder_block_03", "pre_vocoder")


def test_names_of_a_small_and_of_the_real_talker() -> None:
    assert layer_names(4) == ALL == chosen_layers(None, 4)
    assert [depth(name, 4) for name in ALL] == [-1, 0, 1, 2, 3, 4]
    chosen = chosen_layers(None, 28)
    assert chosen[0] == "text_encoder_out" and chosen[-1] == "pre_vocoder" and len(set(chosen)) == 8
    steps = [depth(right, 28) - depth(left, 28) for left, right in pairwise(chosen)]
    assert set(steps) <= {4, 5}


def test_chosen_layers_come_in_order_and_once() -> None:
    assert chosen_layers(["pre_vocoder", "decoder_block_01", "pre_vocoder"], 4) == ("decoder_block_01", "pre_vocoder")


def test_an_unknown_layer_is_an_error_that_lists_those_there_are() -> None:
    with pytest.raises(
        UserError, match=r"audit.layers: the backbone has no layer 'decoder_block_04'(.|\n)*decoder_block_03, pre_vocoder"
    ):
        chosen_layers(["decoder_block_04", "decoder_block_00"], 4)


def test_depth_is_read_from_the_config_alone(shared: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tune_accent.models.backbone._read", None)
    assert decoder_blocks(shared.folder) == shared.layers == 4


@pytest.mark.parametrize("name", ALL)
def test_a_search_at_the_recommended_layer_reads_the_same_state(
    loud: Backbone, make_batch: MakeBatch, voices: Tensor, name: str
) -> None:
    inputs = make_batch(loud)
    pooled = pooled_layers(loud, inputs, voices, [name])[name]
    layer = search_layer(name, loud.layers)
    if layer is None:
        assert name in ("text_encoder_out", "decoder_block_03")
        return
    output = forward(loud, inputs, speaker=voices, accent=None, layer=layer)
    assert torch.equal(pooled, pool(output.hidden, output.frames))


def test_the_last_block_comes_before_the_norm_and_pre_vocoder_feeds_the_codec_head(
    loud: Backbone, make_batch: MakeBatch, voices: Tensor
) -> None:
    inputs = make_batch(loud)
    heard: list[Tensor] = []
    handle = loud.talker.codec_head.register_forward_pre_hook(lambda module, arguments: heard.append(arguments[0]))
    forward(loud, inputs, speaker=voices, accent=None, layer=4)
    handle.remove()
    raw = loud.talker.model.layers[3]
    states: list[Tensor] = []
    handle = raw.register_forward_hook(lambda module, arguments, output: states.append(output[0]))
    found = pooled_layers(loud, inputs, voices, ["decoder_block_03", "pre_vocoder"])
    handle.remove()
    normed = loud.talker.model.norm(states[0])
    assert torch.equal(found["decoder_block_03"], pool(states[0], inputs.frames))
    assert torch.equal(found["pre_vocoder"], pool(normed, inputs.frames))
    assert torch.allclose(heard[0], normed.flatten(0, 1)[inputs.label_at], atol=1e-5)
    assert not torch.allclose(found["decoder_block_03"], found["pre_vocoder"], atol=0.1)


def test_text_is_the_projected_content_tokens_whatever_the_voice(
    loud: Backbone, make_batch: MakeBatch, voices: Tensor, texts: list[str]
) -> None:
    found = pooled_layers(loud, make_batch(loud), voices, ["text_encoder_out"])["text_encoder_out"]
    for row, text in enumerate(texts):
        tokens = torch.tensor(loud.text_tokens(text))
        projected = loud.talker.text_projection(loud.talker.model.text_embedding(tokens))
        assert torch.allclose(found[row, :64], projected.mean(0), atol=1e-5)
        assert torch.allclose(found[row, 64:], projected.std(0, correction=0), atol=1e-4)
    assert torch.equal(found, pooled_layers(loud, make_batch(loud), 2 * voices, ["text_encoder_out"])["text_encoder_out"])


def test_text_positions_hold_the_content_tokens(shared: Backbone, batch: Inputs, texts: list[str]) -> None:
    where = text_positions(batch)
    for row, text in enumerate(texts):
        assert batch.tokens[batch.text[row][where[row]]].tolist() == shared.text_tokens(text)
        assert int(where[row].int().argmax()) == TEXT_POSITION


def test_padding_changes_nothing(loud: Backbone, make_batch: MakeBatch, voices: Tensor) -> None:
    both = pooled_layers(loud, make_batch(loud), voices, ALL)
    for row in (0, 1):
        alone = pooled_layers(loud, make_batch(loud, slice(row, row + 1)), voices[row : row + 1], ALL)
        for name in ALL:
            assert torch.allclose(both[name][row], alone[name][0], atol=1e-4), name


def test_one_pass_gives_all_layers_and_ends_at_the_deepest(
    shared: Backbone, batch: Inputs, voices: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    handles = [
        block.register_forward_hook(lambda module, arguments, output, number=number: passes.append(number))
        for number, block in enumerate(shared.talker.model.layers)
    ]
    found = pooled_layers(shared, batch, voices, ALL)
    assert tuple(found) == ALL and passes == [0, 1, 2, 3]
    assert all(moments.shape == (2, 128) and moments.dtype == torch.float32 for moments in found.values())
    passes.clear()
    pooled_layers(shared, batch, voices, ["text_encoder_out", "decoder_block_01"])
    assert passes == [0, 1]
    for handle in handles:
        handle.remove()
    assert not any(module._forward_hooks for module in shared.talker.modules()), "the taps are taken out again"


def test_voice_changes_every_layer_but_the_text(loud: Backbone, make_batch: MakeBatch, voices: Tensor) -> None:
    first, second = (pooled_layers(loud, make_batch(loud), scale * voices, ALL) for scale in (1.0, -1.0))
    changed = {name for name in ALL if not torch.allclose(first[name], second[name], atol=1e-3)}
    assert changed == set(ALL) - {"text_encoder_out"}
