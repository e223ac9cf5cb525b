"""Differences and averages of evaluations, from their per-speaker rows alone (`Evaluation.speakers`): nothing is fitted again.

Speakers are the same people in both sides of a difference and in every seed of a final result, so there is one resample index of
speakers for all. Resampling them apart would let the variation between people average out over seeds, which it does not: seeds and speakers
are crossed, not nested, and are resampled independently of each other (the pigeonhole bootstrap, Owen 2007, Ann. Appl. Stat. 1:386). It is
slightly conservative: variation of a seed with a speaker is counted three times.

Averages of accent figures have the pseudo-speakers that `evaluate` gives these (see `bootstrap`); in a difference the same ones would stand on both sides and say
nothing. Where no speaker is told apart in either, the interval of a difference is a point.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from tune_accent.base.errors import DataError
from tune_accent.evaluation.accent import Confusions, macro_f1, recalls
from tune_accent.evaluation.bootstrap import (
    Bounds,
    freedom,
    interval,
    posterior_counts,
    speaker_counts,
    speaker_interval,
    stratified_mean,
)
from tune_accent.evaluation.figures import Evaluation, Figure
from tune_accent.evaluation.table import Floats, Ints

RESAMPLES = 2000
COMPARABLE = (
    "accent_f1",
    "accent_balanced_accuracy",
    "leakage_unseen",
    "leakage_seen",
    "leakage",
    "leakage_raw",
    "leakage_auc",
    "text_drop",
)


def paired_difference(a: Evaluation, b: Evaluation, name: str, resamples: int = RESAMPLES, seed: int = 0) -> Figure:
    """Figure `name` of `a` minus that of `b`, with a 95 % interval over speakers; both are resampled by one index.

    Args:
        a, b: evaluations of two representations of the same table.
        name: one of `COMPARABLE`. `leakage` is the larger of unseen and seen in each resample.
        resamples: of speakers.
        seed: of the resamples.

    Raises:
        DataError: the evaluations are not of the same speakers.
        ValueError: `name` is not comparable.
    """
    _check([a, b], name)
    first, second = a.figures[name], b.figures[name]
    if first.value is None or second.value is None:
        return Figure(None, reason=first.reason if first.value is None else second.reason)
    speakers = _Speakers([a, b], name, resamples, seed)
    replicates = speakers.replicates(a) - speakers.replicates(b)
    known = replicates[np.isfinite(replicates)]
    bounds = speaker_interval(known, speakers.strata, (-1.0, 1.0))
    return Figure(first.value - second.value, *bounds, chance=0.0, n=len(speakers.strata))


def hierarchical_interval(evaluations: Sequence[Evaluation], name: str, resamples: int = RESAMPLES, seed: int = 0) -> Figure:
    """Mean over training seeds of figure `name`, with a 95 % interval over seeds and speakers: for final results.

    S seeds are few: S - 1 of them are drawn and count S/(S - 1), and the degrees of freedom are those of the two sources of variance
    together (Satterthwaite 1946), so that two seeds that differ much give a very wide interval.

    Args:
        evaluations: one per training seed, all of the same speakers; two at least.
        name: one of `COMPARABLE`.
        resamples: of seeds and speakers.
        seed: of the resamples.

    Raises:
        DataError: the evaluations are not of the same speakers.
        ValueError: there are fewer than two, or `name` is not comparable.
    """
    if len(evaluations) < 2:
        raise ValueError("an interval over seeds needs evaluations of two seeds at least")
    _check(evaluations, name)
    figures = [evaluation.figures[name] for evaluation in evaluations]
    values = np.asarray([np.nan if figure.value is None else figure.value for figure in figures])
    if not np.isfinite(values).all():
        return Figure(None, reason=next(figure.reason for figure in figures if figure.value is None))
    speakers = _Speakers(evaluations, name, resamples, seed, pseudo=True)
    every = np.stack([speakers.replicates(evaluation) for evaluation in evaluations], axis=1)
    every = every[np.isfinite(every).all(axis=1)]
    seeds = np.zeros(len(values), dtype=np.int64)
    counts = speaker_counts(seeds, len(every), np.random.SeedSequence(seed).spawn(3)[2]) / len(values)
    degrees = _degrees((counts @ values).var(), freedom(seeds), every.mean(axis=1).var(), freedom(speakers.strata))
    most = figures[0].most
    within = (-1.0, 1.0) if name == "text_drop" else (most - 1.0, most)
    bounds: Bounds = interval((counts * every).sum(axis=1), degrees, within) if degrees else (None, None)
    n = len(speakers.strata)
    return Figure(float(values.mean()), *bounds, chance=_mean([f.chance for f in figures]), n=n, most=most)


def hierarchical_difference(
    a: Sequence[Evaluation], b: Sequence[Evaluation], name: str, resamples: int = RESAMPLES, seed: int = 0
) -> Figure:
    """Mean over training seeds of figure `name` of `a` minus that of `b`, paired by seed, with a 95 % interval over seeds and speakers.

    Pairs of seeds and speakers are crossed, as in `hierarchical_interval`: one index of speakers for every seed and both sides, one index of seeds
    for both sides. What a seed or a speaker adds to both sides cancels.

    Args:
        a, b: evaluations of two configurations, one per training seed and in the same order of seeds, all of the same speakers; two seeds at least.
        name: one of `COMPARABLE`.
        resamples: of seeds and speakers.
        seed: of the resamples.

    Raises:
        DataError: the evaluations are not of the same speakers.
        ValueError: the sides differ in length, there are fewer than two seeds, or `name` is not comparable.
    """
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(f"a difference over seeds needs the same two seeds at least on both sides, got {len(a)} and {len(b)}")
    _check([*a, *b], name)
    figures = [evaluation.figures[name] for evaluation in (*a, *b)]
    unknown = [figure.reason for figure in figures if figure.value is None]
    if unknown:
        return Figure(None, reason=unknown[0])
    values = np.asarray([figure.value for figure in figures], dtype=np.float64)
    differences = values[: len(a)] - values[len(a) :]
    speakers = _Speakers([*a, *b], name, resamples, seed)
    every = np.stack([speakers.replicates(one) - speakers.replicates(other) for one, other in zip(a, b, strict=True)], axis=1)
    every = every[np.isfinite(every).all(axis=1)]
    seeds = np.zeros(len(differences), dtype=np.int64)
    counts = speaker_counts(seeds, len(every), np.random.SeedSequence(seed).spawn(3)[2]) / len(differences)
    degrees = _degrees((counts @ differences).var(), freedom(seeds), every.mean(axis=1).var(), freedom(speakers.strata))
    bounds: Bounds = interval((counts * every).sum(axis=1), degrees, (-1.0, 1.0)) if degrees else (None, None)
    return Figure(float(differences.mean()), *bounds, chance=0.0, n=len(speakers.strata))


def of_accent(evaluation: Evaluation, accent: str) -> Evaluation:
    """The same evaluation with the speakers of one gate accent alone, and with its leakage: for the intervals of `hierarchical_interval` by accent.

    Only `leakage_unseen` and `leakage_seen` are those of the accent.
    """
    place, detail, rows = evaluation.gate_accents.index(accent), evaluation.per_accent[accent], evaluation.speakers
    kept = {one: at for one, at in rows.accent.items() if at == place}
    own = replace(
        rows,
        accent=kept,
        unseen={one: row for one, row in rows.unseen.items() if one in kept},
        seen={one: row for one, row in rows.seen.items() if one in kept},
    )
    return replace(evaluation, leakage_unseen=detail.leakage_unseen, leakage_seen=detail.leakage_seen, speakers=own)


def replicates(evaluation: Evaluation, name: str, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Bootstrap replicates (resamples,) of figure `name`; equal seeds resample the same speakers alike in every evaluation of them.

    Raises:
        ValueError: `name` is not comparable, or the figure has no value.
    """
    _check([evaluation], name)
    if evaluation.figures[name].value is None:
        raise ValueError(f"{name} has no value: {evaluation.figures[name].reason}")
    return _Speakers([evaluation], name, resamples, seed).replicates(evaluation)


