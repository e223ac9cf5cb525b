"""What a trial reports each epoch: z and raw h of real audio with A = ∅ and S = mean, measured by fresh probes (DESIGN §6).

Test speakers are never encoded here: the test split is opened by the paper run alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np

from tune_accent.base.errors import Diverged
from tune_accent.base.seeds import derive_seed
from tune_accent.config.schema import Experiment
from tune_accent.evaluation import Evaluation, Protocol, evaluate, feasible, score
from tune_accent.training.encode import represent
from tune_accent.training.inputs import BaseLoss, TrialData
from tune_accent.training.protocol import protocol
from tune_accent.training.trial import Trial


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
    found = evaluate(seen.z, table, trial_protocol(spec, data), seed)
    metrics: dict[str, Any] = flat(found, "")
    if spec.evaluation.raw:
        metrics |= flat(evaluate(seen.h, table, trial_protocol(spec, data, raw=True), seed), "_h")
    weight = spec.objective.subtalker_weight
    metrics |= {"val_loss": seen.loss.total(weight), "base_val_loss": base.total(weight)}
    limited = (metrics["speaker_leakage"], metrics["text_drop"], metrics["val_loss"], metrics["base_val_loss"], spec.score)
    metrics |= {"score": score(metrics["accent_f1"], *limited), "feasible": feasible(*limited).ok}
    return {**metrics, "evaluation": found.to_dict()}


def trial_protocol(spec: Experiment, data: TrialData, raw: bool = False) -> Protocol:
    """How an epoch is measured: without permutations and recall of secondary accents; raw h also without text drop and intervals."""
    speech = data.speech
    return protocol(spec, speech.gate_accents, speech.held_fold, text_drop=not raw, intervals=not raw, secondary=False)


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


def base_loss(spec: Experiment, data: TrialData, trial: Trial, split: str = "val") -> BaseLoss:
    """Loss of the base model on `split`: the adapter switched off, the heads not involved. Computed once per process, for all repeats."""
    training = spec.training
    setting = (spec.seed, split, training.sub_frames, spec.evaluation.batch_size, training.precision, training.deterministic)
    if setting not in data.base_losses:
        with nullcontext() if trial.adapter is None else trial.adapter.disable_adapter():
            data.base_losses[setting] = represent(spec, data, None, scored=split).loss
    return data.base_losses[setting]


def summary(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The scalar figures alone (what a tracker plots)."""
    return {name: value for name, value in metrics.items() if isinstance(value, int | float) and not isinstance(value, bool)}
