"""The linear probe: StandardScaler on its training rows, then L2 multinomial logistic regression with balanced classes.

Probes of the inner grouped cross-validation are fitted at all strengths of the grid at once; these pick one by class-balanced log loss, at which alone the probe
that counts is fitted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from threadpoolctl import ThreadpoolController

from tune_accent.evaluation.features import Features, Shared, Stack
from tune_accent.evaluation.solver import solve
from tune_accent.evaluation.table import Bools, Floats, Ints

CELLS = 2_000_000  # float64 cells of features that are stacked together: larger sets leave the cache
LARGE = 200_000  # cells of a design above which it is not stacked with others but shares its matrix with them
ROUGH = 100.0  # the gradient left in a probe that only helps to choose a strength, in tolerances of the solver: scikit-learn's default is 1,000 times that
COLUMNS = 256  # of coefficients in one pass over a shared matrix


@dataclass(frozen=True)
class Design:
    """Training data of one probe.

    Attributes:
        rows: (N, D); designs that give the same array share the work on it.
        labels: (n,) in 0 … classes - 1; classes may be absent.
        classes: K.
        at: (n,) which of the rows, ascending; None takes them all.
    """

    rows: Floats
    labels: Ints
    classes: int
    at: Ints | None = None

    @property
    def own(self) -> Floats:
        """The rows of this design, (n, D)."""
        return self.rows if self.at is None else self.rows[self.at]

    @property
    def large(self) -> bool:
        """Whether it has rows enough for the axes of a larger set of them to suit it."""
        rows, width = len(self.labels), int(self.rows.shape[1])
        return rows >= 2 * width and rows * width >= LARGE


@dataclass(frozen=True)
class Probe:
    """A probe at S strengths.

    Attributes:
        mean, scale: (D,) of the rows that it was fitted on.
        weights, bias: (D, S, K) and (S, K).
        present: (K,) classes that it has seen.
        chosen: index of the strength of the grid at which alone it was fitted (S = 1); None where it was fitted at all of them.
    """

    mean: Floats
    scale: Floats
    weights: Floats
    bias: Floats
    present: Bools
    chosen: int | None = None

    def logits(self, rows: Floats) -> Floats:
        """(n, D) → (n, S, K); -inf for classes that the probe has never seen."""
        standard = (rows - self.mean) / self.scale
        flat = standard @ self.weights.reshape(len(self.mean), -1)
        return np.where(self.present, flat.reshape(len(rows), *self.bias.shape) + self.bias, -np.inf)

    def predict(self, rows: Floats, strength: int) -> Ints:
        """Predicted class (n,) at one strength of the grid.

        Raises:
            ValueError: the probe was fitted at another strength alone.
        """
        if self.chosen not in (None, strength):
            raise ValueError(f"the probe was fitted at strength {self.chosen} of the grid, not {strength}")
        return np.asarray(self.logits(rows)[:, strength if self.chosen is None else 0].argmax(axis=1))


def fit(designs: Sequence[Design], strengths: Sequence[float], rough: float = 1.0) -> list[Probe]:
    """Fit every design at every strength; designs of similar size, or that share large parts of one matrix, are solved together."""
    probes: dict[int, Probe] = {}
    grid = np.asarray(strengths, dtype=np.float64)
    for group in _stacks(designs):
        probes.update(zip(group, _fit_stack([designs[i] for i in group], grid, rough), strict=True))
    for group in _sharing(designs, len(grid)):
        probes.update(zip(group, _Shared([designs[i] for i in group]).probes(range(len(group)), grid, rough=rough), strict=True))
    return [probes[i] for i in range(len(designs))]


def fit_chosen(
    outer: Sequence[Design], inner: Sequence[Design], strengths: Sequence[float], pick: Callable[[Sequence[Probe]], Sequence[int]]
) -> tuple[list[int], list[Probe]]:
    """Fit `inner` at every strength and each of `outer` at one.

    Args:
        outer: the designs that count; those that share a matrix with inner ones of theirs begin where these end.
        inner: the designs of the cross-validation, whose probes may be rougher.
        strengths: the grid.
        pick: from the probes of `inner` to the index of the strength of each of `outer`.

    Returns:
        The indices, and the probes of `outer`.
    """
    grid, every = np.asarray(strengths, dtype=np.float64), [*outer, *inner]
    shared = [(group, _Shared([every[i] for i in group])) for group in _sharing(every, len(grid))]
    probes: dict[int, Probe] = {}
    for group, ready in shared:
        own = [place for place, i in enumerate(group) if i >= len(outer)]
        probes.update(zip((group[place] for place in own), ready.probes(own, grid, rough=ROUGH), strict=True))
    small = [i for i, design in enumerate(every) if not design.large]
    probes.update(_at(every, [i for i in small if i >= len(outer)], strengths, ROUGH))
    chosen = list(pick([probes[len(outer) + i] for i in range(len(inner))]))
    for c in sorted(set(chosen)):
        for group, ready in shared:
            own = [place for place, i in enumerate(group) if i < len(outer) and chosen[i] == c]
            probes.update(zip((group[place] for place in own), ready.probes(own, grid[c : c + 1], c), strict=True))
        probes.update(_at(every, [i for i in small if i < len(outer) and chosen[i] == c], strengths[c : c + 1]))
    return chosen, [replace(probes[i], chosen=c) for i, c in enumerate(chosen)]


def _at(designs: Sequence[Design], numbers: Sequence[int], strengths: Sequence[float], rough: float = 1.0) -> dict[int, Probe]:
    return dict(zip(numbers, fit([designs[i] for i in numbers], strengths, rough), strict=True))


def choose(logits: Sequence[Floats], labels: Sequence[Ints], strengths: int) -> int:
    """Index of the strength with the lowest class-balanced log loss over inner validation rows; ties go to the smaller.

    Args:
        logits: one (n, S, K) per inner fold. Rows whose class the fold's probe has never seen are left out.
        labels: one (n,) per inner fold.
        strengths: S. Without any validation row the middle of the grid is taken.
    """
    if not logits:
        return strengths // 2
    scores, truth = np.concatenate(logits), np.concatenate(labels)
    right = np.take_along_axis(scores, truth[:, None, None], axis=2)[:, :, 0]
    known = np.isfinite(right[:, 0])
    if not known.any():
        return strengths // 2
    scores, truth, right = scores[known], truth[known], right[known]
    top = scores.max(axis=2)
    loss = top + np.log(np.exp(scores - top[:, :, None]).sum(axis=2)) - right
    share = 1.0 / np.bincount(truth)[truth]
    return int(np.argmin(share @ loss))


def scaler(rows: Floats) -> tuple[Floats, Floats]:
    """Mean and scale (D,) as scikit-learn's StandardScaler: scale 1 where a column is constant up to rounding."""
    mean, deviation = _spread(rows)
    return mean, np.where(deviation > 0, deviation, 1.0)


