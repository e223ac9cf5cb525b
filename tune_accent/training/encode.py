"""Utterances through the model as it stands: pooled h and z of any splits, with S neutral or given and A = ∅ or given.

A search encodes train and val speakers with neither given. Test speakers are encoded by the paper run alone, which asks for them by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from tune_accent.base.seeds import derive_seed
from tune_accent.config.schema import Experiment
from tune_accent.models.forward import Output, forward, pool
from tune_accent.training.device import autocast
from tune_accent.training.heads import Heads
from tune_accent.training.inputs import BaseLoss, TrialData

EVALUATED = ("train", "val")  # of a trial


@dataclass(frozen=True)
class Representation:
    """Encoded utterances.

    Attributes:
        rows: (N,) row numbers of the utterance table, ascending.
        h: (N, 2H) float32 pooled hidden states.
        z: (N, D) float32, or None without heads.
        loss: cross-entropy of the scored rows; NaN where none are.
    """

    rows: np.ndarray
    h: np.ndarray
    z: np.ndarray | None
    loss: BaseLoss


@dataclass(frozen=True)
class Given:
    """What utterances are given beside text and codes; bare it is neutral: S = mean, A = ∅.

    Attributes:
        voices: for each row of the utterance table the row whose embedding is S (see voices.py); None: the mean voice.
        accents: for each row of the utterance table the number of the accent that is A; None: A = ∅.
    """

    voices: np.ndarray | None = None
    accents: np.ndarray | None = None


NEUTRAL = Given()


@torch.no_grad()
def represent(
    spec: Experiment,
    data: TrialData,
    heads: Heads | None,
    *,
    splits: Sequence[str] | None = None,
    scored: str | None = "val",
    given: Given = NEUTRAL,
) -> Representation:
    """Encode utterances; the model must be in evaluation mode.

    The composition of a batch can change the last bits: rows that are scored and rows that are not never share one, so rows of one split are
    encoded to the same bits whichever other split is asked for.

    Args:
        spec: layer, sub_frames, batch size, and the seed of the frames that are scored: the experiment's own, so that losses of all repeats
            are taken over the same frames.
        data: inputs.
        heads: give z, and the accent table where A is given.
        splits: whose utterances; None: train and val, without heads the scored ones alone.
        scored: split whose cross-entropy is measured; None measures none.
        given: S and A.
    """
    of_row = data.speech.table["split"].to_numpy()
    asked = list(splits if splits is not None else EVALUATED if heads else [scored or ""])
    rows, is_scored = np.flatnonzero(np.isin(of_row, asked)), of_row == scored
    lengths = np.diff(data.speech.frame_offsets)[rows]
    order = np.lexsort((rows, lengths, is_scored[rows]))
    h: dict[int, np.ndarray] = {}
    z: dict[int, np.ndarray] = {}
    sums, frames = np.zeros(2), 0
    for chosen in _batches(rows[order], is_scored, spec.evaluation.batch_size):
        losses = bool(is_scored[chosen[0]])
        output = _forward(spec, data, heads, chosen, given, losses)
        pooled = pool(output.hidden, output.frames).float()
        h.update(zip(chosen.tolist(), pooled.cpu().numpy(), strict=True))
        if heads is not None:
            z.update(zip(chosen.tolist(), heads.z(pooled).cpu().numpy(), strict=True))
        if losses:
            count = int(output.frames.sum())
            sums += np.array([float(output.loss_codebook0), float(output.loss_subtalker)]) * count
            frames += count
    loss = BaseLoss(*(sums / frames if frames else sums * np.nan).tolist())
    return Representation(rows, _stacked(h, rows), _stacked(z, rows) if z else None, loss)


def _forward(spec: Experiment, data: TrialData, heads: Heads | None, chosen: np.ndarray, given: Given, losses: bool) -> Output:
    voices, accents = given.voices, given.accents
    if accents is not None and heads is None:
        raise ValueError("A is a row of the accent table: give the heads")
    with autocast(spec.training, data.device):
        return forward(
            data.backbone,
            data.inputs(chosen),
            speaker=data.mean_voice(len(chosen)) if voices is None else data.voices(voices[chosen]),
            accent=heads.table(torch.from_numpy(accents[chosen]).to(data.device)) if heads and accents is not None else None,
            layer=spec.model.layer,
            sub_frames=spec.training.sub_frames,
            generator=torch.Generator().manual_seed(derive_seed(spec.seed, "validation frames", int(chosen[0]))),
            losses=losses,
        )


def _batches(rows: np.ndarray, is_scored: np.ndarray, size: int) -> list[np.ndarray]:
    """Batches of rows that are scored, or of rows that are not, in the order given."""
    borders = [0, *(np.flatnonzero(is_scored[rows[1:]] != is_scored[rows[:-1]]) + 1), len(rows)]
    runs = [rows[a:b] for a, b in pairwise(borders)]
    return [run[i : i + size] for run in runs for i in range(0, len(run), size)]


def _stacked(values: dict[int, np.ndarray], rows: np.ndarray) -> np.ndarray:
    return np.stack([values[int(row)] for row in rows])
