"""The search as a pure machine: no Ray, no sampler library, no clock. Who runs the epochs only asks `grants` and answers `report` or `fail`.

Rounds, not races: `slots` trials advance together, epoch by epoch. Only when every epoch of a round is in does the core judge the
round in slot order: failures end, rungs stop, full trials complete, the sampler is told, free slots get the next suggestions.
So the table depends on the results alone, not on the order or the number of those who bring them. `order="async"` judges every
result as it comes (plain ASHA) and is not reproducible.

Nobody has to wait for a round whose outcome cannot concern them: between two rungs a trial goes on whatever the others reach, so it may run
ahead of its round (by at most `run_ahead` epochs). Its results wait until their round is judged; none of them is ever wasted.

`advance` answers from the memo every epoch that it knows. A search continues by being run again.
An epoch that ran out of memory is granted once more, alone, when nothing else of its round is out.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from tune_accent.tuning.memo import Failure, Memo
from tune_accent.tuning.rungs import Rungs

logger = logging.getLogger(__name__)

State = Literal["RUNNING", "COMPLETE", "STOPPED", "DIVERGED", "OOM", "CRASHED", "TIMEOUT", "DUPLICATE"]
Metrics = Mapping[str, Any]
RUN_AHEAD = 1  # epochs; more gains nothing (benchmarks/rounds.py)
ASK_AGAIN = 10  # times that a suggestion which was seen before is asked for again


class Suggester(Protocol):
    """Draws parameters. A draw is what the sampler sees and the memo keeps; `params` makes of it what the trial gets."""

    def ask(self, number: int, attempt: int) -> Mapping[str, Any] | None:
        """A draw for trial `number`; None when the space is exhausted. A later attempt takes the place of the one before."""

    def accept(self, number: int, draw: Mapping[str, Any]) -> None:
        """Trial `number` has this draw already: as if `ask` had returned it."""

    def params(self, draw: Mapping[str, Any]) -> dict[str, Any]:
        """The trial's parameters: constants added, values rounded as the space says."""

    def tell(self, number: int, state: State, values: Sequence[float]) -> None:
        """What became of trial `number`; `values` are its metric after epochs 1…n. Told when it ends, and, as RUNNING, when it goes on."""


@dataclass(frozen=True)
class Settings:
    """What a search is, apart from its space.

    Args:
        run_cap: number of trials, a total.
        slots: trials that advance together.
        epochs: length of a full trial.
        min_iter: grace period of early stopping in epochs; None: no early stopping.
        eta: reduction factor of early stopping.
        order: "rounds" or "async".
        seed: of the sampler.
        metric: what sampler and rungs see.
        goal: whether more of it is better.
        run_ahead: finished epochs of a trial that may wait for their round, beside the one that its round is about; changes no table.
    """

    run_cap: int
    slots: int
    epochs: int
    min_iter: int | None = None
    eta: float = 3.0
    order: Literal["rounds", "async"] = "rounds"
    seed: int = 0
    metric: str = "score"
    goal: Literal["maximize", "minimize"] = "maximize"
    run_ahead: int = RUN_AHEAD


@dataclass(frozen=True)
class Grant:
    """One epoch that may be trained now. `alone`: with every other worker gone from the device."""

    trial: int
    epoch: int
    params: Mapping[str, Any]
    key: str
    alone: bool = False


@dataclass
class Trial:
    """A trial by number, as far as the search knows it."""

    number: int
    draw: Mapping[str, Any]
    params: Mapping[str, Any]
    key: str
    slot: int | None = None
    state: State = "RUNNING"
    reports: list[Metrics] = field(default_factory=list)
    failure: Failure | None = None
    duplicate_of: int | None = None
    _known: Sequence[Metrics] = ()
    _known_failure: Failure | None = None

    def unused(self) -> int:
        """Finished epochs in the memo that this search does not reach, once it is known."""
        return 0 if self.state == "RUNNING" else max(0, len(self._known) - len(self.reports))


