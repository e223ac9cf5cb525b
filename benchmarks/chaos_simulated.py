"""SIGKILLs of the process that drives a simulated search, at seeded times, and the same command again, until the search is finished.

The process is the search command's own driver with threads for workers (`simulated_command`); it is forked from a server that has everything
imported, so that a launch takes a fraction of a second and the kills meet the search, not the imports.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks.chaos_checks import Tally, finished_epochs
from benchmarks.simulated_command import JOURNAL, Pace, requested, simulated, write_search
from tune_accent.tuning.driver import run_search

PRELOADED = [
    "benchmarks.chaos_simulated",
    "tensorboardX",
    "alembic.command",
    "sqlalchemy.orm",
    "sqlalchemy.dialects.sqlite.pysqlite",
]
LAUNCHES = 200  # of one search, before it counts as stuck
MEAN_S = 0.004  # of an epoch
context = get_context("forkserver")


def launch(folder: str, name: str, workers: int, pace: Pace) -> None:
    """One launch of the search; runs in a process of its own, which writes what it says into `<name>.log`."""
    log = os.open(f"{folder}/{name}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    with simulated(pace, threads=True):
        run_search(requested(Path(folder), name, workers))


@dataclass
class Journal:
    """What the program noted of a search, read launch by launch.

    Attributes:
        lost: epochs that were begun although they were finished before.
        again: epochs that were begun again because nobody had finished them.
        wrong: trials that lost more than one epoch to one kill.
    """

    root: Path
    lost: int = 0
    again: int = 0
    wrong: list[str] = field(default_factory=list)
    _read: int = 0
    _begun: set[tuple[str, int]] = field(default_factory=set)
    _finished: set[tuple[str, int]] = field(default_factory=set)

    def launch_ended(self) -> None:
        """Take in what the launch that has just ended did."""
        path = Path(f"{self.root}.{JOURNAL}")
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        notes = [line.split() for line in lines[self._read :]]
        begun = [(key, int(epoch)) for what, key, epoch, _ in notes if what == "begin"]
        ended = {(key, int(epoch)) for what, key, epoch, _ in notes if what == "end"}
        self.lost += len(self._finished & set(begun))
        self.again += len(self._begun & set(begun) - self._finished)
        self._read, self._begun, self._finished = (
            len(lines),
            self._begun | set(begun),
            self._finished | finished_epochs(self.root),
        )
        self.wrong += [
            f"{key} epoch {epoch} was noted as finished and is not in the memo" for key, epoch in ended - self._finished
        ]
        unfinished = Counter(key for key, epoch in set(begun) - self._finished)
        self.wrong += [f"{key} lost {count} epochs to one kill" for key, count in unfinished.items() if count > 1]


def reference(folder: Path) -> tuple[Path, float]:
    """The uninterrupted search, one epoch at a time, and the seconds of such a launch."""
    context.set_forkserver_preload(PRELOADED)
    write_search(folder)
    for name in ("warm", "whole"):  # the first one also waits for the server's imports
        began = time.monotonic()
        process = context.Process(target=launch, args=(str(folder), name, 1, Pace(MEAN_S)))
        process.start()
        process.join()
        if process.exitcode:
            raise RuntimeError((folder / f"{name}.log").read_text(encoding="utf-8"))
    return folder / "whole", time.monotonic() - began


def kill_and_continue(folder: Path, name: str, generator: np.random.Generator, typical_s: float, tally: Tally) -> None:
    """One search with a kill per launch, until a launch finishes first; each is given a little more time than the one before.

    Args:
        folder: where the search's files are.
        name: of its results folder.
        generator: of kill times, workers and paces.
        typical_s: of a launch that nobody disturbs.
        tally: where it is counted.
    """
    journal = Journal(folder / name)
    for number in range(LAUNCHES):
        workers, seed = int(generator.integers(1, 5)), int(generator.integers(2**31))
        process = context.Process(target=launch, args=(str(folder), name, workers, Pace(MEAN_S, seed)))
        process.start()
        process.join(generator.uniform(0, (0.25 + 0.15 * number) * typical_s))
        process.kill()  # nothing where it has ended
        process.join()
        journal.launch_ended()
        if process.exitcode == 0:
            break
        tally.faults += process.exitcode == -signal.SIGKILL
        if process.exitcode != -signal.SIGKILL:
            tally.wrong.append(f"{name}: exit {process.exitcode}: {_last_line(folder / f'{name}.log')}")
            return
    else:
        tally.wrong.append(f"{name}: not finished after {LAUNCHES} launches")
    tally.lost += journal.lost
    tally.again = (tally.again or 0) + journal.again
    tally.wrong += [f"{name}: {what}" for what in journal.wrong]
    tally.wrong += [f"{name}: {journal.lost} finished epochs were trained again"] if journal.lost else []


def simulated_kills(folder: Path, kills: int, seed: int, progress: Callable[[str], None] = lambda text: None) -> Tally:
    """At least `kills` kills, as many searches as that takes."""
    whole, typical_s = reference(folder)
    tally, generator = Tally("SIGKILL of the driver, simulated trials", again=0), np.random.default_rng(seed)
    while tally.faults < kills and not tally.wrong:
        name = f"killed-{tally.searches}"
        kill_and_continue(folder, name, generator, typical_s, tally)
        tally.finish(folder / name, whole)
        progress(f"{tally.faults} of {kills} kills of the driver on simulated trials, {tally.searches} searches")
    return tally


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return lines[-1] if lines else "it said nothing"
