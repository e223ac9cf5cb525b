"""Which granted epochs are with a worker, and what comes of them: the part of the Ray adapter that knows nothing of Ray.

A worker is busy with a trial of `out` (its epoch runs, or its process is on the way) or held by one of `held` (waiting for its round).
A lost worker's epoch is taken from the memo if it was finished, ends the trial if the memo says why, and is granted again otherwise.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import psutil

from tune_accent.base.errors import UserError
from tune_accent.tuning.core import Core, Grant, State
from tune_accent.tuning.memo import Failure

logger = logging.getLogger(__name__)

MOVES = 20  # times that an epoch is given to another worker because a machine was lost, before the epoch itself is suspected
MEASURED = ("seconds", "peak_mb", "allocated_mb")  # of an execution; no part of the report


@dataclass(frozen=True)
class EpochStarted:
    """An epoch was handed to a worker."""

    trial: int
    epoch: int


@dataclass(frozen=True)
class EpochDone:
    """An epoch is finished and in the memo.

    Attributes:
        metrics: its report.
        worker: "node:pid", or "lost" where the worker died after the epoch was written.
        started: UNIX seconds.
        seconds: wall clock of training and evaluation.
        peak_mb: peak memory; 0 where the worker was lost.
        allocated_mb: memory that is held when the epoch ends; 0 where the worker was lost.
    """

    trial: int
    epoch: int
    metrics: Mapping[str, Any]
    worker: str
    started: float
    seconds: float
    peak_mb: float
    allocated_mb: float = 0.0

    def timing_row(self) -> dict[str, Any]:
        """A row of `timing.csv`, but for the launch."""
        return {name: getattr(self, name) for name in ("trial", "epoch", "worker", "started", *MEASURED)}

    def tracked(self) -> dict[str, Any]:
        """Its figures as trackers are told them: the report, and what this execution took."""
        return {**self.metrics, **{name: getattr(self, name) for name in MEASURED}}


@dataclass(frozen=True)
class EpochFailed:
    """An epoch did not finish: the trial ends, or (a first out-of-memory) is tried again alone."""

    trial: int
    failure: Failure


@dataclass(frozen=True)
class EpochLost:
    """A worker died or the code raised; the epoch is granted again, `retries_left` more times."""

    trial: int
    epoch: int
    message: str
    retries_left: int


@dataclass(frozen=True)
class Decision:
    """A trial has ended."""

    trial: int
    state: State
    epochs: int


Event: TypeAlias = EpochStarted | EpochDone | EpochFailed | EpochLost | Decision
OnEvent = Callable[[Event], None]


class WorkersCannotStart(RuntimeError):
    """The program cannot be built in a worker; the message is the worker's traceback."""


@dataclass(frozen=True)
class Stops:
    """Why a search may end before it is done: a person's wish, after the epochs that run; a signal, at once."""

    wished: Callable[[], bool] = lambda: False
    interrupted: Callable[[], bool] = lambda: False

    def asked(self) -> bool:
        """Whether nothing new may begin."""
        return self.wished() or self.interrupted()


