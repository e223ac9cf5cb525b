"""How good the best was, and what it had cost by then: one search as step functions. Values are times `Campaign.sign`: more is better.

A trial counts once it has its full length and is feasible, with its last epoch, never its best one; that is so for every engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tune_accent.comparing.record import Campaign, Execution

AXES = {
    "trials": "trials begun",
    "epochs": "epochs trained",
    "worker_seconds": "worker-seconds of training",
    "wall_seconds": "seconds of wall clock",
}


@dataclass(frozen=True)
class Curve:
    """The best feasible score so far.

    Attributes:
        points: (cost, best from there on), by cost; empty where no trial counts.
        end: what the whole search has cost.
    """

    points: tuple[tuple[float, float], ...]
    end: float

    def at(self, cost: float) -> float | None:
        """The best for `cost`; None where nothing was feasible by then."""
        return max((best for at, best in self.points if at <= cost), default=None)

    @property
    def final(self) -> float | None:
        """The best of the whole search."""
        return self.points[-1][1] if self.points else None


@dataclass(frozen=True)
class Reach:
    """When a threshold was reached; where `reached` is False, it was not by `cost`, and nothing is known beyond."""

    cost: float
    reached: bool


def curve(campaign: Campaign, axis: str) -> Curve | None:
    """The best against one of `AXES`; None where the times are not known."""
    if axis == "trials":
        ended = [(trial.number + 1.0, trial.number) for trial in campaign.trials]
        return _rising(campaign, ended, float(len(campaign.trials)))
    done = in_order(campaign)
    costs = _costs(done, axis)
    if costs is None:
        return None
    last: dict[int, float] = {}
    for execution, cost in zip(done, costs, strict=True):
        if execution.trial < len(campaign.trials) and execution.epoch == len(campaign.trials[execution.trial].epochs):
            last.setdefault(execution.trial, cost)
    return _rising(campaign, sorted((cost, trial) for trial, cost in last.items()), costs[-1] if costs else 0.0)


def in_order(campaign: Campaign) -> list[Execution]:
    """Every epoch that was trained, as it ended; trial by trial where a time is missing."""
    known = {(one.trial, one.epoch) for one in campaign.executed}
    missing = [
        Execution(trial.number, epoch)
        for trial in campaign.trials
        for epoch in range(1, len(trial.epochs) + 1)
        if (trial.number, epoch) not in known
    ]
    every = [*campaign.executed, *missing]
    if any(one.ended is None for one in every):
        return sorted(every, key=lambda one: (one.trial, one.epoch, one.launch))
    return sorted(every, key=lambda one: (one.launch, one.ended or 0.0, one.trial, one.epoch))


def time_to(found: Curve, threshold: float) -> Reach:
    """When the best was at least `threshold`; censored at the search's end."""
    return next((Reach(cost, True) for cost, best in found.points if best >= threshold), Reach(found.end, False))


def median_time(reaches: Sequence[Reach]) -> float | None:
    """The median of times of which some are censored (Kaplan & Meier 1958); None where less than half are reached."""
    left, alive = len(reaches), 1.0
    for reach in sorted(reaches, key=lambda one: (one.cost, not one.reached)):
        alive *= (left - 1) / left if reach.reached else 1.0
        left -= 1
        if alive <= 0.5 + 1e-12:
            return reach.cost
    return None


def _rising(campaign: Campaign, ended: Sequence[tuple[float, int]], end: float) -> Curve:
    points: list[tuple[float, float]] = []
    for cost, number in ended:
        value = campaign.final(campaign.trials[number])
        if value is not None and (not points or value > points[-1][1]):
            points.append((cost, value))
    return Curve(tuple(points), end)


def _costs(done: Sequence[Execution], axis: str) -> list[float] | None:
    """What had been spent when each of `done` ended."""
    if axis == "epochs":
        return [float(count) for count in range(1, len(done) + 1)]
    if any(one.seconds is None or one.ended is None for one in done):
        return None
    if axis == "worker_seconds":
        total, sums = 0.0, list[float]()
        for one in done:
            total += one.seconds or 0.0
            sums.append(total)
        return sums
    return _wall(done)


def _wall(done: Sequence[Execution]) -> list[float]:
    """Seconds since the first epoch began, without the time between launches."""
    begun: dict[int, float] = {}
    ended: dict[int, float] = {}
    for one in done:
        assert one.ended is not None and one.seconds is not None
        begun[one.launch] = min(begun.get(one.launch, one.ended), one.ended - one.seconds)
        ended[one.launch] = max(ended.get(one.launch, one.ended), one.ended)
    before, total = dict[int, float](), 0.0
    for launch in sorted(begun):
        before[launch] = total
        total += ended[launch] - begun[launch]
    return [before[one.launch] + (one.ended or 0.0) - begun[one.launch] for one in done]
