"""Everything that a comparison says, computed from campaigns: tables with their exact values, and the sentences below them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tune_accent.comparing.curves import AXES, Curve, curve, median_time, time_to
from tune_accent.comparing.measures import Overhead, Waste, final_points, hypervolume, overhead, waste
from tune_accent.comparing.record import Campaign
from tune_accent.comparing.repeats import Difference, conclusion, difference, holm, quartiles


@dataclass(frozen=True)
class Band:
    """Quartiles of the best score over an engine's repeats (times `sign`), at costs that every repeat has reached."""

    engine: str
    repeats: int
    costs: tuple[float, ...]
    values: tuple[tuple[float | None, float | None, float | None], ...]


@dataclass(frozen=True)
class Time:
    """Cost to a threshold over an engine's repeats; `median` None where less than half have reached it."""

    engine: str
    threshold: float
    why: str
    axis: str
    reached: int
    repeats: int
    median: float | None
    longest: float


@dataclass(frozen=True)
class Standing:
    """One campaign at the end, values times `sign`.

    Attributes:
        best: of the whole search.
        level: the best after as many epochs as every campaign trained.
        regret: of `level`, against the pooled best.
    """

    campaign: Campaign
    best: float | None
    level: float | None
    regret: float | None
    volume: float | None
    waste: Waste
    overhead: Overhead


@dataclass(frozen=True)
class Comparison:
    """A comparison. The first engine is what the others are set beside.

    Attributes:
        campaigns: by engine, then seed, then name: the order in which they were given changes nothing.
        caveats: what was ignored; it stands under every figure and table.
        budget: epochs that every campaign trained.
        pooled: the best score of all, times `sign`.
        bands: by axis.
    """

    name: str
    campaigns: tuple[Campaign, ...]
    engines: tuple[str, ...]
    caveats: tuple[str, ...]
    budget: float
    pooled: float | None
    bands: Mapping[str, tuple[Band, ...]]
    times: tuple[Time, ...]
    standings: tuple[Standing, ...]
    differences: tuple[Difference, ...]
    conclusions: tuple[str, ...]


def compare(
    first: Campaign, others: Sequence[Campaign], caveats: tuple[str, ...] = (), thresholds: Sequence[float] = ()
) -> Comparison:
    """Compare `others` with `first`, and all repeats of its engine.

    Args:
        thresholds: scores whose time to reach is asked for, beside every engine's median final best.
    """
    campaigns = _named([first, *others])
    engines = tuple(dict.fromkeys([first.engine, *sorted({one.engine for one in campaigns})]))
    ordered = sorted(campaigns, key=lambda one: (engines.index(one.engine), one.seed or "", one.name))
    curves = {axis: [curve(one, axis) for one in ordered] for axis in AXES}
    by_epoch = [found for found in curves["epochs"] if found is not None]
    budget = min((found.end for found in by_epoch), default=0.0)
    standings = _standings(ordered, by_epoch, budget)
    anything = any(one.level is not None for one in standings)
    differences = tuple(_differences(engines, standings)) if anything else ()
    nothing = (f"No search had a feasible trial of full length after {budget:g} epochs: there is nothing to compare.",)
    return Comparison(
        name=first.name,
        campaigns=tuple(ordered),
        engines=engines,
        caveats=caveats,
        budget=budget,
        pooled=max((one.best for one in standings if one.best is not None), default=None),
        bands={axis: tuple(_bands(engines, ordered, found)) for axis, found in curves.items()},
        times=tuple(_times(engines, ordered, by_epoch, standings, [first.sign * value for value in thresholds])),
        standings=standings,
        differences=differences,
        conclusions=tuple(conclusion(one, len(differences)) for one in differences) if anything else nothing,
    )


def _named(campaigns: Sequence[Campaign]) -> list[Campaign]:
    """Two searches of one engine and one seed are no repeats of each other: the later ones are told apart by name."""
    seen: set[tuple[str, str | None]] = set()
    found = []
    for place, one in enumerate([campaigns[0], *sorted(campaigns[1:], key=lambda one: (one.engine, one.name))]):
        if place and one.seed is not None and (one.engine, one.seed) in seen:
            one = replace(one, engine=f"{one.engine} ({one.name})")
        seen.add((one.engine, one.seed))
        found.append(one)
    return found


def _standings(campaigns: Sequence[Campaign], curves: Sequence[Curve], budget: float) -> tuple[Standing, ...]:
    pooled = max((found.final for found in curves if found.final is not None), default=None)
    rows = []
    for one, found in zip(campaigns, curves, strict=True):
        level, points = found.at(budget), final_points(one)
        regret = None if level is None or pooled is None else pooled - level
        rows.append(Standing(one, found.final, level, regret, hypervolume(points) if points else None, waste(one), overhead(one)))
    return tuple(rows)


def _bands(engines: Sequence[str], campaigns: Sequence[Campaign], curves: Sequence[Curve | None]) -> list[Band]:
    bands = []
    for engine in engines:
        own = [found for one, found in zip(campaigns, curves, strict=True) if one.engine == engine]
        known = [found for found in own if found is not None]
        if len(known) < len(own):
            continue  # a repeat whose times are not known would make the others look like all
        end = min(found.end for found in known)
        costs = sorted({cost for found in known for cost, _ in found.points if cost <= end} | {end})
        bands.append(
            Band(engine, len(own), tuple(costs), tuple(quartiles([found.at(cost) for found in known]) for cost in costs))
        )
    return bands


def _times(
    engines: Sequence[str],
    campaigns: Sequence[Campaign],
    curves: Sequence[Curve],
    standings: Sequence[Standing],
    given: Sequence[float],
) -> list[Time]:
    asked = [(value, "given") for value in given]
    for engine in engines:
        median = quartiles([one.best for one in standings if one.campaign.engine == engine])[1]
        asked += [] if median is None else [(median, f"median best of {engine}")]
    axes: Mapping[str, Callable[[int], Curve | None]] = {
        "trials": lambda place: curve(campaigns[place], "trials"),
        "epochs": lambda place: curves[place],
    }
    rows = []
    for threshold, why in asked:
        for engine in engines:
            own = [place for place, one in enumerate(campaigns) if one.engine == engine]
            for axis, of in axes.items():
                reaches = [time_to(found, threshold) for found in map(of, own) if found is not None]
                longest = max((reach.cost for reach in reaches), default=0.0)
                count = sum(reach.reached for reach in reaches)
                rows.append(Time(engine, threshold, why, axis, count, len(reaches), median_time(reaches), longest))
    return rows


def _differences(engines: Sequence[str], standings: Sequence[Standing]) -> list[Difference]:
    """The first engine less every other, at the common budget. A repeat without a feasible trial counts as the worst score of all."""
    levels = [one.level for one in standings if one.level is not None]
    worst = min(levels, default=0.0)

    def scores(engine: str) -> dict[str, float]:
        own = [one for one in standings if one.campaign.engine == engine and one.campaign.seed is not None]
        return {str(one.campaign.seed): worst if one.level is None else one.level for one in own}

    return holm([difference(engines[0], other, scores(engines[0]), scores(other)) for other in engines[1:]])
