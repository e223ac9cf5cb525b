"""The check has to tell a model that was trained on the right labels from one that was not; an untrained one it cannot judge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tune_accent.base.errors import DataError
from tune_accent.models.backbone import Backbone, load_backbone
from tune_accent.models.forward import Inputs, codebook0_logits, collate, embed, subtalker_logits, trunk
from tune_accent.models.label_alignment import AlignmentReport, alignment

Labels = Callable[[Inputs, Tensor, Tensor], Tensor]


def aligned(inputs: Inputs, first: Tensor, heads: Tensor) -> Tensor:
    return F.cross_entropy(first, inputs.labels) + F.cross_entropy(heads.flatten(0, 1), inputs.codes[:, 1:].flatten())


def frames_shifted(inputs: Inputs, first: Tensor, heads: Tensor) -> Tensor:
    """Each position is taught the label of the position after: frame j + 2."""
    return F.cross_entropy(first[:-1], inputs.labels[1:]) + F.cross_entropy(heads.flatten(0, 1), inputs.codes[:, 1:].flatten())


def heads_shifted(inputs: Inputs, first: Tensor, heads: Tensor) -> Tensor:
    """Head i is taught codebook i + 2."""
    return F.cross_entropy(first, inputs.labels) + F.cross_entropy(heads[:, :-1].flatten(0, 1), inputs.codes[:, 2:].flatten())


@pytest.fixture(scope="module")
def speech(shared: Backbone) -> Inputs:
    """Two utterances whose codes never repeat the one before."""
    rng = np.random.default_rng(3)
    codes = [rng.integers(0, shared.codebook_size, (frames, 16)) for frames in (12, 9)]
    return collate(shared, [[5, 6, 7], [8, 9]], codes, "english")


def taught(folder: Path, speech: Inputs, labels: Labels, steps: int = 30) -> AlignmentReport:
    """The report of a fresh model after some steps of full training on `labels`."""
    backbone = load_backbone(folder)
    weights = [parameter.requires_grad_() for parameter in backbone.talker.parameters()]
    optimizer = torch.optim.Adam(weights, lr=1e-2)
    for _ in range(steps):
        last, _ = trunk(backbone, embed(backbone, speech, torch.zeros(2, 64), None), backbone.layers, whole=True)
        optimizer.zero_grad()
        torch.autograd.backward(
            labels(speech, codebook0_logits(backbone, speech, last), subtalker_logits(backbone, speech, last, None))
        )
        optimizer.step()
    return alignment(backbone, speech)


def test_a_model_that_learned_the_right_labels_passes(tiny_folder: Path, speech: Inputs) -> None:
    found = taught(tiny_folder, speech, aligned)
    assert found.ok and found.next_frame < 1 and found.subtalker < found.subtalker_shifted - 2
    assert "agree with the weights" in found.words and "NOT" not in found.words and f"{found.after_next:.2f}" in found.words


@pytest.mark.parametrize("labels", [frames_shifted, heads_shifted])
def test_a_model_that_learned_shifted_labels_fails(tiny_folder: Path, speech: Inputs, labels: Labels) -> None:
    found = taught(tiny_folder, speech, labels)
    assert not found.ok and "do NOT agree" in found.words
    if labels is frames_shifted:
        assert found.after_next < found.next_frame - 2
    else:
        assert found.subtalker_shifted < found.subtalker - 2


def test_an_untrained_model_is_not_vouched_for(shared: Backbone, speech: Inputs) -> None:
    found = alignment(shared, speech)
    assert not found.ok and abs(found.next_frame - found.after_next) < 0.5 and "untrained" in found.words


def test_the_figures_are_cross_entropies_of_the_named_codes(loud: Backbone, speech: Inputs, voices: Tensor) -> None:
    """Counted again by hand, frame by frame."""
    with torch.no_grad():
        last, _ = trunk(loud, embed(loud, speech, voices, None), loud.layers, whole=True)
        states = last.flatten(0, 1)[speech.frame_at - 1]
        scores = loud.talker.codec_head(states).log_softmax(-1)
    count, second = (12, 9), 12
    pairs = [
        (start + frame, start + frame + 1) for start, frames in ((0, count[0]), (second, count[1])) for frame in range(frames - 1)
    ]
    expected = [
        -torch.stack([scores[at, speech.codes[of, 0]] for at, of in kind]).mean() for kind in ([(a, a) for a, _ in pairs], pairs)
    ]
    found = alignment(loud, speech, voices)
    assert (found.next_frame, found.after_next) == pytest.approx([float(value) for value in expected], rel=1e-5)
    assert alignment(loud, speech) != found, "S is read"


def test_the_margin_decides() -> None:
    report = AlignmentReport(6.05, 11.03, 7.24, 10.03)
    assert report.ok and not replace(report, after_next=6.9).ok and not replace(report, subtalker_shifted=7.3).ok


def test_one_frame_is_not_enough(shared: Backbone) -> None:
    with pytest.raises(DataError, match="two frames"):
        alignment(shared, collate(shared, [[5]], [np.zeros((1, 16), int)], "english"))
