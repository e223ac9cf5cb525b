"""SIGKILL, SIGINT and SIGTERM for the real search command, at seeded times, in processes of its own.

Kills hit a small search on real speech (all of it: data, tiny model, Ray): the whole process tree or the driver alone, or single workers while the
search goes on. Signals hit a search with simulated trials through real Ray, whose launches are shorter.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil

from benchmarks import chaos_simulated
from benchmarks.chaos_checks import Tally, memo_marks, repeated_rows, rewritten
from tests.entries.command import CONFIG, environment, write_search

TRIALS = "8"
PATIENCE_S = 300.0  # for a launch that nobody disturbs
END_S, AT_ONCE_S = 30.0, 5.0  # after a first and a second signal
ORPHANS_S = 60.0  # in which Ray's agents notice that they are alone
Progress = Callable[[str], None]


class Command:
    """A running search: `python -m <arguments>` in `folder`, with its results in `ray_results/<name>`."""

    def __init__(self, folder: Path, name: str, *arguments: str) -> None:
        self.name, self.root, self._log = name, folder / "ray_results" / name, folder / f"{name}.log"
        self.began = time.monotonic()
        with self._log.open("w", encoding="utf-8") as log:
            command = [sys.executable, "-m", *arguments, "--name", name]
            self.process = subprocess.Popen(
                command, cwd=folder, env=environment(), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def said(self) -> str:
        """Everything it wrote so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def family(self) -> list[psutil.Process]:
        """It and all its descendants."""
        try:
            process = psutil.Process(self.process.pid)
            return [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def workers(self) -> list[psutil.Process]:
        """Its Ray workers that train."""
        return [process for process in self.family() if "EpochTrainable" in _title(process)]

    def until(self, met: Callable[[], bool], seconds: float = PATIENCE_S) -> bool:
        """Wait until `met`, the end of the command, or `seconds`; whether it was met."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if met():
                return True
            if not self.running():
                return met()
            time.sleep(0.02)
        return False

    def ended(self, seconds: float = PATIENCE_S) -> int | None:
        """Its exit code, or None if it is still there after `seconds` (then it is killed)."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            kill(self.family())
            self.process.wait()
            return None


@contextmanager
def started(folder: Path, name: str, *arguments: str) -> Iterator[Command]:
    """A command that does not outlive the block."""
    command = Command(folder, name, *arguments)
    try:
        yield command
    finally:
        if command.running():
            kill(command.family())
        command.process.wait()


def kill(processes: Sequence[psutil.Process]) -> None:
    """SIGKILL for each of them."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _title(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return " ".join(process.cmdline())
    return ""


class RealSearch:
    """The small search on real speech in `folder`, run once without a disturbance and with one worker."""

    def __init__(self, folder: Path) -> None:
        self.folder = write_search(folder)
        (folder / "one.yaml").write_text(CONFIG.replace("workers: 2", "workers: 1"), encoding="utf-8")
        self.arguments = ("tune_accent.search", "space.yaml", "--trials", TRIALS)
        for _ in range(2):  # the first one also makes the data
            with started(folder, "whole", *self.arguments, "--config", "one.yaml", "--fresh") as command:
                if command.ended():
                    raise RuntimeError(command.said())
            self.launch_s = time.monotonic() - command.began
        self.whole = command.root

    def moment(self, command: Command, generator: np.random.Generator) -> bool:
        """Wait for the next seeded time to strike; False where the command ends before.

        One time in four it is anywhere in a launch, otherwise within a second after the first, second or third new epoch.
        """
        known, target = len(memo_marks(command.root)), int(generator.integers(1, 4))
        if generator.random() < 0.25:
            command.until(lambda: False, generator.uniform(0, self.launch_s))
        elif command.until(lambda: len(memo_marks(command.root)) >= known + target):
            command.until(lambda: False, generator.uniform(0, 1))
        return command.running()


def driver_kills(search: RealSearch, kills: int, seed: int, progress: Progress) -> Tally:
    """SIGKILL of the driver, in turn with all its processes and alone; the next launch follows at once."""
    tally, generator = Tally("SIGKILL of the search, real training"), np.random.default_rng(seed)
    while tally.faults < kills and not tally.wrong:
        name, family = f"driver-{tally.searches}", []
        while not (search.folder / f"{name}.done").exists():
            with started(search.folder, name, *search.arguments) as command:
                marks = memo_marks(command.root)
                struck = tally.faults < kills and search.moment(command, generator)
                if struck:
                    family = command.family()
                    kill(family if tally.faults % 2 == 0 else family[:1])
                    tally.faults += 1
                code = command.ended()
            _account(tally, command, marks)
            if not struck and code:
                tally.wrong.append(f"{name}: exit {code}: {command.said()[-500:]}")
            if not struck:
                break
            progress(f"{tally.faults} of {kills} kills of the real search")
        _account_rows(tally, command)
        tally.wrong += [f"{name}: {process} is still there" for process in psutil.wait_procs(family, ORPHANS_S)[1]]
        tally.finish(command.root, search.whole)
    return tally


def worker_kills(search: RealSearch, kills: int, seed: int, progress: Progress) -> Tally:
    """SIGKILL of one worker after the other while the search runs."""
    tally, generator = Tally("SIGKILL of single workers, real training"), np.random.default_rng(seed)
    while tally.faults < kills and not tally.wrong:
        with started(search.folder, f"worker-{tally.searches}", *search.arguments) as command:
            while tally.faults < kills and _strike_worker(search, command, generator, tally):
                progress(f"{tally.faults} of {kills} kills of workers")
            code = command.ended()
        if code:
            tally.wrong.append(f"{command.name}: exit {code}: {command.said()[-500:]}")
        _account_rows(tally, command)
        tally.finish(command.root, search.whole)
    return tally


def _strike_worker(search: RealSearch, command: Command, generator: np.random.Generator, tally: Tally) -> bool:
    """Kill a worker at the next seeded time; False where the search ends before. Epochs finished by then must stay as they are."""
    if not search.moment(command, generator) or not command.until(lambda: bool(command.workers())):
        return False
    workers, marks = command.workers(), memo_marks(command.root)
    if not workers:
        return False
    kill([workers[int(generator.integers(len(workers)))]])
    tally.faults += 1
    command.until(lambda: len(memo_marks(command.root)) >= len(marks) + 2)
    _account(tally, command, marks)
    return command.running()


def _account(tally: Tally, command: Command, marks: dict[str, tuple[int, int]]) -> None:
    """Finished epochs that were trained again since `marks`."""
    again = rewritten(marks, command.root)
    tally.lost += len(again)
    tally.wrong += [f"{command.name}: {name} was finished, and was trained again" for name in again]


def _account_rows(tally: Tally, command: Command) -> None:
    rows = repeated_rows(command.root)
    tally.wrong += [f"{command.name}: trial {trial}, epoch {epoch} is twice in timing.csv" for trial, epoch in rows]


class SignalledSearch:
    """A search with simulated trials through real Ray in `folder`; `typical_s` is how long a launch takes that nobody disturbs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.whole, _ = chaos_simulated.reference(folder)
        self.arguments = ("benchmarks.simulated_command", "space.yaml")
        with started(folder, "through-ray", *self.arguments) as command:
            if command.ended():
                raise RuntimeError(command.said())
        self.typical_s = time.monotonic() - command.began


def signals(
    search: SignalledSearch, name: str, numbers: Sequence[signal.Signals], count: int, seed: int, progress: Progress
) -> Tally:
    """`count` launches that get `numbers` one after the other, the first at a seeded time; searches are continued until they are finished.

    Counted from the command's first line on, since what Python does before is not ours.
    """
    tally, generator = Tally(name, worst_s=0.0), np.random.default_rng(seed)
    while tally.faults < count and not tally.wrong:
        folder_name, struck = f"{name.replace(' ', '-')}-{tally.searches}", True
        while struck:
            with started(search.folder, folder_name, *search.arguments) as command:
                command.until(lambda: bool(command.said()))
                struck = (
                    tally.faults < count
                    and not command.until(lambda: False, generator.uniform(0, search.typical_s))
                    and command.running()
                )
                if struck:
                    _signal(tally, command, numbers, generator)
                    progress(f"{tally.faults} of {count} launches with {name}")
                elif command.ended():
                    tally.wrong.append(f"{folder_name}: {command.said()[-500:]}")
        tally.finish(command.root, search.whole)
    return tally


def _signal(tally: Tally, command: Command, numbers: Sequence[signal.Signals], generator: np.random.Generator) -> None:
    """Send the signals and see how the command ends."""
    family, limit = command.family(), END_S if len(numbers) == 1 else AT_ONCE_S
    for index, number in enumerate(numbers):
        if index:
            command.until(lambda: False, generator.uniform(0, 1))
        began = time.monotonic()
        command.process.send_signal(number)
    code = command.ended(3 * limit)
    seconds = time.monotonic() - began
    tally.faults, tally.worst_s = tally.faults + 1, max(tally.worst_s or 0.0, seconds)
    said = command.said()
    told = "To continue:" in said or "the same command" in said
    if code is None or seconds > limit:
        tally.wrong.append(f"{command.name}: it ended {seconds:.0f} s after the last signal")
    elif not ((code == 130 and told) or (code == 0 and "Best trial:" in said)):
        tally.wrong.append(f"{command.name}: exit {code}: {said[-500:]}")
    if "Traceback" in said:
        tally.wrong.append(f"{command.name}: {said[-2000:]}")
    tally.wrong += [f"{command.name}: {process} is still there" for process in psutil.wait_procs(family, ORPHANS_S)[1]]
