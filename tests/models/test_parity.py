"""The forward says what `generate` says: talker and sub-talker logits in fp32, and the four ways to get it wrong do not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tune_accent.models.backbone import Backbone
from tune_accent.models.forward import Inputs, codebook0_logits, collate, embed, forward, subtalker_logits, trunk

TOLERANCE = 1e-5
CONTROL = 0.1
STEPS = 16


@dataclass(frozen=True)
class Generated:
    """What greedy generation chose and on what grounds, cut to two different numbers of frames."""

    inputs: Inputs
    codebook0: Tensor  # (N + B, vocabulary) in the order of inputs.labels
    subtalker: Tensor  # (N, 15, codebook size) in the order of inputs.codes


@contextmanager
def recorded(modules: list[nn.Module]) -> Iterator[list[list[Tensor]]]:
    """The last-position outputs of each module, call by call."""
    calls: list[list[Tensor]] = [[] for _ in modules]
    hooks = [
        module.register_forward_hook(lambda _m, _i, out, log=log: log.append(out[:, -1].clone()))
        for module, log in zip(modules, calls, strict=True)
    ]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


@pytest.fixture(scope="module")
def generated(loud: Backbone, texts: list[str], voices: Tensor) -> Generated:
    """Greedy, repetition penalty 1, voice clone with the speaker embedding alone, non-streaming, with a language."""
    from qwen_tts import VoiceClonePromptItem

    items = [VoiceClonePromptItem(None, voice, True, False) for voice in voices]
    codes: list[Tensor] = []
    generate = loud.model.generate

    def spy(**arguments: Any) -> Any:
        result = generate(**arguments)
        codes.extend(result[0])
        return result

    loud.model.generate = spy
    heads = list(loud.talker.code_predictor.lm_head)
    with recorded([loud.talker.codec_head, *heads]) as calls:
        loud.tts.generate_voice_clone(
            texts, language="English", voice_clone_prompt=items, non_streaming_mode=True, do_sample=False, subtalker_dosample=False,
            repetition_penalty=1.0, max_new_tokens=STEPS, top_k=None, top_p=None, temperature=None, subtalker_top_k=None,
            subtalker_top_p=None, subtalker_temperature=None,
        )  # fmt: skip
    loud.model.generate = generate
    counts = [len(codes[0]), len(codes[1]) - 4]
    inputs = collate(
        loud,
        [loud.text_tokens(text) for text in texts],
        [block[:count].numpy() for block, count in zip(codes, counts, strict=True)],
        "english",
    )
    steps, answers = torch.stack(calls[0], 1), torch.stack([torch.stack(call, 1) for call in calls[1:]], 2)
    return Generated(
        inputs,
        torch.cat([steps[row, : count + 1] for row, count in enumerate(counts)]),
        torch.cat([answers[row, :count] for row, count in enumerate(counts)]),
    )


@pytest.fixture(scope="module")
def state(loud: Backbone, generated: Generated, voices: Tensor) -> Tensor:
    """The talker's final state of the teacher-forced pass."""
    return trunk(loud, embed(loud, generated.inputs, voices, None), 2, whole=True)[0]


def gap(a: Tensor, b: Tensor) -> float:
    """Largest difference."""
    return float((a - b).abs().max())


def test_the_case_is_worth_its_name(loud: Backbone, generated: Generated, texts: list[str]) -> None:
    """Different texts and frame counts, real projections, varied codes: nothing agrees by accident."""
    frames = generated.inputs.frames.sum(1)
    assert len(loud.text_tokens(texts[0])) != len(loud.text_tokens(texts[1]))
    assert frames.min() >= 8 and frames[0] != frames[1]
    assert isinstance(loud.talker.code_predictor.small_to_mtp_projection, nn.Linear)
    assert loud.talker.model.text_embedding.weight.shape[1] != loud.hidden
    assert len(set(generated.inputs.codes.flatten().tolist())) > 20
    assert generated.codebook0.std() > 0.5 and generated.subtalker.std() > 0.5


