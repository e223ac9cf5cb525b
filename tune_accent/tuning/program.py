"""What a worker of a speech search executes: one epoch of one trial, from the memo's checkpoint or from the live trial it already holds.

The checkpoint is written before the memo's file, and that file makes the epoch count. A checkpoint that cannot be read is left out: training
starts from the one before it, and the repeated epochs give the same bits.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tune_accent.base.errors import DataError
from tune_accent.base.files import remove
from tune_accent.base.log import log_to
from tune_accent.config.load import resolve
from tune_accent.config.schema import Experiment
from tune_accent.training.checkpoint import save_checkpoint
from tune_accent.training.device import default_device
from tune_accent.training.inputs import TrialData
from tune_accent.training.preparation import open_inputs, record_path
from tune_accent.training.seeding import configure_torch
from tune_accent.training.trainer import EpochReport, TrialRun, train
from tune_accent.tuning.memo import FolderMemo

logger = logging.getLogger(__name__)
KEPT_CHECKPOINTS = 2  # of a trial: the newest, and the one before it in case the newest is damaged


@dataclass
class Live:
    """The trial whose adapter is on the backbone now."""

    key: str
    epoch: int
    reports: TrialRun


class SpeechProgram:
    """Trains trials of one search, one epoch a call; holds backbone and data for the worker's whole life.

    Args:
        experiment: the experiment that trials' parameters are put into.
        data: inputs on this worker's device.
        memo: where checkpoints and reports go.
    """

    def __init__(self, experiment: Experiment, data: TrialData, memo: FolderMemo) -> None:
        self.experiment, self.data, self.memo = experiment, data, memo
        self._live: Live | None = None

    def epoch(self, params: Mapping[str, Any], key: str, epoch: int) -> Mapping[str, Any]:
        """Train epoch `epoch` of the trial `params` and write checkpoint and report.

        Returns:
            The report, with `seconds`, `peak_mb` and `allocated_mb` of this execution under `timing`, which is no part of the memo.

        Raises:
            Diverged, OutOfMemory: the trial ends here.
        """
        started = time.time()
        try:
            report = self._advance(params, key, epoch)
        except BaseException:  # the run has ended with it: the next call must not take it for a live one
            self.close()
            raise
        save_checkpoint(self.memo.checkpoint(key, epoch), report.trial)
        self.memo.record(key, epoch, report.metrics)
        self._forget_old_checkpoints(key, epoch)
        if epoch == self.experiment.training.epochs:
            self.close()
        memory = {"peak_mb": report.peak_mb, "allocated_mb": report.allocated_mb}
        return {**report.metrics, "timing": {"started": started, "seconds": report.seconds, **memory}}

    def close(self) -> None:
        """Take the live trial's adapter off the backbone and free its memory."""
        if self._live is not None:
            self._live.reports.close()
            self._live = None
        if self.data.device.type == "cuda":
            torch.cuda.empty_cache()

    def _advance(self, params: Mapping[str, Any], key: str, epoch: int) -> EpochReport:
        live = self._live
        if live is None or live.key != key or live.epoch != epoch - 1:
            self.close()
            live = self._live = self._open(params, key, epoch - 1)
        for report in live.reports:
            live.epoch = report.epoch
            if report.epoch == epoch:
                return report
            save_checkpoint(self.memo.checkpoint(key, report.epoch), report.trial)
        raise AssertionError(f"trial {key} ended before epoch {epoch}")

    def _open(self, params: Mapping[str, Any], key: str, finished: int) -> Live:
        """Continue from the newest whole checkpoint at or before `finished`, or start."""
        spec = resolve(self.experiment, params)
        for epoch in range(finished, 0, -1):
            folder = self.memo.checkpoint(key, epoch)
            if not folder.is_dir():
                continue
            try:
                return Live(key, epoch, self._continued(spec, folder, epoch))
            except DataError as error:
                logger.warning("%s", error)
        return Live(key, 0, train(spec, self.data))

    def _continued(self, spec: Experiment, folder: Path, epoch: int) -> TrialRun:
        run = train(spec, self.data, folder)
        if run.trial.epoch != epoch:
            run.close()
            fix = "remove it: the trial continues from the one before"
            raise DataError(f"this is the checkpoint of epoch {run.trial.epoch}, not of {epoch}", str(folder), fix)
        return run

    def _forget_old_checkpoints(self, key: str, epoch: int) -> None:
        for old in range(epoch - KEPT_CHECKPOINTS, 0, -1):
            folder = self.memo.checkpoint(key, old)
            if not folder.is_dir():
                break
            remove(folder)


def build_program(experiment_json: str, root: str, gpu: float, data: Mapping[str, str]) -> SpeechProgram:
    """Load backbone and data in this process.

    Args:
        experiment_json: the experiment.
        root: the results folder.
        gpu: this worker's share of a GPU: its cap on device memory; 0 trains on the CPU.
        data: hashes that the search was started with.

    Raises:
        DataError: data or backbone are not the ones of these hashes: they changed after they were prepared.
    """
    experiment = Experiment.model_validate_json(experiment_json)
    log_to(Path(root) / "logs" / f"worker-{os.getpid()}.log", terminal=False)
    configure_torch(experiment.training)
    device = default_device() if gpu > 0 else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(min(1.0, gpu), device)
    inputs = open_inputs(experiment, device)
    found = {"cache": inputs.speech.key, "backbone": inputs.backbone.fingerprint}
    changed = [name for name, value in found.items() if data[name] != value]
    if changed:
        remove(record_path(experiment))  # what it says is no longer so
        raise DataError(
            f"{' and '.join(changed)} changed after the data were prepared",
            f"{experiment.data.root}, {experiment.model.backbone}",
            "start the same command again: it prepares anew, and says what that means for this results folder",
        )
    return SpeechProgram(experiment, inputs, FolderMemo(Path(root)))
