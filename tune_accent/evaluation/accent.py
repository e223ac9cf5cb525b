"""Accent of unseen speakers: a probe fitted on train speakers, macro-F1 and balanced accuracy over the gate accents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tune_accent.evaluation.bootstrap import Bounds, freedom, posterior_counts, posterior_interval
from tune_accent.evaluation.figures import Figure
from tune_accent.evaluation.probes import Design, Probe, choose, fit_chosen
from tune_accent.evaluation.protocol import Protocol
from tune_accent.evaluation.table import Floats, Ints, Rows

INNER_FOLDS = 3


@dataclass(frozen=True)
class Confusions:
    """Per-speaker predictions: what every accent figure and its interval are computed from.

    Attributes:
        predicted: (speakers, K) utterances of the speaker that were given each accent.
        accent: (speakers,) true accent, as position among the gate accents.
    """

    predicted: Floats
    accent: Ints

    def matrix(self, counts: Floats | None = None) -> Floats:
        """Confusion matrices (resamples, K, K), true × predicted; (1, K, K) without counts."""
        taken = np.ones((1, len(self.accent))) if counts is None else counts
        classes = range(self.predicted.shape[1])
        return np.stack([taken[:, self.accent == a] @ self.predicted[self.accent == a] for a in classes], axis=1)

    @property
    def with_pseudo(self) -> Confusions:
        """With two pseudo-speakers of each accent added, who have as many utterances as its mean speaker: K never recognised, K always."""
        classes = self.predicted.shape[1]
        heard = self.matrix()[0].sum(axis=1) / np.maximum(np.bincount(self.accent, minlength=classes), 1)
        right = np.diag(heard)
        wrong = (heard[:, None] - right) / (classes - 1)
        predicted = np.concatenate([self.predicted, wrong, right])
        return Confusions(predicted, np.concatenate([self.accent, np.tile(np.arange(classes), 2)]))

    def posterior(self, mass: float, resamples: int, seed: np.random.SeedSequence) -> Floats:
        """Confusion matrices (resamples, K, K) of the Bayesian bootstrap, where the pseudo-speakers of an accent are worth `mass` speakers."""
        every = self.with_pseudo
        return every.matrix(posterior_counts(self.accent, every.accent[len(self.accent) :], mass, resamples, seed))


def macro_f1(matrix: Floats) -> Floats:
    """Macro-F1 of confusion matrices (..., K, K), true × predicted; 0 for a class that neither occurs nor is predicted."""
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    sizes = matrix.sum(axis=-1) + matrix.sum(axis=-2)
    return np.asarray((2 * hits / np.where(sizes > 0, sizes, 1.0)).mean(axis=-1))


def recalls(matrix: Floats) -> Floats:
    """Recall of each class (..., K) of confusion matrices (..., K, K)."""
    sizes = matrix.sum(axis=-1)
    return np.asarray(np.diagonal(matrix, axis1=-2, axis2=-1) / np.where(sizes > 0, sizes, 1.0))


def gate_position(rows: Rows, at: Ints) -> Ints:
    """Accent of rows `at` as position among the gate accents."""
    return np.searchsorted(np.asarray(rows.gate), rows.accent[at])


def inner_groups(rows: Rows, at: Ints) -> Ints:
    """Inner fold of train rows `at`, whole speakers at a time, dealt out within each accent."""
    fold_of: dict[int, int] = {}
    for accent in rows.gate:
        speakers = rows.speakers_of(accent, scored=False)
        fold_of.update({int(speaker): position % INNER_FOLDS for position, speaker in enumerate(speakers)})
    return np.asarray([fold_of[int(speaker)] for speaker in rows.speaker[at]])


def fit_accent(rows: Rows, protocol: Protocol, others: list[Design]) -> tuple[Probe, int, list[Probe]]:
    """Choose the strength of the accent probe by cross-validation grouped by speaker, on train speakers only, and fit it at this one.

    Args:
        rows: canonical rows.
        protocol: for the grid of strengths.
        others: further designs to fit at the same strength.

    Returns:
        The probe, the index of its strength, the probes of `others`.
    """
    at = rows.gate_rows(scored=False)
    labels, groups, classes = gate_position(rows, at), inner_groups(rows, at), len(rows.gate)
    folds = [groups == fold for fold in np.unique(groups)]
    inner = [Design(rows.z, labels[~held], classes, at[~held]) for held in folds]
    outer = [Design(rows.z, labels, classes, at), *others]

    def pick(probes: Sequence[Probe]) -> list[int]:
        logits = [probe.logits(rows.z[at[held]]) for probe, held in zip(probes, folds, strict=True)]
        return [choose(logits, [labels[held] for held in folds], len(protocol.c_grid))] * len(outer)

    chosen, probes = fit_chosen(outer, inner, protocol.c_grid, pick)
    return probes[0], chosen[0], probes[1:]


def tally(rows: Rows, at: Ints, predicted: Ints, weight: float = 1.0) -> Floats:
    """Predictions of scored rows `at` by speaker, (scored gate speakers, K), each counting `weight`."""
    speakers = np.unique(rows.speaker[rows.gate_rows(scored=True)])
    table = np.zeros((len(speakers), len(rows.gate)))
    np.add.at(table, (np.searchsorted(speakers, rows.speaker[at]), predicted), weight)
    return table


def scored_accents(rows: Rows) -> Ints:
    """Accent of each scored gate speaker, (speakers,), as position among the gate accents."""
    speakers = np.unique(rows.speaker[rows.gate_rows(scored=True)])
    return np.searchsorted(np.asarray(rows.gate), rows.speaker_accent[speakers])


def confusions(rows: Rows, probe: Probe, strength: int) -> Confusions:
    """Predictions of the probe on the scored speakers."""
    at = rows.gate_rows(scored=True)
    return Confusions(tally(rows, at, probe.predict(rows.z[at], strength)), scored_accents(rows))


def accent_figures(
    found: Confusions, protocol: Protocol, seeds: tuple[np.random.SeedSequence, np.random.SeedSequence]
) -> tuple[Figure, Figure]:
    """Macro-F1 and balanced accuracy with intervals and chance.

    Args:
        found: predictions by speaker.
        protocol: for resamples and permutations.
        seeds: of the bootstrap and of the permutations.
    """
    matrix = found.matrix()
    n, classes = len(found.accent), matrix.shape[-1]
    f1, balanced = float(macro_f1(matrix)[0]), float(recalls(matrix)[0].mean())
    chance, p = _null(found, f1, protocol.permutations, seeds[1])
    f1_bounds, balanced_bounds = accent_intervals(found, protocol, seeds[0])
    return (
        Figure(f1, *f1_bounds, chance=chance, n=n, p=p),
        Figure(balanced, *balanced_bounds, chance=1.0 / classes, n=n),
    )


def recall_figures(found: Confusions, protocol: Protocol, seed: np.random.SeedSequence) -> list[Figure]:
    """Recall of each gate accent, with its interval over the speakers of that accent and one pseudo-speaker."""
    classes = found.predicted.shape[1]
    values = recalls(found.matrix())[0]
    sizes = np.bincount(found.accent, minlength=classes)
    bounds: list[Bounds] = [(None, None)] * classes
    if protocol.intervals:
        replicates = recalls(found.posterior(1.0, protocol.bootstrap, seed))
        degrees = np.where(sizes > 1, np.inf, 0.0)
        bounds = [posterior_interval(replicates[:, a], float(values[a]), float(degrees[a])) for a in range(classes)]
    return [Figure(float(values[a]), *bounds[a], chance=1.0 / classes, n=int(sizes[a])) for a in range(classes)]


def permuted_f1(found: Confusions, permutations: int, seed: np.random.SeedSequence) -> Floats:
    """Macro-F1 (permutations,) when predictions stay and accents are permuted across speakers."""
    generator = np.random.default_rng(seed)
    shuffled = generator.permuted(np.tile(found.accent, (permutations, 1)), axis=1)
    hot = (shuffled[:, :, None] == np.arange(found.predicted.shape[1])).astype(np.float64)
    return macro_f1(hot.transpose(0, 2, 1) @ found.predicted)


def accent_intervals(found: Confusions, protocol: Protocol, seed: np.random.SeedSequence) -> tuple[Bounds, Bounds]:
    """Intervals of macro-F1 and of balanced accuracy, over the speakers and one pseudo-speaker in all: 1/K of one in each accent.

    A whole one in each accent would pull the figure to the middle by more than its standard error. A K-th does not make up for the (n - 1)/(n + 1) by which
    the Bayesian bootstrap understates the variance inside an accent: hence quantiles of t here, and those of the normal for a recall.
    """
    if not protocol.intervals:
        return (None, None), (None, None)
    matrix, degrees = found.matrix(), freedom(found.accent)
    replicates = found.posterior(1.0 / matrix.shape[-1], protocol.bootstrap, seed)
    return (
        posterior_interval(macro_f1(replicates), float(macro_f1(matrix)[0]), degrees),
        posterior_interval(recalls(replicates).mean(axis=-1), float(recalls(matrix)[0].mean()), degrees),
    )


def _null(found: Confusions, f1: float, permutations: int, seed: np.random.SeedSequence) -> tuple[float, float | None]:
    """Chance of macro-F1 under `permuted_f1`, and the p-value (1 + as high) / (1 + B) of Phipson & Smyth (2010).

    Without permutations: the F1 of the expected confusion matrix. It is the same where speakers have equally many utterances, since
    the sums of rows and of columns are then fixed, and F1 is linear in the hits.
    """
    if permutations == 0:
        matrix = found.matrix()[0]
        return float(macro_f1(np.outer(matrix.sum(axis=1), matrix.sum(axis=0)) / matrix.sum())), None
    null = permuted_f1(found, permutations, seed)
    return float(null.mean()), float((1 + np.count_nonzero(null >= f1 - 1e-12)) / (permutations + 1))
