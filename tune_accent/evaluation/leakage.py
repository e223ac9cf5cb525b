"""Speaker leakage, conditional on accent.

Accent is a function of speaker: a perfect code of accent and nothing else recognises speakers (K - 1)/N above 1/N. So speakers are
told apart only among M speakers of one accent, cross-fitted over the folds of their utterances, and the excess over 1/M is averaged
over accents. The unconditional Δ is measured too, to be shown beside its ceiling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tune_accent.base.errors import DataError
from tune_accent.evaluation.bootstrap import SHARE, Bounds, speaker_counts, speaker_interval, stratified_mean
from tune_accent.evaluation.figures import Figure
from tune_accent.evaluation.probes import Design, Probe, choose, fit_chosen
from tune_accent.evaluation.protocol import Protocol
from tune_accent.evaluation.table import Floats, Ints, Rows


@dataclass(frozen=True)
class Task:
    """Tell these speakers apart: one draw of one accent.

    Attributes:
        stratum: the accent (or 0 for a task over all accents).
        speakers: (M,) speaker numbers, ascending.
        at: row indices, ascending; every row lies in a fold.
        held: folds that are scored, each by a probe fitted on the other folds.
    """

    stratum: int
    speakers: Ints
    at: Ints
    held: tuple[int, ...]


@dataclass(frozen=True)
class Recalls:
    """Recall of each speaker, averaged over the draws that hold it, and the number of those draws; (speakers,) each."""

    speaker: Ints
    recall: Floats
    draws: Floats
    accent: Ints
    speakers_per_probe: int

    def pairs(self) -> list[tuple[float, int]]:
        """(recall, draws) of each speaker."""
        return [(float(recall), int(draws)) for recall, draws in zip(self.recall, self.draws, strict=True)]

    def of_accent(self, accent: int, protocol: Protocol, seed: np.random.SeedSequence) -> Figure:
        """Mean over draws of (balanced accuracy - 1/M) within one accent."""
        own = self.accent == accent
        return Recalls(self.speaker[own], self.recall[own], self.draws[own], self.accent[own], self.speakers_per_probe).figure(
            protocol, seed
        )

    def figure(self, protocol: Protocol, seed: np.random.SeedSequence) -> Figure:
        """Value and interval; chance is 0."""
        return self._figure(self.accent, protocol, seed)

    def pooled_figure(self, protocol: Protocol, seed: np.random.SeedSequence) -> Figure:
        """As `figure`, but the plain mean over all speakers, whatever their accent."""
        return self._figure(np.zeros_like(self.accent), protocol, seed)

    def _figure(self, strata: Ints, protocol: Protocol, seed: np.random.SeedSequence) -> Figure:
        chance = 1.0 / self.speakers_per_probe
        bounds: Bounds = None, None
        if protocol.intervals:
            counts = speaker_counts(self.accent, protocol.bootstrap, seed)
            replicates = stratified_mean(self.recall, self.draws, strata, counts) - chance
            bounds = speaker_interval(replicates, self.accent, (-chance, 1.0 - chance))
        value = float(stratified_mean(self.recall, self.draws, strata)[0]) - chance
        return Figure(value, *bounds, chance=0.0, n=len(self.recall), most=1.0 - chance)


def larger(unseen: Figure, seen: Figure) -> Figure:
    """The larger of two leakages; bounds are the larger of the bounds, so neither kind of leakage can hide behind the other."""
    assert unseen.value is not None and seen.value is not None
    low = None if unseen.low is None or seen.low is None else max(unseen.low, seen.low)
    high = None if unseen.high is None or seen.high is None else max(unseen.high, seen.high)
    return Figure(max(unseen.value, seen.value), low, high, chance=0.0, n=min(unseen.n or 0, seen.n or 0), most=unseen.most)


def eligible(rows: Rows, protocol: Protocol, scored: bool) -> dict[int, Ints]:
    """Speakers of each gate accent that a probe can be fitted on and scored on.

    Raises:
        DataError: there is a single fold, the folds are speaker-disjoint, or an accent is left with fewer than two such speakers.
    """
    kind = protocol.score_split if scored else "train"
    at = rows.gate_rows(scored)
    at = at[rows.fold[at] >= 0]
    held = None if scored else protocol.held_fold
    folds = np.unique(rows.fold[at])
    if len(folds) < 2:
        message = f"the {kind} rows have {len(folds)} fold; a speaker probe needs utterances of the same speakers to fit on and to score on"
        raise DataError(message, where="table: fold", fix="split each speaker's utterances into at least two folds")
    if held is not None and held not in folds:
        raise DataError(f"no {kind} row lies in the held fold {held}", where="table: fold", fix=f"folds are {folds.tolist()}")
    able = {accent: _with_both_sides(rows, at[rows.accent[at] == accent], held) for accent in rows.gate}
    if not any(len(speakers) for speakers in able.values()):
        message = (
            f"the folds of the {kind} rows are speaker-disjoint: a probe would be scored on speakers that it has never seen, "
            "which is chance by construction and not the absence of leakage"
        )
        raise DataError(message, where="table: fold", fix="give every speaker utterances in at least two folds")
    for accent, speakers in able.items():
        if len(speakers) < 2:
            message = f"accent {rows.accent_names[accent]!r} has {len(speakers)} {kind} speakers with utterances on both sides, at least 2 are needed"
            raise DataError(message, where="table: fold", fix="give every speaker utterances in at least two folds")
    return able


def _with_both_sides(rows: Rows, at: Ints, held: int | None) -> Ints:
    speakers = np.unique(rows.speaker[at])
    folds = [np.unique(rows.fold[at[rows.speaker[at] == speaker]]) for speaker in speakers]
    able = [len(own) >= 2 and (held is None or held in own) for own in folds]
    return speakers[np.asarray(able, dtype=np.bool_)]


def draw_tasks(
    rows: Rows, able: dict[int, Ints], speakers: int, scored: bool, protocol: Protocol, seed: np.random.SeedSequence
) -> list[Task]:
    """R draws of M speakers and U utterances per accent; one draw where every draw would be the same."""
    tasks = []
    held = None if scored else protocol.held_fold
    for (accent, candidates), child in zip(able.items(), seed.spawn(len(able)), strict=True):
        generator = np.random.default_rng(child)
        usable = rows.scored == scored
        own = np.flatnonzero(usable & (rows.fold >= 0) & np.isin(rows.speaker, candidates))
        every = len(candidates) == speakers and (
            protocol.utterances is None or np.bincount(rows.speaker[own]).max() <= protocol.utterances
        )
        for _ in range(1 if every else protocol.draws):
            chosen = np.sort(generator.choice(candidates, speakers, replace=False)) if speakers < len(candidates) else candidates
            at = np.sort(
                np.concatenate(
                    [_utterances(rows, own[rows.speaker[own] == s], protocol.utterances, held, generator) for s in chosen]
                )
            )
            folds = np.unique(rows.fold[at])
            tasks.append(Task(accent, chosen, at, tuple(int(f) for f in folds) if held is None else (held,)))
    return tasks


def raw_task(rows: Rows, able: dict[int, Ints]) -> Task:
    """All scored gate speakers at once."""
    speakers = np.sort(np.concatenate(list(able.values())))
    at = np.flatnonzero(rows.scored & (rows.fold >= 0) & np.isin(rows.speaker, speakers))
    return Task(0, speakers, at, tuple(int(fold) for fold in np.unique(rows.fold[at])))


def _utterances(rows: Rows, own: Ints, count: int | None, held: int | None, generator: np.random.Generator) -> Ints:
    """`count` of a speaker's rows, spread evenly over the folds, the held fold first (it must be scored)."""
    if count is None or len(own) <= count:
        return own
    shuffled = generator.permutation(own)
    rank = np.zeros(len(own), dtype=np.int64)
    for fold in np.unique(rows.fold[own]):
        inside = rows.fold[shuffled] == fold
        rank[inside] = np.arange(np.count_nonzero(inside))
    return shuffled[np.lexsort((np.arange(len(own)), rows.fold[shuffled] != held, rank))[:count]]