class _Speakers:
    """One resample index for the speakers behind a figure: scored ones, train ones, or each apart.

    Speakers are taken in the order of their `number`, never by name.

    Args:
        evaluations, name, resamples, seed: as above.
        pseudo: figures of accents have pseudo-speakers.
    """

    def __init__(self, evaluations: Sequence[Evaluation], name: str, resamples: int, seed: int, pseudo: bool = False) -> None:
        parts = ("leakage_unseen", "leakage_seen") if name == "leakage" else (name,)
        accents, number = evaluations[0].speakers.accent, evaluations[0].speakers.number
        order = sorted(accents, key=lambda one: number.get(one, 0))
        held = {part: {one for e in evaluations for one in _rows(e, part)} for part in parts}
        self.names = {part: [one for one in order if one in held[part]] for part in parts}
        self.pseudo = pseudo and name in ("accent_f1", "accent_balanced_accuracy")
        self.counts: dict[str, Floats] = {}
        for part, child in zip(parts, np.random.SeedSequence(seed).spawn(2), strict=False):
            strata = np.asarray([accents[one] for one in self.names[part]])
            self.counts[part] = self.draw(strata, resamples, child)
        smallest = min(parts, key=lambda part: len(self.names[part]))
        self.strata: Ints = np.asarray([accents[one] for one in self.names[smallest]])

    def draw(self, strata: Ints, resamples: int, seed: np.random.SeedSequence) -> Floats:
        """How much each speaker counts, (resamples, speakers), followed by the pseudo-speakers if there are any."""
        if not self.pseudo:
            return speaker_counts(strata, resamples, seed)
        classes = int(strata.max()) + 1
        return posterior_counts(strata, np.tile(np.arange(classes), 2), 1.0 / classes, resamples, seed)

    def replicates(self, evaluation: Evaluation) -> Floats:
        """(resamples,); of a leakage whose draws hold only some of the speakers, NaN where a resample holds none of these."""
        found = []
        for part, names in self.names.items():
            rows = _rows(evaluation, part)
            at = [place for place, one in enumerate(names) if one in rows]
            table = np.asarray([rows[names[place]] for place in at], dtype=np.float64)
            strata = np.asarray([evaluation.speakers.accent[names[place]] for place in at])
            statistic = _statistic(part, table, strata, evaluation.used.speakers, self.pseudo)
            at += range(len(names), self.counts[part].shape[1])
            with np.errstate(invalid="ignore"):
                found.append(statistic(self.counts[part][:, at]))
        return np.asarray(np.max(found, axis=0))


