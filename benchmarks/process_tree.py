"""What a process and everything below it use, by sampling: peak memory, processor time, and what the rest of the machine did meanwhile.

Memory is summed proportional set size (PSS), so that shared pages count once; where the system does not tell it (macOS, Windows), resident memory
is summed instead: an upper bound. Processor time of a process that ends between two samples is missed by as much.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

import psutil

INTERVAL_S = 0.5
SHARE = 0.04  # of one core that sampling may take
WORKER_PREFIX = "ray::"  # Ray names its workers' processes after what they run
ROLES = ("driver", "workers", "ray")  # the process itself, Ray's workers, Ray's own processes and other helpers


@dataclass(frozen=True)
class Use:
    """One process at one time: its role, MB (2**20 bytes), seconds of processor time since it began."""

    role: str
    mb: float
    cpu_s: float


class Watch:
    """A context manager around the life of process `pid`.

    Attributes:
        peak_mb: largest sum over the tree; `parts_mb` is that same sample by role.
        others: cores that were busy with anything else, on average; known at the end.
    """

    def __init__(self, pid: int) -> None:
        self.peak_mb, self.parts_mb, self.others = 0.0, dict.fromkeys(ROLES, 0.0), 0.0
        self._seen: dict[int, Use] = {}
        self._pid, self._over = pid, threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Watch:
        self._began = (time.monotonic(), _machine_cpu_s())
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        wall, busy = time.monotonic() - self._began[0], _machine_cpu_s() - self._began[1]
        self.others = max(0.0, busy - sum(self.cpu_s().values())) / wall

    def cpu_s(self) -> dict[str, float]:
        """Processor seconds so far, by role."""
        return {role: sum(use.cpu_s for use in self._seen.values() if use.role == role) for role in ROLES}

    def _sample(self) -> None:
        while not self._over.is_set():
            clock = time.monotonic()
            found = tree(self._pid)
            self._seen |= found
            parts = {role: sum(use.mb for use in found.values() if use.role == role) for role in ROLES}
            if sum(parts.values()) > self.peak_mb:
                self.peak_mb, self.parts_mb = sum(parts.values()), parts
            self._over.wait(max(INTERVAL_S, (time.monotonic() - clock) / SHARE))


def tree(pid: int) -> dict[int, Use]:
    """Process `pid` and its descendants now, by process number."""
    found: dict[int, Use] = {}
    with suppress(psutil.NoSuchProcess):
        driver = psutil.Process(pid)
        for process in (driver, *driver.children(recursive=True)):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                times = process.cpu_times()
                role = "driver" if process == driver else _role(process)
                found[process.pid] = Use(role, _bytes(process) / 2**20, times.user + times.system)
    return found


def _role(process: psutil.Process) -> str:
    return "workers" if "".join(process.cmdline()[:1]).startswith(WORKER_PREFIX) else "ray"


def _bytes(process: psutil.Process) -> int:
    info = process.memory_full_info()
    return int(getattr(info, "pss", info.rss))


def _machine_cpu_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.system + getattr(times, "nice", 0.0))  # Unix counts niced work apart


def summed_by() -> str:
    """What `Watch` adds up on this machine."""
    return "PSS" if hasattr(psutil.Process().memory_full_info(), "pss") else "RSS"
