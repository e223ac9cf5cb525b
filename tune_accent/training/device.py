"""Precision and memory of the device that a trial runs on."""

from __future__ import annotations

import resource
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from tune_accent.config.schema import Training


def autocast(training: Training, device: torch.device) -> AbstractContextManager[Any]:
    """bf16 autocast where the config asks for it and the device is CUDA; nothing otherwise."""
    if training.precision == "bf16" and device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()


class PeakMemory:
    """Peak memory of one epoch, as the person who shares a GPU needs it. Starts counting at construction."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def peak_mb(self) -> float:
        """Peak MiB allocated on a CUDA device since construction; on CPU the peak resident MiB of the process so far."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def default_device() -> torch.device:
    """The first GPU where there is one, else the CPU."""
    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
