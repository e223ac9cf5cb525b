"""One trial, top to bottom: an iterator of epoch reports. It knows nothing of Ray, of Optuna, or of other trials.

    for report in train(spec, data): ...

Each pair of batches is one A-batch (accent and speaker given: speech loss only) and one ∅-batch (neither given: speech, accent and leakage).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tune_accent.base.errors import Diverged
from tune_accent.base.seeds import generator
from tune_accent.config.schema import Experiment
from tune_accent.data.speech import SpeechSampler, StepRows
from tune_accent.models.forward import Output, forward, pool
from tune_accent.training.checkpoint import load_checkpoint
from tune_accent.training.device import PeakMemory, autocast, require_precision
from tune_accent.training.inputs import TrialData
from tune_accent.training.loss import Labels, accent_loss, leakage_loss, ramp, speech_loss
from tune_accent.training.measure import measure
from tune_accent.training.seeding import configure_torch, seed_everything
from tune_accent.training.shuffled import as_trained, training_table
from tune_accent.training.trial import Trial, build_trial, close_trial, set_learning_rate

SMALLEST_SCALE = 1.0  # of the loss under fp16: gradients that overflow even there are not fp16's fault

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EpochReport:
    """What one epoch leaves behind.

    Attributes:
        epoch: from 1.
        metrics: DESIGN §6, JSON values; nothing in it depends on time or machine.
        seconds: wall clock of training and evaluation.
        peak_mb: peak device memory on CUDA, peak resident memory of the process on CPU.
        trial: the live state, to be saved before the next epoch is asked for.
        allocated_mb: device (on CPU: resident) memory that is held when the epoch ends.
    """

    epoch: int
    metrics: Mapping[str, Any]
    seconds: float
    peak_mb: float
    trial: Trial
    allocated_mb: float = 0.0


def train(spec: Experiment, data: TrialData, checkpoint: Path | None = None) -> TrialRun:
    """Train one configuration: an iterator with a report per epoch, exactly the same ones when continued from a checkpoint.

    Args:
        spec: the resolved experiment.
        data: inputs on the device to train on. The backbone carries this trial's adapter until the run is exhausted or closed.
        checkpoint: folder of a finished epoch of the same spec; None starts at step 0.

    Raises:
        DataError: the checkpoint cannot be read (at once). UserError: the device cannot train in `training.precision` (at once).
        Diverged: a loss, gradient or metric is not finite (while iterating).
    """
    return TrialRun(spec, data, checkpoint)


class TrialRun(Iterator[EpochReport]):
    """The epochs of one trial; `close` takes its adapter off the backbone."""

    def __init__(self, spec: Experiment, data: TrialData, checkpoint: Path | None) -> None:
        require_precision(spec.training, data.device)
        configure_torch(spec.training)
        self.spec, self.data = spec, as_trained(spec, data)
        self.sampler = SpeechSampler(training_table(self.data), data.speech.held_fold, spec.training, data.speech.lengths)
        self.trial = build_trial(spec, self.data)
        if checkpoint is not None:
            try:
                load_checkpoint(checkpoint, self.trial, data.device)
            except BaseException:
                self.close()
                raise

    def __next__(self) -> EpochReport:
        if _finished(self.trial, self.spec):
            self.close()
            raise StopIteration
        try:
            return self._epoch()
        except BaseException:
            self.close()
            raise

    def _epoch(self) -> EpochReport:
        spec, data, trial = self.spec, self.data, self.trial
        started, memory = time.perf_counter(), PeakMemory(data.device)
        seed_everything(spec.training_seed, "epoch", trial.epoch + 1)
        losses = _train_epoch(spec, data, trial, self.sampler)
        metrics = {**measure(spec, data, trial), **losses}
        _refuse_not_finite(metrics, trial)
        trial.epoch += 1
        _note_score(trial, metrics["score"])
        metrics["ended"] = _finished(trial, spec)
        allocated = memory.allocated_mb()
        peak = max(memory.peak_mb(), allocated)  # Linux counts the peak of a process a little behind
        log.info(
            "epoch %d: %.0f MiB of %s memory allocated, %.0f MiB at the peak", trial.epoch, allocated, data.device.type, peak
        )
        return EpochReport(trial.epoch, metrics, time.perf_counter() - started, peak, trial, allocated)

    def close(self) -> None:
        """Leave the backbone as it was loaded; harmless when repeated."""
        close_trial(self.trial)


def _refuse_not_finite(metrics: Mapping[str, Any], trial: Trial) -> None:
    """`Diverged` with step and gradient norm if a figure, at any depth, is NaN or infinite."""
    bad = sorted(name for name, value in metrics.items() if not _finite(value))
    if bad:
        raise Diverged(", ".join(bad), trial.step, trial.grad_norm)


def _finite(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_finite(inner) for inner in value.values())
    if isinstance(value, list | tuple):
        return all(_finite(inner) for inner in value)
    return not isinstance(value, float) or math.isfinite(value)


def _train_epoch(spec: Experiment, data: TrialData, trial: Trial, sampler: SpeechSampler) -> dict[str, float]:
    trial.train(data, True)
    accumulation = spec.training.accumulation
    steps = list(sampler.epoch(generator(spec.training_seed, "batches", trial.epoch + 1)))
    total = spec.training.epochs * -(-sampler.steps // accumulation)
    sums: dict[str, float] = {}
    for start in range(0, len(steps), accumulation):
        pairs = steps[start : start + accumulation]
        set_learning_rate(trial, spec.training, total)
        trial.optimizer.zero_grad(set_to_none=True)
        for pair in pairs:
            for name, value in _pair(spec, data, trial, pair, 1 / len(pairs)).items():
                sums[name] = sums.get(name, 0.0) + value / len(steps)
        norm = _step(spec, trial)
        sums["grad_norm"] = sums.get("grad_norm", 0.0) + norm * len(pairs) / len(steps)
    return {**sums, "lr": trial.optimizer.param_groups[0]["lr"], "adversary_gap": 1.0 - sums["loss_adversary"]}


def _pair(spec: Experiment, data: TrialData, trial: Trial, rows: StepRows, share: float) -> dict[str, float]:
    """Backward of one A-batch and one ∅-batch, each weighted by `share`; the parts of the loss as numbers."""
    with autocast(spec.training, data.device):
        accented = speech_loss(_accented(spec, data, trial, rows), spec.objective)
    _backward(accented * share, "loss_a", trial)
    labels = _labels(spec, data, rows.null)
    with autocast(spec.training, data.device):
        output = _neutral(spec, data, rows.null)
    z = trial.heads.encode(
        pool(output.hidden, output.frames).float(), spec.objective.trunk_gradient
    )  # in float32, as it is measured
    _train_adversary(spec, trial, z.detach(), labels)
    parts = {"loss_null": speech_loss(output, spec.objective), "loss_accent": accent_loss(trial.heads, z, labels)}
    aligned, opposed = leakage_loss(trial.heads.adversary, z, labels)
    goal = spec.objective
    leakage = goal.leakage_weight * ramp(trial.step, goal.ramp_steps) * (goal.alignment * aligned + goal.adversary * opposed)
    _backward((parts["loss_null"] + goal.accent_weight * parts["loss_accent"] + leakage) * share, "loss", trial)
    parts |= {"loss_a": accented, "loss_alignment": aligned, "loss_adversary": opposed}
    return {name: float(value.detach()) for name, value in parts.items()}


def _accented(spec: Experiment, data: TrialData, trial: Trial, rows: StepRows) -> Output:
    accent = trial.heads.table(torch.from_numpy(data.accent_labels[rows.accented]).to(data.device))
    return _forward(spec, data, rows.accented, data.voices(rows.voices), accent)


def _neutral(spec: Experiment, data: TrialData, rows: np.ndarray) -> Output:
    return _forward(spec, data, rows, data.mean_voice(len(rows)), None)


def _forward(spec: Experiment, data: TrialData, rows: np.ndarray, speaker: Tensor, accent: Tensor | None) -> Output:
    return forward(
        data.backbone,
        data.inputs(rows),
        speaker=speaker,
        accent=accent,
        layer=spec.model.layer,
        sub_frames=spec.training.sub_frames,
        generator=None,
    )


def _train_adversary(spec: Experiment, trial: Trial, z: Tensor, labels: Labels) -> None:
    """n steps of the adversary's heads on detached z; they are frozen again for the model's own pass."""
    adversary = trial.heads.adversary
    adversary.requires_grad_(True)
    for _ in range(spec.objective.adversary_steps):
        trial.adversary_optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(adversary.loss(z, labels.speaker, labels.group))
        trial.adversary_optimizer.step()
    adversary.requires_grad_(False)


def _backward(loss: Tensor, name: str, trial: Trial) -> None:
    if not torch.isfinite(loss):
        raise Diverged(name, trial.step, trial.grad_norm)
    if loss.requires_grad:
        torch.autograd.backward(loss if trial.scaler is None else trial.scaler.scale(loss))


def _step(spec: Experiment, trial: Trial) -> float:
    """One optimizer step; the norm of the gradient before it was clipped, 0 where fp16 overflowed and the step was left out."""
    if trial.scaler is not None:
        trial.scaler.unscale_(trial.optimizer)
    norm = float(torch.nn.utils.clip_grad_norm_(trial.trained(), spec.training.clip))
    overflow = not np.isfinite(norm)
    if overflow and (trial.scaler is None or trial.scaler.get_scale() <= SMALLEST_SCALE):
        raise Diverged("gradient norm", trial.step, trial.grad_norm)
    if trial.scaler is None:
        trial.optimizer.step()
    else:
        trial.scaler.step(trial.optimizer)  # not where a gradient overflowed: then `update` halves the scale
        trial.scaler.update()
    trial.step += 1
    trial.grad_norm = trial.grad_norm if overflow else norm
    return 0.0 if overflow else norm


def _labels(spec: Experiment, data: TrialData, rows: np.ndarray) -> Labels:
    arrays = (data.accent_labels, data.speaker_labels, data.groups(spec.objective))
    return Labels(*(torch.from_numpy(of[rows]).to(data.device) for of in arrays))


def _note_score(trial: Trial, score: float) -> None:
    better = trial.best_score is None or score > trial.best_score
    trial.stale_epochs = 0 if better else trial.stale_epochs + 1
    trial.best_score = score if better else trial.best_score


def _finished(trial: Trial, spec: Experiment) -> bool:
    patience = spec.training.patience
    return trial.epoch >= spec.training.epochs or (patience is not None and trial.stale_epochs >= patience)
