"""What a search is worth beyond its best score: hypervolume, wasted work, overhead of its engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tune_accent.base.files import canonical_json
from tune_accent.comparing.curves import in_order
from tune_accent.comparing.record import FAILED, Campaign

WORST = (
    0.0,
    1.0,
)  # accent F1 and speaker leakage of the reference point: nothing is worse than no accent and a speaker that is fully told


@dataclass(frozen=True)
class Waste:
    """Work that brought nothing.

    Attributes:
        epochs: all that were executed.
        failed_trials, failed_epochs: trials that failed, and the epochs that they had finished.
        duplicates, duplicate_epochs: trials with parameters of an earlier one, and epochs that were trained again for them.
        repeated: executions of an epoch that had been executed before (a worker was lost, a checkpoint damaged).
        late: epochs beyond the grace period of trials that were stopped in the end; 0 without early stopping.
    """

    epochs: int
    failed_trials: int
    failed_epochs: int
    duplicates: int
    duplicate_epochs: int
    repeated: int
    late: int

    @property
    def share(self) -> float:
        """Of all executed epochs, those that were wasted in one of these ways."""
        lost = self.failed_epochs + self.duplicate_epochs + self.repeated + self.late
        return lost / self.epochs if self.epochs else 0.0


@dataclass(frozen=True)
class Overhead:
    """What the engine took beside the training.

    Attributes:
        ms_per_suggestion: median; None where not recorded.
        idle: share of the workers' time in which nothing was trained; None where times are not known.
        workers: epochs that were trained at the same time, at most.
    """

    ms_per_suggestion: float | None
    idle: float | None
    workers: int | None


def final_points(campaign: Campaign) -> list[tuple[float, float]]:
    """(accent F1, speaker leakage) after the last epoch of every full-length trial, feasible or not; empty where these are not measured."""
    last = [trial.epochs[-1] for trial in campaign.trials if trial.state == "COMPLETE" and trial.epochs]
    return [
        (float(one["accent_f1"]), float(one["speaker_leakage"])) for one in last if {"accent_f1", "speaker_leakage"} <= one.keys()
    ]


def hypervolume(points: Sequence[tuple[float, float]], worst: tuple[float, float] = WORST) -> float:
    """Area that `points` dominate in (F1, -leakage), down to `worst` (Zitzler & Thiele 1998); 1 for F1 1 without leakage."""
    area, reached = 0.0, worst[0]
    for f1, leakage in sorted(points, key=lambda point: (point[1], -point[0])):
        if f1 > reached and leakage < worst[1]:
            area += (f1 - reached) * (worst[1] - leakage)
            reached = f1
    return area


def waste(campaign: Campaign) -> Waste:
    """The wasted work of a search. An epoch counts once, in the first way that fits: failed, duplicate, late; repetitions besides."""
    repeats, failed, late = _repeats(campaign), [], 0
    kinds = {trial.number: trial for trial in campaign.trials}
    for trial in campaign.trials:
        if trial.state in FAILED:
            failed.append(trial)
        elif trial.state == "STOPPED" and trial.number not in repeats and campaign.grace is not None:
            late += max(0, len(trial.epochs) - campaign.grace)
    done = in_order(campaign)
    return Waste(
        epochs=len(done),
        failed_trials=len(failed),
        failed_epochs=sum(len(trial.epochs) for trial in failed),
        duplicates=len(repeats),
        duplicate_epochs=sum(len(kinds[number].epochs) for number in repeats if kinds[number].state not in FAILED),
        repeated=len(done) - len({(one.trial, one.epoch) for one in done}),
        late=late,
    )


def overhead(campaign: Campaign) -> Overhead:
    """The overhead of a search's engine."""
    asked = 1000 * median(campaign.asking) if campaign.asking else None
    spans = [
        (one.launch, one.ended - one.seconds, one.ended)
        for one in campaign.executed
        if one.ended is not None and one.seconds is not None
    ]
    if not spans:
        return Overhead(asked, None, None)
    workers, busy, wall = 0, 0.0, 0.0
    for launch in {span[0] for span in spans}:
        own = [span[1:] for span in spans if span[0] == launch]
        workers = max(workers, _together(own))
        busy += sum(end - begin for begin, end in own)
        wall += max(end for _, end in own) - min(begin for begin, _ in own)
    return Overhead(asked, max(0.0, 1 - busy / (wall * workers)) if wall > 0 else None, workers)


def _repeats(campaign: Campaign) -> set[int]:
    """Numbers of trials whose parameters an earlier trial had."""
    seen: dict[str, int] = {}
    found = set()
    for trial in campaign.trials:
        first = seen.setdefault(canonical_json(_same(trial.params)), trial.number)
        if first != trial.number or trial.state == "DUPLICATE":
            found.add(trial.number)
    return found


def _same(params: Mapping[str, object]) -> dict[str, object]:
    return {name: float(value) if type(value) is int else value for name, value in params.items()}


def _together(spans: Sequence[tuple[float, ...]]) -> int:
    """How many spans overlap at most; one that begins as another ends does not overlap it."""
    steps = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans], key=lambda step: (step[0], step[1]))
    most = now = 0
    for _, change in steps:
        now += change
        most = max(most, now)
    return most
