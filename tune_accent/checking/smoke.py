"""Two steps and one evaluation of the real training code, timed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tune_accent.checking.file_system import gib
from tune_accent.checking.finding import Finding
from tune_accent.checking.gpu import SAVE
from tune_accent.config.schema import Experiment

if TYPE_CHECKING:
    import torch

    from tune_accent.training.inputs import TrialData

STEPS = 2


@dataclass(frozen=True)
class Smoke:
    """What two steps and an evaluation took.

    Attributes:
        step_s: seconds of the second step (of an A-batch and a ∅-batch), which starts nothing up any more.
        evaluation_s: of the evaluation.
        evaluated: utterances that it encoded.
        peak_mb: peak memory of the device, of the process on a CPU.
        device: "cuda" or "cpu".
    """

    step_s: float
    evaluation_s: float
    evaluated: int
    peak_mb: float
    device: str


def open_data(spec: Experiment, device: torch.device) -> TrialData:
    """The inputs of a trial, with a progress bar; codes and embeddings are computed where they are not there yet."""
    from tune_accent.base.progress import bars
    from tune_accent.training.preparation import open_inputs
    from tune_accent.training.seeding import configure_torch

    configure_torch(spec.training)
    with bars() as progress:
        return open_inputs(spec, device, progress)


def shortened(spec: Experiment) -> Experiment:
    """The experiment with one epoch of two steps."""
    short = {"epochs": 1, "steps_per_epoch": STEPS, "accumulation": 1, "patience": None}
    return spec.model_copy(update={"training": spec.training.model_copy(update=short)})


def run_smoke(spec: Experiment, data: TrialData) -> tuple[Smoke, dict[str, Any]]:
    """Train and evaluate.

    Returns:
        What it took, and the metrics.

    Raises:
        Diverged: a loss is not finite. UserError: the device cannot train in this precision.
    """
    from tune_accent.training.trainer import train

    run, ends = train(shortened(spec), data), []

    def note(*_: Any) -> None:
        _finish(data.device)
        ends.append(time.perf_counter())

    run.trial.optimizer.register_step_post_hook(note)
    try:
        started = time.perf_counter()
        report = next(run)
        stopped = time.perf_counter()
    finally:
        run.close()
    ends = ends or [started]  # fp16 leaves a step out where a gradient overflows
    step = ends[-1] - ends[-2] if len(ends) > 1 else (stopped - started) / STEPS
    rows = int(np.isin(data.speech.table["split"].to_numpy(), ["train", "val"]).sum())
    return Smoke(step, stopped - ends[-1], rows, report.peak_mb, data.device.type), dict(report.metrics)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def check_smoke(took: Smoke, metrics: dict[str, Any], sample: bool, room_mb: float | None) -> Iterator[Finding]:
    """The run in words. Its figures of accent and speaker mean nothing after two steps.

    Args:
        took: its times and memory.
        metrics: its report.
        sample: it ran on a sample.
        room_mb: MiB of the GPU that a trial may take; None without one.
    """
    where = "GPU" if took.device == "cuda" else "CPU"
    of = "a sample" if sample else "all data"
    words = (
        f"{STEPS} steps and an evaluation of {took.evaluated} utterances ({of}) on the {where}: {took.step_s:.2f} s a step, "
        f"{took.evaluation_s:.1f} s the evaluation, peak memory {gib(took.peak_mb * 2**20)}, validation loss {metrics['val_loss']:.3f}"
    )
    if room_mb is None or took.peak_mb < room_mb:
        yield Finding("smoke run", "ok", words)
    else:
        what = f"{words}; tuning.resources.gpu gives a trial {gib(room_mb * 2**20)} of this card"
        yield Finding("smoke run", "failed", what, SAVE)


def check_cache(data: TrialData) -> Iterator[Finding]:
    """Codes of real speech: as many frames as the sound lasts, all codebooks of the backbone's size, no codebook stuck on one code."""
    speech = data.speech
    sample = np.asarray(speech.codes[:20_000])
    stuck = [slot for slot in range(sample.shape[1]) if len(np.unique(sample[:, slot])) < 2]
    words = f"{len(speech.codes)} frames; codes in use per codebook: {min(len(np.unique(column)) for column in sample.T)} or more"
    if speech.codebook_size != data.backbone.codebook_size:
        what = f"the codec has {speech.codebook_size} codes per codebook, the backbone {data.backbone.codebook_size}"
        yield Finding("codes", "failed", what, "use the codec that the checkpoint was trained with: data.codec: {name: qwen}")
    elif stuck:
        yield Finding(
            "codes", "failed", f"codebooks {stuck} hold a single code", "the codec's weights are damaged: download them again"
        )
    else:
        yield Finding("codes", "ok", words)
