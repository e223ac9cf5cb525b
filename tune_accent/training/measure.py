"""What a trial reports each epoch: z and raw h of real audio with A = ∅ and S = mean, measured by fresh probes (DESIGN §6).

Test speakers are never encoded here: the test split is opened by the paper run alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from tune_accent.base.errors import Diverged
from tune_accent.base.seeds import derive_seed
from tune_accent.config.schema import Experiment
from tune_accent.evaluation import Evaluation, Protocol, evaluate, feasible, score
from tune_accent.models.forward import forward, pool
from tune_accent.training.device import autocast
from tune_accent.training.heads import Heads
from tune_accent.training.inputs import BaseLoss, TrialData
from tune_accent.training.trial import Trial

EVALUATED = ("train", "val")


@dataclass(frozen=True)
class Representation:
    """Encoded utterances.

    Attributes:
        rows: (N,) row numbers of the utterance table.
        h: (N, 2H) float32 pooled hidden states.
        z: (N, D) float32, or None without heads.
        loss: cross-entropy of the validation rows.
    """

    rows: np.ndarray
    h: np.ndarray
    z: np.ndarray | None
    loss: BaseLoss


def measure(spec: Experiment, data: TrialData, trial: Trial) -> dict[str, Any]:
    """Every figure of DESIGN §6 for the trial as it stands.

    Raises:
        Diverged: the representation or the loss is not finite.
    """
    trial.train(data, False)
    base = base_loss(spec, data, trial)
    seen = represent(spec, data, trial.heads)
    if seen.z is None or not (np.isfinite(seen.z).all() and np.isfinite(seen.h).all() and math.isfinite(seen.loss.codebook0)):
        raise Diverged("validation", trial.step, trial.grad_norm)
    table = data.speech.table.iloc[seen.rows].reset_index(drop=True)
    seed = derive_seed(spec.training_seed, "probes")
    found = evaluate(seen.z, table, protocol(spec, data), seed)
    metrics: dict[str, Any] = flat(found, "")
    if spec.evaluation.raw:
        metrics |= flat(evaluate(seen.h, table, protocol(spec, data, raw=True), seed), "_h")
    weight = spec.objective.subtalker_weight
    metrics |= {"val_loss": seen.loss.total(weight), "base_val_loss": base.total(weight)}
    limited = (metrics["speaker_leakage"], metrics["text_drop"], metrics["val_loss"], metrics["base_val_loss"], spec.score)
    metrics |= {"score": score(metrics["accent_f1"], *limited), "feasible": feasible(*limited).ok}
    return {**metrics, "evaluation": found.to_dict()}


def protocol(spec: Experiment, data: TrialData, raw: bool = False) -> Protocol:
    """The measuring protocol of the config, without permutations and recall of secondary accents; raw h also without text drop and intervals."""
    chosen = spec.evaluation
    return Protocol(
        speakers=chosen.speakers,
        utterances=chosen.utterances,
        draws=chosen.draws,
        c_grid=chosen.c_grid,
        bootstrap=chosen.bootstrap,
        permutations=0,
        gate_accents=data.speech.gate_accents,
        held_fold=data.speech.held_fold,
        text_drop=not raw,
        intervals=not raw,
        secondary=False,
    )


def flat(found: Evaluation, suffix: str) -> dict[str, Any]:
    """The figures that trials are compared by, under the names of DESIGN §6."""
    figures = {
        "accent_f1": found.accent_f1,
        "accent_balanced_accuracy": found.accent_balanced_accuracy,
        "speaker_leakage": found.leakage,
        "speaker_leakage_unseen": found.leakage_unseen,
        "speaker_leakage_seen": found.leakage_seen,
    }
    if not suffix:
        figures["text_drop"] = found.text_drop
    return {f"{name}{suffix}": figure.value for name, figure in figures.items()}


def base_loss(spec: Experiment, data: TrialData, trial: Trial) -> BaseLoss:
    """Validation loss of the base model: the adapter switched off, the heads not involved. Computed once per process."""
    setting = (spec.training.sub_frames, spec.evaluation.batch_size)
    if setting not in data.base_losses:
        if trial.adapter is None:
            data.base_losses[setting] = represent(spec, data, None).loss
        else:
            with trial.adapter.disable_adapter():
                data.base_losses[setting] = represent(spec, data, None).loss
    return data.base_losses[setting]


@torch.no_grad()
def represent(spec: Experiment, data: TrialData, heads: Heads | None) -> Representation:
    """Encode train and val utterances with neutral inputs; the model must be in evaluation mode. Without heads only val rows."""
    splits = data.speech.table["split"].to_numpy()
    rows = np.flatnonzero(np.isin(splits, EVALUATED if heads else ("val",)))
    lengths = np.diff(data.speech.frame_offsets)[rows]
    order = np.lexsort((rows, lengths, splits[rows] == "val"))
    h: dict[int, np.ndarray] = {}
    z: dict[int, np.ndarray] = {}
    sums, counts = np.zeros(2), np.zeros(2)
    for chosen in _batches(rows[order], splits, spec.evaluation.batch_size):
        losses = splits[chosen[0]] == "val"
        with autocast(spec.training, data.device):
            output = forward(
                data.backbone,
                data.inputs(chosen),
                speaker=data.mean_voice(len(chosen)),
                accent=None,
                layer=spec.model.layer,
                sub_frames=spec.training.sub_frames,
                generator=torch.Generator().manual_seed(derive_seed(spec.training_seed, "validation frames", int(chosen[0]))),
                losses=losses,
            )
        pooled = pool(output.hidden, output.frames).float()
        h.update(zip(chosen.tolist(), pooled.cpu().numpy(), strict=True))
        if heads is not None:
            z.update(zip(chosen.tolist(), heads.z(pooled).cpu().numpy(), strict=True))
        if losses:
            frames = int(output.frames.sum())
            sums += np.array([float(output.loss_codebook0), float(output.loss_subtalker)]) * frames
            counts += frames
    stacked = np.stack([h[int(row)] for row in rows])
    return Representation(
        rows, stacked, np.stack([z[int(row)] for row in rows]) if z else None, BaseLoss(*(sums / counts).tolist())
    )


def _batches(rows: np.ndarray, splits: np.ndarray, size: int) -> list[np.ndarray]:
    """Batches that hold one kind of split each, in the order given."""
    borders = [0, *(np.flatnonzero((splits[rows[1:]] == "val") != (splits[rows[:-1]] == "val")) + 1), len(rows)]
    runs = [rows[a:b] for a, b in pairwise(borders)]
    return [run[i : i + size] for run in runs for i in range(0, len(run), size)]


def summary(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The scalar figures alone (what a tracker plots)."""
    return {name: value for name, value in metrics.items() if isinstance(value, int | float) and not isinstance(value, bool)}