def measure(rows: Rows, tasks: Sequence[Task], protocol: Protocol) -> Recalls:
    """Cross-fit every task, all probes in one pass, and collect the recall of each speaker."""
    outer = [(number, frozenset((fold,))) for number, task in enumerate(tasks) for fold in task.held]
    inner = [(number, pair) for number, task in enumerate(tasks) for pair in _pairs(rows, task)]

    def pick(probes: Sequence[Probe]) -> list[int]:
        found = dict(zip(inner, probes, strict=True))
        return [_strength(rows, tasks[number], without, number, found, len(protocol.c_grid)) for number, without in outer]

    designs, parts = ([_design(rows, tasks[number], without) for number, without in each] for each in (outer, inner))
    chosen, probes = fit_chosen(designs, parts, protocol.c_grid, pick)
    fitted = dict(zip(outer, zip(chosen, probes, strict=True), strict=True))
    total: dict[int, float] = {}
    times: dict[int, int] = {}
    for number, task in enumerate(tasks):
        own = {fold: fitted[number, frozenset((fold,))] for fold in task.held}
        for speaker, recall in zip(task.speakers, _task_recalls(rows, task, own), strict=True):
            total[int(speaker)] = total.get(int(speaker), 0.0) + float(recall)
            times[int(speaker)] = times.get(int(speaker), 0) + 1
    speakers = np.asarray(sorted(total))
    draws = np.asarray([float(times[int(s)]) for s in speakers])
    recall = np.asarray([total[int(s)] for s in speakers]) / draws
    return Recalls(speakers, recall, draws, rows.speaker_accent[speakers], len(tasks[0].speakers))