class Relay:
    """The state between core and workers.

    Args:
        core: the search.
        workers: processes at most; may change while the search runs.
        max_failures: times that an epoch whose worker crashed is tried again.
        on_event: told everything.
        stops: early ends.
        node: address of this machine, as workers on it give it.

    Attributes:
        live: handles of the trials that the executor has, by number; kept by the executor's side.
        out: grants that are with a worker, and since when (UNIX seconds).
        held: trials whose worker waits with them.
        error: what ends the search at once.
    """

    def __init__(self, core: Core, workers: int, max_failures: int, on_event: OnEvent, stops: Stops, node: str = "") -> None:
        self.core, self.workers, self.emit, self.stops = core, workers, on_event, stops
        self._max_failures, self._node = max_failures, node
        self.live: dict[int, Any] = {}
        self.out: dict[int, tuple[Grant, float]] = {}
        self.held: set[int] = set()
        self.error: BaseException | None = None
        self._crashes: Counter[tuple[int, int]] = Counter()
        self._moves: Counter[tuple[int, int]] = Counter()
        self._processes: set[psutil.Process] = set()
        self._announced = {trial.number for trial in core.trials if trial.state != "RUNNING"}

    def waiting(self) -> list[Grant]:
        """Grants that no worker has."""
        if self.error is not None or self.stops.asked():
            return []
        return [grant for grant in self.core.grants() if grant.trial not in self.out]

    def over(self) -> bool:
        """Whether Tune has nothing more to do."""
        return self.error is not None or self.stops.interrupted() or (not self.out and (self.core.done or self.stops.asked()))

    def free(self) -> bool:
        """Whether a worker is idle, or one more may start."""
        return len(self.out) + len(self.held) < self.workers

    def gives_way(self, grant: Grant) -> bool:
        """Whether the worker that waits with `grant`'s trial is needed for epochs that come before it, which no worker waits with."""
        waiting = self.waiting()
        before = sum(other.trial not in self.held for other in waiting[: waiting.index(grant)])
        return before > max(0, self.workers - len(self.out) - len(self.held))

    def overbooked(self) -> list[int]:
        """Trials that must give up the worker they wait with, because others have been promised more workers than there are."""
        return sorted(self.held)[: max(0, len(self.out) + len(self.held) - self.workers)]

    def hand_out(self, grant: Grant) -> dict[str, Any]:
        """`grant` goes to a worker; returns what the worker must know."""
        self.out[grant.trial] = (grant, time.time())
        self.held.discard(grant.trial)
        self.emit(EpochStarted(grant.trial, grant.epoch))
        return {"trial": grant.trial, "key": grant.key, "params": dict(grant.params), "epoch": grant.epoch}

    def take(self, answer: Mapping[str, Any]) -> None:
        """An epoch's answer goes to the core."""
        number, epoch = answer["trial"], answer["epoch"]
        grant, _ = self.out.pop(number)
        assert grant.epoch == epoch, (grant, answer)
        if "abort" in answer:
            self.error = _abort(answer["abort"])
            return
        self._remember(answer["node"], answer["pid"])
        if "failure" in answer:
            self._fail(grant, Failure(**answer["failure"]))
        else:
            worker = f"{answer['node']}:{answer['pid']}"
            took = (answer["started"], answer["seconds"], answer["peak_mb"], answer.get("allocated_mb", 0.0))
            self._done(grant, EpochDone(number, epoch, answer["metrics"], worker, *took))

    def lose(self, number: int, message: str, blameless: bool = False) -> None:
        """The worker with `number`'s epoch is gone: what it left in the memo counts, otherwise the epoch is tried again.

        Args:
            number: of the trial.
            message: one line about it.
            blameless: a machine was lost, not only the process: the epoch keeps its retries.
        """
        if number not in self.out:
            return
        grant, started = self.out.pop(number)
        reports, failure = self.core.memo.reports(grant.key), self.core.memo.failure(grant.key)
        self._moves[number, grant.epoch] += blameless
        self._crashes[number, grant.epoch] += not blameless or self._moves[number, grant.epoch] > MOVES
        left = self._max_failures + 1 - self._crashes[number, grant.epoch]
        if failure is not None:
            self._fail(grant, failure)
        elif len(reports) >= grant.epoch:
            self._done(
                grant, EpochDone(number, grant.epoch, reports[grant.epoch - 1], "lost", started, time.time() - started, 0.0)
            )
        elif left > 0:
            logger.warning("trial %d, epoch %d: the worker was lost, trying again: %s", number, grant.epoch, message)
            self.emit(EpochLost(number, grant.epoch, message, left))
        else:
            self._fail(grant, Failure("CRASHED", grant.epoch, message))

    def gone(self) -> bool:
        """Whether every worker process that was seen on this machine has ended."""
        self._processes = {process for process in self._processes if _lives(process)}
        return not self._processes

    def _remember(self, node: str, pid: int) -> None:
        if node == self._node:
            with suppress(psutil.NoSuchProcess):
                self._processes.add(psutil.Process(pid))

    def _done(self, grant: Grant, done: EpochDone) -> None:
        self.emit(done)
        self.core.report(grant.trial, grant.epoch, done.metrics)
        self._announce()

    def _fail(self, grant: Grant, failure: Failure) -> None:
        self.emit(EpochFailed(grant.trial, failure))
        self.core.fail(grant.trial, grant.epoch, failure)
        self._announce()

    def _announce(self) -> None:
        for trial in self.core.trials:
            if trial.state != "RUNNING" and trial.number not in self._announced:
                self._announced.add(trial.number)
                self.emit(Decision(trial.number, trial.state, len(trial.reports)))

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles what it is given into its scratch storage, and never reads it again


def _lives(process: psutil.Process) -> bool:
    """Whether a process still holds memory; it may end between the two questions."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _abort(abort: Mapping[str, Any]) -> BaseException:
    if abort["user"]:
        return UserError(abort["what"], abort["where"], abort["fix"])
    return WorkersCannotStart(abort["traceback"])