def _spread(rows: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation (D,), 0 where a column is constant up to rounding."""
    mean = rows.mean(axis=0)
    parts = (rows[start : start + 512] - mean for start in range(0, len(rows), 512))  # of a size that stays in the cache
    variance = np.sum([np.einsum("nd,nd->d", part, part) for part in parts], axis=0) / len(rows)
    rounding = len(rows) * np.finfo(np.float64).eps
    constant = variance <= rounding * variance + (rounding * mean) ** 2
    return mean, np.where(constant, 0.0, np.sqrt(variance))


@contextmanager
def blas_threads(count: int = 1) -> Iterator[None]:
    """Hold BLAS to `count` threads: sums in one order, and no fight with the other trials of the machine."""
    with _threadpools().limit(limits=count, user_api="blas"):
        yield


@cache
def _threadpools() -> ThreadpoolController:
    return ThreadpoolController()


def _stacks(designs: Sequence[Design]) -> Iterator[list[int]]:
    """Runs of small designs that share the number of classes, differ less than twofold in rows, and fit the cell budget."""
    small = [i for i, design in enumerate(designs) if not design.large]
    group: list[int] = []
    for i in sorted(small, key=lambda i: (designs[i].classes, len(designs[i].labels), i)):
        design = designs[i]
        if group:
            first, rows, width = designs[group[0]], len(design.labels), design.rows.shape[1]
            cells = (len(group) + 1) * rows * min(rows, width)
            if design.classes != first.classes or rows > 1.6 * len(first.labels) or cells > CELLS:
                yield group
                group = []
        group.append(i)
    if group:
        yield group


def _sharing(designs: Sequence[Design], strengths: int) -> Iterator[list[int]]:
    """Large designs of one matrix and number of classes, the largest first, each with at least half as many rows."""
    left = sorted((i for i, design in enumerate(designs) if design.large), key=lambda i: (-len(designs[i].labels), i))
    while left:
        first = designs[left[0]]
        most = max(1, COLUMNS // (strengths * first.classes))
        group = [i for i in left if _alike(first, designs[i])][:most]
        yield group
        left = [i for i in left if i not in group]


def _alike(first: Design, other: Design) -> bool:
    return (
        other.rows is first.rows
        and other.classes == first.classes
        and 2 * len(other.labels) >= len(first.labels)
        and (first.at is None or (other.at is not None and bool(np.isin(other.at, first.at).all())))
    )


class _Answers:
    """What P designs of up to n rows are fitted to: `target` (P, n, K), `weight` (P, n) and `present` (P, K) of the solver."""

    def __init__(self, count: int, rows: int, classes: int) -> None:
        self.target = np.zeros((count, rows, classes))
        self.weight = np.zeros((count, rows))
        self.present = np.zeros((count, classes), dtype=np.bool_)

    def add(self, p: int, at: Ints, labels: Ints) -> None:
        """Labels of design p, in its rows `at`, weighted as scikit-learn's `class_weight="balanced"`."""
        sizes = np.bincount(labels, minlength=self.present.shape[1])
        self.target[p, at, labels] = 1.0
        self.weight[p, at] = len(labels) / (np.count_nonzero(sizes) * sizes[labels])
        self.present[p] = sizes > 0

    def part(self, which: Sequence[int]) -> _Answers:
        """Those of some of the designs."""
        found = copy(self)
        some = list(which)
        found.target, found.weight, found.present = self.target[some], self.weight[some], self.present[some]
        return found

    def solve(self, features: Features, strengths: Floats, start: Floats | None = None, rough: float = 1.0) -> Floats:
        """Coefficients of the solver."""
        return solve(features, self.target, self.weight, self.present, strengths, start, rough)

    def probes(self, features: Features, fitted: Floats, scalers: Sequence[tuple[Floats, Floats]]) -> list[Probe]:
        """What was found, for rows as they came."""
        weights, bias = features.unfold(fitted)
        return [Probe(*own, weights[p], bias[p], self.present[p]) for p, own in enumerate(scalers)]


def _fit_stack(designs: Sequence[Design], strengths: Floats, rough: float) -> list[Probe]:
    longest, width = max(len(design.labels) for design in designs), designs[0].rows.shape[1]
    answers = _Answers(len(designs), longest, designs[0].classes)
    standard = np.zeros((len(designs), longest, width))
    scalers = []
    for p, design in enumerate(designs):
        own = design.own
        mean, scale = scaler(own)
        scalers.append((mean, scale))
        standard[p, : len(own)] = (own - mean) / scale
        answers.add(p, np.arange(len(own)), design.labels)
    features = Stack(standard, answers.weight)
    return answers.probes(features, answers.solve(features, strengths, rough=rough), scalers)


class _Shared:
    """Designs that are parts of the first one, made ready on one matrix; to be solved together or some at a time."""

    def __init__(self, designs: Sequence[Design]) -> None:
        standard = designs[0].own
        inside = np.arange(len(standard)) if designs[0].at is None else designs[0].at
        mean, scale = scaler(standard)
        standard = standard - mean
        standard /= scale
        self._answers = _Answers(len(designs), len(standard), designs[0].classes)
        means, deviations = np.empty((2, len(designs), len(mean)))
        for p, design in enumerate(designs):
            at = np.arange(len(inside)) if design.at is None else np.searchsorted(inside, design.at)
            self._answers.add(p, at, design.labels)
            means[p], deviations[p] = _spread(design.own)
        scales = np.where(deviations > 0, deviations, 1.0)
        stretch = np.where(deviations > 0, scale / scales, 0.0)
        self._features = Shared(standard, stretch, (mean - means) / scales, self._answers.weight)
        self._scalers = list(zip(means, scales, strict=True))
        self._fitted: Floats | None = None

    def probes(self, which: Sequence[int], strengths: Floats, column: int | None = None, rough: float = 1.0) -> list[Probe]:
        """Solve some of the designs.

        Args:
            which: their places.
            strengths: (S,).
            column: where the one strength stood among those of an earlier call, whose mean coefficients are then the start. Labels of those
                designs must mean the same.
            rough: of the solver.
        """
        if not which:
            return []
        answers, features = self._answers.part(which), self._features.part(list(which))
        start = None
        if (
            column is not None and self._fitted is not None and answers.present.all()
        ):  # coefficients of an absent class would stay
            start = self._fitted[:, :, column : column + 1].mean(axis=0)[None]
        fitted = answers.solve(features, strengths, start, rough)
        if column is None:
            self._fitted = fitted
        return answers.probes(features, fitted, [self._scalers[p] for p in which])
