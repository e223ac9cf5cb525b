"""Layout, layers, losses and determinism of the teacher-forced forward (its truth is test_parity's matter)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from tune_accent.base.errors import DataError, ModelError
from tune_accent.config.schema import Lora
from tune_accent.models.backbone import Backbone, set_checkpointing
from tune_accent.models.forward import (
    ACCENT_POSITION,
    SPEAKER_POSITION,
    Inputs,
    choose_frames,
    collate,
    embed,
    forward,
    pool,
    subtalker_logits,
    trunk,
)
from tune_accent.models.lora import adapter_parameters, attach

MakeBatch = Callable[..., Inputs]


def test_padding_of_a_row_changes_nothing(loud: Backbone, make_batch: MakeBatch, voices: Tensor) -> None:
    both = forward(loud, make_batch(loud), speaker=voices, accent=None, layer=3)
    for row in (0, 1):
        alone = forward(loud, make_batch(loud, slice(row, row + 1)), speaker=voices[row : row + 1], accent=None, layer=3)
        assert torch.allclose(both.hidden[row][both.frames[row]], alone.hidden[0][alone.frames[0]], atol=1e-5)


@pytest.mark.parametrize("layer", range(5))
def test_hidden_is_the_entry_of_hidden_states(loud: Backbone, make_batch: MakeBatch, voices: Tensor, layer: int) -> None:
    inputs = make_batch(loud)
    x = embed(loud, inputs, voices, None)
    ends = inputs.label_at[inputs.labels == loud.model.config.talker_config.codec_eos_token_id] % x.shape[1]
    mask = torch.arange(x.shape[1]) <= ends[:, None]
    assert not mask.all()
    states = loud.talker.model(inputs_embeds=x, attention_mask=mask, use_cache=False, output_hidden_states=True).hidden_states
    output = forward(loud, inputs, speaker=voices, accent=None, layer=layer)
    assert torch.allclose(output.hidden[mask], states[layer][mask], atol=1e-5)
    short = forward(loud, inputs, speaker=voices, accent=None, layer=layer, losses=False)
    assert torch.equal(short.hidden, output.hidden) and short.loss_codebook0 == 0 and short.loss_subtalker == 0


def test_blocks_above_the_layer_are_not_computed_without_losses(
    shared: Backbone, batch: Inputs, voices: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("computed")

    for module in (shared.talker.model.layers[2], shared.talker.codec_head, shared.talker.code_predictor.model):
        monkeypatch.setattr(module, "forward", fail)
    forward(shared, batch, speaker=voices, accent=None, layer=2, losses=False)
    with pytest.raises(AssertionError, match="computed"):
        forward(shared, batch, speaker=voices, accent=None, layer=2)


def test_layer_out_of_range(shared: Backbone, batch: Inputs, voices: Tensor) -> None:
    with pytest.raises(ValueError, match=r"0\.\.4, got 5"):
        forward(shared, batch, speaker=voices, accent=None, layer=5)


def test_speaker_and_accent_enter_at_their_positions_only(shared: Backbone, batch: Inputs, voices: Tensor) -> None:
    plain = embed(shared, batch, torch.zeros_like(voices), None)
    changed = embed(shared, batch, voices, 2 * voices) - plain
    assert torch.allclose(changed[:, SPEAKER_POSITION], voices, atol=1e-6)
    assert torch.allclose(changed[:, ACCENT_POSITION], 2 * voices, atol=1e-6)
    changed[:, [SPEAKER_POSITION, ACCENT_POSITION]] = 0
    assert not changed.any()


def test_accent_is_added_where_the_language_is(loud: Backbone, make_batch: MakeBatch, voices: Tensor) -> None:
    """English plus (e_portuguese − e_english) is the portuguese prefix."""
    table = loud.talker.model.codec_embedding.weight
    change = (table[loud.language_id("portuguese")] - table[loud.language_id("english")]).expand(2, -1)
    as_accent = forward(loud, make_batch(loud), speaker=voices, accent=change, layer=4)
    as_language = forward(loud, make_batch(loud, language="portuguese"), speaker=voices, accent=None, layer=4)
    assert torch.allclose(as_accent.hidden, as_language.hidden, atol=1e-4)


def test_gradient_reaches_speaker_and_accent(shared: Backbone, batch: Inputs, voices: Tensor) -> None:
    speaker, accent = voices.clone().requires_grad_(), torch.zeros(2, 64, requires_grad=True)
    output = forward(shared, batch, speaker=speaker, accent=accent, layer=2)
    (output.loss_codebook0 + output.loss_subtalker).backward()  # type: ignore[no-untyped-call]
    assert speaker.grad is not None and accent.grad is not None
    assert speaker.grad.abs().sum() > 0 and accent.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in shared.model.parameters())


def test_sub_frames_choose_from_all_frames(loud: Backbone, make_batch: MakeBatch, voices: Tensor) -> None:
    inputs = make_batch(loud)
    state = trunk(loud, embed(loud, inputs, voices, None), 2, whole=True)[0]
    chosen = torch.tensor([0, 5, 20])
    assert torch.allclose(
        subtalker_logits(loud, inputs, state, chosen), subtalker_logits(loud, inputs, state, None)[chosen], atol=1e-5
    )
    losses = [
        forward(loud, inputs, speaker=voices, accent=None, layer=2, sub_frames=torch.tensor([frame])).loss_subtalker
        for frame in range(23)
    ]
    whole = forward(loud, inputs, speaker=voices, accent=None, layer=2).loss_subtalker
    assert torch.stack(losses).mean().item() == pytest.approx(whole.item(), abs=1e-4)


def test_drawn_frames_depend_on_the_generator_only(batch: Inputs) -> None:
    drawn = [choose_frames(batch, 8, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert all(frames is not None and len(set(frames.tolist())) == 8 and frames.max() < 23 for frames in drawn)
    first, again, other = (frames.tolist() for frames in drawn if frames is not None)
    assert first == again != other
    assert choose_frames(batch, 23, None) is None


def test_repeats_are_bit_identical_and_checkpointing_changes_no_gradient(
    backbone: Backbone, batch: Inputs, voices: Tensor
) -> None:
    peft_model = attach(backbone, Lora(rank=4), seed=0)
    peft_model.train()
    parameters = adapter_parameters(peft_model)
    for name, parameter in sorted(peft_model.named_parameters()):
        if "lora_B" in name:
            parameter.data.normal_(generator=torch.Generator().manual_seed(len(name)))

    def gradients() -> list[Tensor]:
        output = forward(backbone, batch, speaker=voices, accent=None, layer=2)
        loss = output.loss_codebook0 + output.loss_subtalker + pool(output.hidden, output.frames).sum()
        return list(torch.autograd.grad(loss, parameters))

    first, again = gradients(), gradients()
    set_checkpointing(backbone, True)
    assert all(block.gradient_checkpointing for block in backbone.talker.model.layers)
    checkpointed = gradients()
    set_checkpointing(backbone, False)
    for plain, repeated, recomputed in zip(first, again, checkpointed, strict=True):
        assert plain.any() and torch.equal(plain, repeated) and torch.equal(plain, recomputed)


def test_collate_lays_out_the_batch(shared: Backbone, batch: Inputs, texts: list[str]) -> None:
    lengths = [len(shared.text_tokens(text)) for text in texts]
    assert batch.rows == 2
    assert batch.text.shape[1] == max(11 + lengths[0] + 9, 11 + lengths[1] + 14)
    assert batch.frames.sum(1).tolist() == [9, 14]
    assert int(batch.frames[0].int().argmax()) == 11 + lengths[0]
    eos = shared.model.config.talker_config.codec_eos_token_id
    assert batch.labels.tolist() == [*batch.codes[:9, 0].tolist(), eos, *batch.codes[9:, 0].tolist(), eos]
    assert all(tensor.dtype in (torch.int64, torch.bool) for tensor in vars(batch.to("cpu")).values())


def test_bf16_autocast_keeps_the_residual_stream_in_the_weights_type(shared: Backbone, batch: Inputs, voices: Tensor) -> None:
    exact = forward(shared, batch, speaker=voices, accent=None, layer=2)
    with torch.autocast("cpu", torch.bfloat16):
        half = forward(shared, batch, speaker=voices, accent=voices * 0, layer=2, sub_frames=torch.arange(23))
        pooled = pool(half.hidden, half.frames)
    assert half.hidden.dtype == half.loss_codebook0.dtype == half.loss_subtalker.dtype == pooled.dtype == torch.float32
    assert half.loss_codebook0.item() == pytest.approx(exact.loss_codebook0.item(), rel=1e-2)
    assert half.loss_subtalker.item() == pytest.approx(exact.loss_subtalker.item(), rel=1e-2)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros((4, 8), int), "shape"),
        (np.zeros((0, 16), int), "shape"),
        (np.full((4, 16), 64), "0..63"),
        (np.full((4, 16), -1), "0..63"),
    ],
)
def test_codes_that_do_not_fit_are_refused(shared: Backbone, codes: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        collate(shared, [[1, 2]], [codes], "english")


def test_unknown_language_names_the_known_ones(shared: Backbone) -> None:
    with pytest.raises(ModelError, match="english, portuguese"):
        collate(shared, [[1, 2]], [np.zeros((4, 16), int)], "klingon")
    assert shared.language_id(None) == shared.language_id("English") == 66


def test_pool_is_mean_and_std_over_frames_only() -> None:
    hidden = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(0))
    frames = torch.tensor([[0, 0, 1, 1, 1, 0, 0], [0, 1, 1, 1, 1, 1, 1]]).bool()
    for row in (0, 1):
        chosen = hidden[row][frames[row]]
        expected = torch.cat([chosen.mean(0), chosen.std(0, correction=0)])
        assert torch.allclose(pool(hidden, frames)[row], expected, atol=1e-5)


def test_pool_has_a_finite_gradient_where_all_frames_are_equal() -> None:
    hidden = torch.ones(1, 4, 3, requires_grad=True)
    pool(hidden, torch.ones(1, 4).bool()).sum().backward()  # type: ignore[no-untyped-call]
    assert hidden.grad is not None and hidden.grad.isfinite().all()