def _statistic(name: str, table: Floats, strata: Ints, per_probe: int, pseudo: bool) -> Callable[[Floats], Floats]:
    """From counts to figure `name`; `per_probe` speakers are told apart in a leakage probe."""
    if name in ("accent_f1", "accent_balanced_accuracy"):
        confusions = Confusions(table, strata).with_pseudo if pseudo else Confusions(table, strata)
        if name == "accent_f1":
            return lambda counts: macro_f1(confusions.matrix(counts))
        return lambda counts: np.asarray(recalls(confusions.matrix(counts)).mean(axis=-1))
    if name == "text_drop":
        sides = [Confusions(table[:, side], strata) for side in (0, 1)]
        return lambda counts: macro_f1(sides[0].matrix(counts)) - macro_f1(sides[1].matrix(counts))
    if name == "leakage_raw":
        return lambda counts: stratified_mean(table, np.ones(len(table)), np.zeros_like(strata), counts) - 1.0 / len(table)
    if name == "leakage_auc":
        return lambda counts: stratified_mean(table, np.ones(len(table)), strata, counts)
    return lambda counts: stratified_mean(table[:, 0], table[:, 1], strata, counts) - 1.0 / per_probe


def _rows(evaluation: Evaluation, name: str) -> Mapping[str, object]:
    speakers = evaluation.speakers
    return {
        "leakage_unseen": speakers.unseen,
        "leakage_seen": speakers.seen,
        "leakage_raw": speakers.raw,
        "leakage_auc": speakers.auc,
        "text_drop": speakers.texts,
    }.get(name, speakers.predicted)


def _check(evaluations: Sequence[Evaluation], name: str) -> None:
    if name not in COMPARABLE:
        raise ValueError(f"{name!r} is not comparable; {', '.join(COMPARABLE)} are")
    accents = [{one: e.gate_accents[at] for one, at in e.speakers.accent.items()} for e in evaluations]
    for other in accents[1:]:
        unlike = sorted(one for one in accents[0].keys() | other.keys() if accents[0].get(one) != other.get(one))
        if unlike:
            message = f"the evaluations are not of the same speakers: {unlike[0]!r} is {accents[0].get(unlike[0])!r} in one and {other.get(unlike[0])!r} in another"
            raise DataError(message, where="evaluations", fix="evaluate both on the same table, with the same gate accents")


def _degrees(seeds: float, seeds_freedom: float, speakers: float, speakers_freedom: float) -> float:
    """Degrees of freedom of a sum of two variances (Satterthwaite 1946); 0 where the speakers have none."""
    if not speakers_freedom:
        return 0.0
    spread = seeds**2 / seeds_freedom + speakers**2 / speakers_freedom
    return (seeds + speakers) ** 2 / spread if spread > 0 else min(seeds_freedom, speakers_freedom)


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None