def _pairs(rows: Rows, task: Task) -> list[frozenset[int]]:
    """Pairs of folds, a scored one and an inner one, that a probe of the inner cross-validation is fitted without."""
    folds = [int(fold) for fold in np.unique(rows.fold[task.at])]
    if len(folds) < 3:
        return []
    return list(dict.fromkeys(frozenset((outer, inner)) for outer in task.held for inner in folds if inner != outer))


def _strength(
    rows: Rows,
    task: Task,
    without: frozenset[int],
    number: int,
    probes: Mapping[tuple[int, frozenset[int]], Probe],
    strengths: int,
) -> int:
    """Index of the strength of the probe that is fitted without a scored fold, by cross-validation over the other folds."""
    labels, folds = np.searchsorted(task.speakers, rows.speaker[task.at]), rows.fold[task.at]
    inner = [int(fold) for fold in np.unique(folds) if (number, without | {int(fold)}) in probes and fold not in without]
    logits = [probes[number, without | {fold}].logits(rows.z[task.at[folds == fold]]) for fold in inner]
    return choose(logits, [labels[folds == fold] for fold in inner], strengths)


def _design(rows: Rows, task: Task, without: frozenset[int]) -> Design:
    at = task.at[~np.isin(rows.fold[task.at], list(without))]
    return Design(rows.z, np.searchsorted(task.speakers, rows.speaker[at]), len(task.speakers), at)


def _task_recalls(rows: Rows, task: Task, probes: Mapping[int, tuple[int, Probe]]) -> Floats:
    """Recall (M,) of each speaker over the scored rows, by the strengths and probes fitted without each scored fold."""
    labels = np.searchsorted(task.speakers, rows.speaker[task.at])
    folds = rows.fold[task.at]
    hits, sizes = np.zeros(len(task.speakers)), np.zeros(len(task.speakers))
    for outer in task.held:
        scored = folds == outer
        strength, probe = probes[outer]
        predicted = probe.predict(rows.z[task.at[scored]], strength)
        hits += np.bincount(labels[scored], weights=predicted == labels[scored], minlength=len(hits))
        sizes += np.bincount(labels[scored], minlength=len(hits))
    return np.asarray(hits / sizes)


