"""The winner of a search, chosen again: by the mean over new seeds of the metric that the search used, on the same validation speakers.

The best of many trials owes part of its score to the luck of its seed (the winner's curse). New seeds do not share that luck, so the difference
between the two scores shows it. What they do share is the validation speakers: only test speakers measure the luck with those.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from tune_accent.base.errors import UserError
from tune_accent.config.space import LoadedSpace
from tune_accent.paper.results import WINNER, Arm, Candidate, TrainedRun
from tune_accent.tuning.core import Trial

LEAKAGE = "speaker_leakage_unseen"


def select(
    candidates: Sequence[Arm], runs: Sequence[TrainedRun], ranking: Sequence[Trial], space: LoadedSpace
) -> tuple[Candidate, ...]:
    """Rank the candidates by mean metric over new seeds, ties by lower mean unseen leakage, then by trial number; the first one is chosen.

    Args:
        candidates: arms that repeat trials of the search.
        runs: of these arms, in any order; others are not looked at. A run that did not finish counts for nothing: its candidate has fewer seeds.
        ranking: the full-length trials of the search, best first (`plan.ranked`).
        space: of the search: its metric and goal.

    Returns:
        By rank. A candidate without a finished seed comes last.

    Raises:
        UserError: no candidate has finished a seed.
    """
    sign = -1.0 if space.goal == "maximize" else 1.0

    def place(candidate: Candidate) -> tuple[bool, float, float, int]:
        if not candidate.scores:
            return True, 0.0, 0.0, candidate.trial
        return False, sign * mean(candidate.scores), mean(candidate.leakages), candidate.trial

    found = sorted((_measured(arm, runs, ranking, space) for arm in candidates), key=place)
    if not found or not found[0].scores:
        raise UserError("no candidate has finished on a new seed", fix="trials/*/failure.json says why; remove it to try again")
    return tuple(replace(candidate, rank=rank, chosen=rank == 1) for rank, candidate in enumerate(found, 1))


def winner(candidates: Sequence[Arm], selection: Sequence[Candidate]) -> Arm:
    """The arm that was chosen, under the name that baselines, tables and figures know it by."""
    chosen = next(candidate for candidate in selection if candidate.chosen)
    arm = next(arm for arm in candidates if arm.name == chosen.arm)
    return replace(arm, name=WINNER, note=f"trial {chosen.trial}, {arm.note}")


def selection_words(selection: Sequence[Candidate], metric: str, goal: str) -> list[str]:
    """What the new seeds changed against the search's own ranking, and the winner's curse in numbers.

    Args:
        selection: by rank, as `select` returns it.
        metric, goal: of the search.
    """
    chosen, first = selection[0], min(selection, key=lambda candidate: candidate.search_rank)
    lines = [_changed_words(chosen, first), *_moved_words(selection), *_seed_words(selection)]
    sign = 1.0 if goal == "maximize" else -1.0
    measured = [candidate for candidate in selection if candidate.scores]
    if first.scores:
        lines.append(_curse_words(first, metric, sign))
    flattery = mean([_flattery(candidate, sign) for candidate in measured])
    lines.append(
        f"Over {_count(len(measured), 'candidate')} the search flattered by {flattery:+.3f} on average. "
        "Speakers are the same in both: this is the luck of the seed, not that of the speakers."
    )
    return lines


def mean(values: Sequence[float]) -> float:
    """Exact sum, so that it does not depend on the order of the values."""
    return math.fsum(values) / len(values)


def _measured(arm: Arm, runs: Sequence[TrainedRun], ranking: Sequence[Trial], space: LoadedSpace) -> Candidate:
    rank, trial = next((rank, trial) for rank, trial in enumerate(ranking, 1) if trial.number == arm.trial)
    own = (run for run in runs if run.arm == arm.name and run.state == "COMPLETE" and _has(run, space.metric))
    finished = sorted(own, key=lambda run: run.repeat)
    last = [run.reports[-1] for run in finished]
    scores = tuple(float(report[space.metric]) for report in last)
    leakages = tuple(float(report[LEAKAGE]) for report in last)
    return Candidate(arm.name, trial.number, rank, float(trial.reports[-1][space.metric]), scores, leakages, 0, False)


def _has(run: TrainedRun, metric: str) -> bool:
    """Whether the last epoch has the metric; `text_drop` may be None ("not identifiable")."""
    value = run.reports[-1].get(metric)
    return isinstance(value, int | float) and math.isfinite(value)


def _changed_words(chosen: Candidate, first: Candidate) -> str:
    if chosen is first:
        return f"New seeds confirm the search: trial {chosen.trial} is the best in both."
    return (
        f"New seeds choose trial {chosen.trial}, which was rank {chosen.search_rank} in the search; "
        f"the search's own best, trial {first.trial}, comes at rank {first.rank}."
    )


def _moved_words(selection: Sequence[Candidate]) -> list[str]:
    before = sorted(selection, key=lambda candidate: candidate.search_rank)
    moved = sum(one is not other for one, other in zip(before, selection, strict=True))
    return [f"{moved} of {_count(len(selection), 'candidate')} changed place."] if len(selection) > 1 else []


def _seed_words(selection: Sequence[Candidate]) -> list[str]:
    """How many seeds a mean is over; a person must know where candidates differ in that."""
    most = max(len(candidate.scores) for candidate in selection)
    fewer = [candidate for candidate in selection if len(candidate.scores) < most]
    if not fewer:
        return [f"Every candidate has {_count(most, 'new seed')}."]
    told = ", ".join(f"trial {candidate.trial} ({len(candidate.scores)})" for candidate in fewer)
    return [f"Not every candidate finished all of its {_count(most, 'new seed')}: {told}; their means are over fewer."]


def _curse_words(first: Candidate, metric: str, sign: float) -> str:
    seeds = _count(len(first.scores), "new seed")
    return (
        f"Winner's curse: the search gave its best trial ({first.trial}) {metric} {first.search_score:.3f}; "
        f"over {seeds} it has {mean(first.scores):.3f}: the search flattered it by {_flattery(first, sign):+.3f}."
    )


def _flattery(candidate: Candidate, sign: float) -> float:
    """How much better a candidate looked in the search than it is on new seeds."""
    return sign * (candidate.search_score - mean(candidate.scores))


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")
