"""Use of this machine's NVIDIA GPUs between two epochs, where pynvml is installed; nothing where it is not."""

from __future__ import annotations

import importlib
import threading
from typing import Any

PERIOD = 1.0  # seconds between two looks


class GpuUse:
    """A thread that looks at every GPU; `take` gives the means since it was last called.

    All processes on a GPU count: several trials share one, and the driver cannot tell their parts.
    """

    def __init__(self, period: float = PERIOD) -> None:
        self._sums: dict[str, list[float]] = {}
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._nvml, self._gpus = _gpus()
        if self._gpus:
            threading.Thread(target=self._watch, args=(period,), daemon=True).start()

    def take(self) -> dict[str, float]:
        """`gpu<i>_use_percent` and `gpu<i>_memory_mb` (MiB), means since the last call; empty without a GPU or pynvml."""
        with self._lock:
            taken, self._sums = self._sums, {}
        return {name: sum(values) / len(values) for name, values in taken.items()}

    def close(self) -> None:
        """Look no more."""
        self._stop.set()

    def _watch(self, period: float) -> None:
        while not self._stop.is_set():
            try:
                self._look()
            except self._nvml.NVMLError:  # a GPU that is lost, or asked what it cannot tell
                return
            self._stop.wait(period)

    def _look(self) -> None:
        for index, gpu in enumerate(self._gpus):
            used = self._nvml.nvmlDeviceGetUtilizationRates(gpu).gpu, self._nvml.nvmlDeviceGetMemoryInfo(gpu).used / 2**20
            with self._lock:
                for name, value in zip(("use_percent", "memory_mb"), used, strict=True):
                    self._sums.setdefault(f"gpu{index}_{name}", []).append(float(value))


def _gpus() -> tuple[Any, list[Any]]:
    """The library and a handle of each GPU; none where it is not installed or finds no driver."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None, []
    try:
        nvml.nvmlInit()
        return nvml, [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError:
        return nvml, []