def speaker_aucs(rows: Rows, able: dict[int, Ints]) -> dict[int, float]:
    """Same/different-speaker AUC of each unseen speaker within its accent, from distances; free of the number of speakers.

    P(a pair of the speaker's utterances is closer than one of its and one of another speaker of the accent), ties half. Pairs span two
    folds and two texts, so that neither a session nor a text makes a pair close; speakers without such a pair are left out. Axes are
    divided by the pooled within-speaker sd of train speakers.
    """
    z = rows.z / _within_scale(rows)
    found: dict[int, float] = {}
    for speakers in able.values():
        at = np.flatnonzero(rows.scored & (rows.fold >= 0) & np.isin(rows.speaker, speakers))
        values = _anchor_aucs(z[at], rows.speaker[at], rows.fold[at], rows.text[at])
        found.update({int(s): value for s, value in zip(speakers, values, strict=True) if np.isfinite(value)})
    return found


def auc_figure(rows: Rows, aucs: dict[int, float], protocol: Protocol, seed: np.random.SeedSequence) -> Figure:
    """Mean of `speaker_aucs` over the speakers of each accent, then over gate accents."""
    values, strata = np.asarray(list(aucs.values())), rows.speaker_accent[list(aucs)]
    if not set(rows.gate) <= set(strata.tolist()):
        return Figure(None, reason="some accent has no pair of utterances of one speaker with different texts in different folds")
    ones = np.ones_like(values)
    bounds: Bounds = None, None
    if protocol.intervals:
        counts = speaker_counts(strata, protocol.bootstrap, seed)
        bounds = speaker_interval(stratified_mean(values, ones, strata, counts), strata, SHARE)
    return Figure(float(stratified_mean(values, ones, strata)[0]), *bounds, chance=0.5, n=len(values))


def _within_scale(rows: Rows) -> Floats:
    """Pooled within-speaker sd of the train rows (D,), not below a thousandth of the total sd; 1 for constant axes."""
    at = rows.gate_rows(scored=False)
    own = [rows.z[at[rows.speaker[at] == speaker]] for speaker in np.unique(rows.speaker[at])]
    sizes, means = np.asarray([[len(z)] for z in own]), np.stack([z.mean(axis=0) for z in own])
    inside = np.sum([((z - mean) ** 2).sum(axis=0) for z, mean in zip(own, means, strict=True)], axis=0)
    between = (sizes * (means - (sizes * means).sum(axis=0) / len(at)) ** 2).sum(axis=0)
    within, total = np.sqrt(inside / len(at)), np.sqrt((inside + between) / len(at))
    largest = np.max([np.abs(z).max(axis=0) for z in own], axis=0)
    return np.where(total > 1e-12 * largest, np.maximum(within, 1e-3 * total), 1.0)


def _anchor_aucs(z: Floats, speaker: Ints, fold: Ints, text: Ints) -> list[float]:
    """AUC of each speaker as the anchor, in ascending order; NaN where it has no pair of one kind."""
    squares = np.einsum("nd,nd->n", z, z)
    distance = squares[:, None] + squares[None, :] - 2.0 * (z @ z.T)
    apart = (fold[:, None] != fold[None, :]) & ((text[:, None] != text[None, :]) | (text < 0)[:, None])
    found = []
    for anchor in np.unique(speaker):
        own = speaker == anchor
        same = distance[np.ix_(own, own)][apart[np.ix_(own, own)]]
        other = np.sort(distance[np.ix_(own, ~own)][apart[np.ix_(own, ~own)]])
        if not len(same) or not len(other):
            found.append(float("nan"))
            continue
        further = len(other) - 0.5 * (np.searchsorted(other, same, "left") + np.searchsorted(other, same, "right"))
        found.append(float(further.mean() / len(other)))
    return found
