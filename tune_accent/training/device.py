"""Precision and memory of the device that a trial runs on."""

from __future__ import annotations

import resource
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import psutil
import torch

from tune_accent.base.errors import UserError
from tune_accent.config.schema import Precision, Training

HALF: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


def weights_dtype(training: Training, device: torch.device) -> torch.dtype:
    """Type of the frozen weights, and of products under autocast: half as the config says on CUDA, float32 elsewhere."""
    return HALF.get(training.precision, torch.float32) if device.type == "cuda" else torch.float32


def autocast(training: Training, device: torch.device) -> AbstractContextManager[Any]:
    """bf16 or fp16 autocast where the config asks for it and the device is CUDA; nothing otherwise."""
    dtype = weights_dtype(training, device)
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)


def loss_scaler(training: Training, device: torch.device) -> torch.amp.GradScaler | None:
    """Keeps small gradients of fp16 from vanishing; None for precisions with the exponent of float32."""
    return torch.amp.GradScaler(device.type) if training.precision == "fp16" else None


def require_precision(training: Training, device: torch.device) -> None:
    """Refuse a precision that this device cannot train in, where it would silently be another.

    Raises:
        UserError: half precision without CUDA, or bf16 on a card that computes it in software.
    """
    if training.precision == "fp32":
        return
    if device.type != "cuda":
        what, do = f"{training.precision} needs a CUDA GPU, and this process has none", "training.precision: fp32"
    elif training.precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        what, do = f"{torch.cuda.get_device_name(device)} has no bf16", "training.precision: fp16"
    else:
        return
    raise UserError(what, where="training.precision", fix=f"set {do}")


class PeakMemory:
    """Peak memory of one epoch, as the person who shares a GPU needs it. Starts counting at construction."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def allocated_mb(self) -> float:
        """MiB that tensors hold now on a CUDA device; on CPU the resident MiB of the process."""
        if self.device.type == "cuda":
            return torch.cuda.memory_allocated(self.device) / 2**20
        return float(psutil.Process().memory_info().rss) / 2**20

    def peak_mb(self) -> float:
        """Peak MiB allocated on a CUDA device since construction; on CPU the peak resident MiB of the process so far."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def default_device() -> torch.device:
    """The first GPU where there is one, else the CPU."""
    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