def test_talker_logits_agree_with_generate(loud: Backbone, generated: Generated, state: Tensor) -> None:
    own = codebook0_logits(loud, generated.inputs, state)
    assert gap(own, generated.codebook0) <= TOLERANCE
    assert torch.equal(own.argmax(1), generated.codebook0.argmax(1))


def test_subtalker_logits_agree_with_generate(loud: Backbone, generated: Generated, state: Tensor) -> None:
    own = subtalker_logits(loud, generated.inputs, state, None)
    assert gap(own, generated.subtalker) <= TOLERANCE
    assert torch.equal(own.argmax(2), generated.inputs.codes[:, 1:]), "greedy generation took the argmax"


def test_losses_are_the_cross_entropies_of_what_generate_computed(loud: Backbone, generated: Generated, voices: Tensor) -> None:
    output = forward(loud, generated.inputs, speaker=voices, accent=None, layer=2)
    codes = generated.inputs.codes
    assert output.loss_codebook0.item() == pytest.approx(
        F.cross_entropy(generated.codebook0, generated.inputs.labels).item(), abs=TOLERANCE
    )
    assert output.loss_subtalker.item() == pytest.approx(
        F.cross_entropy(generated.subtalker.flatten(0, 1), codes[:, 1:].flatten()).item(), abs=TOLERANCE
    )


def test_control_a_shifting_labels_twice_is_noticed(loud: Backbone, generated: Generated, state: Tensor) -> None:
    """The state that predicts frame j is trained on frame j + 1."""
    own = codebook0_logits(loud, generated.inputs, state)
    assert gap(own[:-1], generated.codebook0[1:]) > CONTROL
    twice = F.cross_entropy(own[:-1], generated.inputs.labels[1:])
    assert abs(twice - F.cross_entropy(own, generated.inputs.labels)) > CONTROL


def test_control_b_leaving_out_the_text_projection_is_noticed(
    loud: Backbone, generated: Generated, voices: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text embeddings cut to the talker's width in place of projected ones."""
    monkeypatch.setattr(loud.talker.text_projection, "forward", lambda text: text[..., : loud.hidden])
    state = trunk(loud, embed(loud, generated.inputs, voices, None), 2, whole=True)[0]
    assert gap(codebook0_logits(loud, generated.inputs, state), generated.codebook0) > CONTROL


def test_control_c_conditioning_the_subtalker_on_the_frame_itself_is_noticed(
    loud: Backbone, generated: Generated, state: Tensor
) -> None:
    """The state at p has already seen the codes of frame p."""
    late = replace(generated.inputs, frame_at=generated.inputs.frame_at + 1)
    own = subtalker_logits(loud, late, state, None)
    assert gap(own, generated.subtalker) > CONTROL
    assert (own.argmax(2) == generated.inputs.codes[:, 1:]).float().mean() < 0.8


def test_control_d_shifting_the_subtalkers_labels_is_noticed(loud: Backbone, generated: Generated, state: Tensor) -> None:
    """Head i is trained on codebook i + 2."""
    own = subtalker_logits(loud, generated.inputs, state, None)
    assert gap(own[:, :-1], generated.subtalker[:, 1:]) > CONTROL
    labels = generated.inputs.codes
    shifted = F.cross_entropy(own[:, :-1].flatten(0, 1), labels[:, 2:].flatten())
    assert abs(shifted - F.cross_entropy(own.flatten(0, 1), labels[:, 1:].flatten())) > CONTROL


def test_another_speaker_or_language_is_noticed(loud: Backbone, generated: Generated, voices: Tensor) -> None:
    """Parity above is not for want of an effect of S or of the language."""
    other = forward(loud, generated.inputs, speaker=voices.flip(0), accent=None, layer=2)
    same = forward(loud, generated.inputs, speaker=voices, accent=None, layer=2)
    assert gap(other.hidden, same.hidden) > CONTROL
    table = loud.talker.model.codec_embedding.weight
    change = (table[loud.language_id("portuguese")] - table[loud.language_id("english")]).expand(2, -1)
    assert gap(forward(loud, generated.inputs, speaker=voices, accent=change, layer=2).hidden, same.hidden) > CONTROL