class Core:
    """The state of a search; built afresh at every launch.

    Args:
        settings: what the search is.
        suggester: draws parameters.
        key_of: the memo's key of a trial's parameters; equal keys train the same thing.
        memo: what is known already; suggestions and failures are added to it here, epochs by those who train them.
    """

    def __init__(self, settings: Settings, suggester: Suggester, key_of: Callable[[Mapping[str, Any]], str], memo: Memo) -> None:
        self.settings, self.memo = settings, memo
        self._suggester, self._key_of = suggester, key_of
        self._rungs = Rungs(settings.min_iter, settings.eta, settings.epochs)
        self._trials: list[Trial] = []
        self._by_key: dict[str, int] = {}
        self._slots: list[int | None] = [None] * settings.slots
        self._due: dict[int, Grant] = {}
        self._results: dict[int, list[Metrics | Failure]] = {}  # by trial, epoch by epoch, not yet judged
        self._exhausted = False

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Every trial so far, by number. A DUPLICATE shows the reports of the trial that it repeats."""
        return tuple(self._trials)

    @property
    def done(self) -> bool:
        """Whether every trial has ended and none is left to begin."""
        return self._nothing_to_begin() and all(slot is None for slot in self._slots)

    def grants(self) -> tuple[Grant, ...]:
        """Epochs that are granted and not yet reported: those that a round waits for first, in slot order.

        One that must be alone comes when it is the only one.
        """
        due = [self._due[number] for number in self._slots if number in self._due]
        together = sorted((grant for grant in due if not grant.alone), key=self._ahead)
        return tuple(together or due[:1])

    def advance(self) -> None:
        """Begin what can begin, and answer from the memo every granted epoch that it knows."""
        self._begin()
        while known := [(grant, result) for grant in self.grants() if (result := self._recall(grant)) is not None]:
            for grant, result in known:
                self._settle(grant, result)

    def report(self, trial: int, epoch: int, metrics: Metrics) -> None:
        """A granted epoch is finished. A metric of the search that is missing or not finite ends the trial as DIVERGED."""
        grant = self._granted(trial, epoch)
        failure = self._divergence(grant, metrics)
        self._settle(grant, metrics if failure is None else self._final(grant, failure))
        self.advance()

    def fail(self, trial: int, epoch: int, failure: Failure) -> None:
        """A granted epoch did not finish. Out of memory is granted again, once, alone; everything else is final."""
        grant = self._granted(trial, epoch)
        if failure.state == "OOM" and not grant.alone:
            logger.warning("trial %d, epoch %d: %s; it is tried again alone", trial, epoch, failure.message)
            self._due[trial] = Grant(grant.trial, grant.epoch, grant.params, grant.key, alone=True)
        else:
            self._settle(grant, self._final(grant, failure))
        self.advance()

    def best(self) -> Trial | None:
        """The full-length trial with the best last epoch: feasible ones (`metrics["feasible"]`) first, the earliest among equals."""
        full = [trial for trial in self._trials if trial.state == "COMPLETE"]
        return max(
            full, key=lambda trial: (bool(trial.reports[-1].get("feasible", True)), self._value(trial.reports[-1])), default=None
        )

    def next_rung(self, trial: Trial) -> int | None:
        """The epoch at which early stopping will judge `trial` next; None: nothing but its full length is ahead."""
        return next((level for level in self._rungs.levels if level > len(trial.reports)), None)

    def value(self, metrics: Metrics) -> float:
        """The search's metric."""
        return float(metrics[self.settings.metric])

    def _value(self, metrics: Metrics) -> float:
        return self.value(metrics) if self.settings.goal == "maximize" else -self.value(metrics)

    def _nothing_to_begin(self) -> bool:
        return self._exhausted or len(self._trials) >= self.settings.run_cap

    def _granted(self, trial: int, epoch: int) -> Grant:
        grant = self._due.get(trial)
        if grant is None or grant.epoch != epoch:
            raise ValueError(f"epoch {epoch} of trial {trial} was not granted, or was reported before")
        return grant

    def _recall(self, grant: Grant) -> Metrics | Failure | None:
        trial = self._trials[grant.trial]
        failure = trial._known_failure
        if failure is not None and failure.epoch <= grant.epoch:
            return failure
        if grant.epoch > len(trial._known):
            return None
        metrics = trial._known[grant.epoch - 1]
        return self._divergence(grant, metrics) or metrics

    def _divergence(self, grant: Grant, metrics: Metrics) -> Failure | None:
        name = self.settings.metric
        value = metrics.get(name)
        if isinstance(value, int | float) and math.isfinite(value):
            return None
        return Failure("DIVERGED", grant.epoch, f"{name} is {value}" if name in metrics else f"{name} is missing")

    def _final(self, grant: Grant, failure: Failure) -> Failure:
        self.memo.record_failure(grant.key, failure)
        logger.warning("trial %d ends as %s in epoch %d: %s", grant.trial, failure.state, failure.epoch, failure.message)
        return failure

    def _settle(self, grant: Grant, result: Metrics | Failure) -> None:
        """Take in a result, and judge every round that is complete with it (async: the result alone)."""
        del self._due[grant.trial]
        self._results.setdefault(grant.trial, []).append(result)
        if self.settings.order == "async":
            self._judge([grant.trial])
        while (running := list(self._running())) and all(trial.number in self._results for trial in running):
            self._judge([trial.number for trial in running])
            self._fill()
        self._begin()

    def _judge(self, numbers: Sequence[int]) -> None:
        """Take the next result of each of `numbers` as one round, in slot order."""
        judged = [(self._trials[number], self._results[number].pop(0)) for number in numbers]
        self._results = {number: results for number, results in self._results.items() if results}
        for trial, result in judged:
            if not isinstance(result, Failure):
                trial.reports.append(result)
                self._rungs.record(trial.number, len(trial.reports), self._value(result))
        for trial, result in judged:
            self._decide(trial, result)

    def _decide(self, trial: Trial, result: Metrics | Failure) -> None:
        epoch = len(trial.reports)
        if isinstance(result, Failure):
            trial.failure = result
            self._end(trial, _state(result))
        elif epoch >= self.settings.epochs or result.get("ended"):
            self._end(trial, "COMPLETE")
        elif self._rungs.decide(trial.number, epoch, self._value(result)) == "stop":
            self._end(trial, "STOPPED")
        else:
            self._tell(trial)

    def _end(self, trial: Trial, state: State) -> None:
        trial.state = state
        assert trial.slot is not None
        self._slots[trial.slot] = None
        self._tell(trial)

    def _tell(self, trial: Trial) -> None:
        self._suggester.tell(trial.number, trial.state, [self.value(metrics) for metrics in trial.reports])

    def _begin(self) -> None:
        """Fill free slots, then grant epochs; those hold back while one waits to be alone."""
        self._fill()
        if any(grant.alone for grant in self._due.values()):
            return
        for trial in self._running():
            waiting = self._results.get(trial.number, [])
            if trial.number not in self._due and (not waiting or self._may_run_ahead(trial, waiting)):
                epoch = len(trial.reports) + len(waiting) + 1
                self._due[trial.number] = Grant(trial.number, epoch, trial.params, trial.key)

    def _fill(self) -> None:
        """Free slots get the next trials, in slot order."""
        for slot, number in enumerate(self._slots):
            if number is None and (trial := self._next_trial()) is not None:
                trial.slot = slot
                self._slots[slot] = trial.number

    def _may_run_ahead(self, trial: Trial, waiting: Sequence[Metrics | Failure]) -> bool:
        """Whether `trial` goes on after its last result, whatever the rounds before it decide about others."""
        epoch, last = len(trial.reports) + len(waiting), waiting[-1]
        if isinstance(last, Failure) or last.get("ended") or epoch in self._rungs.levels:
            return False
        return epoch < self.settings.epochs and len(waiting) <= self.settings.run_ahead

    def _ahead(self, grant: Grant) -> int:
        """Rounds between the one that is to be judged next and that of `grant`."""
        return grant.epoch - len(self._trials[grant.trial].reports) - 1

    def _running(self) -> Iterator[Trial]:
        return (self._trials[number] for number in self._slots if number is not None)

    def _next_trial(self) -> Trial | None:
        """The next trial that is to be trained; duplicates on the way there are noted."""
        while not self._nothing_to_begin():
            trial = self._suggest(len(self._trials))
            if trial is None:
                self._exhausted = True
                return None
            self._trials.append(trial)
            if trial.duplicate_of is None:
                self._by_key[trial.key] = trial.number
                trial._known, trial._known_failure = self.memo.reports(trial.key), self.memo.failure(trial.key)
                return trial
            self._suggester.tell(trial.number, "DUPLICATE", ())
        return None

    def _suggest(self, number: int) -> Trial | None:
        draw = self.memo.suggestion(number)
        if draw is not None:
            self._suggester.accept(number, draw)
            return self._trial(number, draw)
        draw = self._ask(number)
        if draw is None:
            return None
        self.memo.record_suggestion(number, draw)
        return self._trial(number, draw)

    def _ask(self, number: int) -> Mapping[str, Any] | None:
        """A draw that was not seen before, or the last one tried; None where the space is exhausted."""
        draw = None
        for attempt in range(ASK_AGAIN + 1):
            draw = self._suggester.ask(number, attempt)
            if draw is None or self._key_of(self._suggester.params(draw)) not in self._by_key:
                break
        return draw

    def _trial(self, number: int, draw: Mapping[str, Any]) -> Trial:
        params = self._suggester.params(draw)
        key = self._key_of(params)
        original = self._by_key.get(key)
        if original is None:
            return Trial(number, draw, params, key)
        return Trial(number, draw, params, key, None, "DUPLICATE", self._trials[original].reports, None, original)


def _state(failure: Failure) -> State:
    states: dict[str, State] = {"DIVERGED": "DIVERGED", "OOM": "OOM", "TIMEOUT": "TIMEOUT"}
    return states.get(failure.state, "CRASHED")
