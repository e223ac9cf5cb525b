"""The linear probe: StandardScaler on its training rows, then L2 multinomial logistic regression with balanced classes.

Every probe is fitted at all strengths of the grid at once; inner grouped cross-validation then picks one by class-balanced log loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import numpy as np
from threadpoolctl import ThreadpoolController

from tune_accent.evaluation.solver import solve
from tune_accent.evaluation.table import Bools, Floats, Ints

CELLS = 2_000_000  # float64 cells of features that are solved together: larger sets leave the cache
AXES = 1024  # above this many, finding the principal axes costs more than it saves


@dataclass(frozen=True)
class Design:
    """Training data of one probe: rows (n, D), labels (n,) in 0 … classes - 1; classes may be absent."""

    rows: Floats
    labels: Ints
    classes: int


@dataclass(frozen=True)
class Probe:
    """A probe at S strengths: mean (D,), scale (D,), weights (D, S, K), bias (S, K), present (K,)."""

    mean: Floats
    scale: Floats
    weights: Floats
    bias: Floats
    present: Bools

    def logits(self, rows: Floats) -> Floats:
        """(n, D) → (n, S, K); -inf for classes that the probe has never seen."""
        standard = (rows - self.mean) / self.scale
        flat = standard @ self.weights.reshape(len(self.mean), -1)
        return np.where(self.present, flat.reshape(len(rows), *self.bias.shape) + self.bias, -np.inf)

    def predict(self, rows: Floats, strength: int) -> Ints:
        """Predicted class (n,) at one strength of the grid."""
        return np.asarray(self.logits(rows)[:, strength].argmax(axis=1))


def fit(designs: Sequence[Design], strengths: Sequence[float]) -> list[Probe]:
    """Fit every design at every strength; designs of similar size are solved together."""
    probes: dict[int, Probe] = {}
    order = sorted(range(len(designs)), key=lambda i: (designs[i].classes, len(designs[i].rows), i))
    for group in _groups(designs, order):
        fitted = _fit_group([designs[i] for i in group], np.asarray(strengths, dtype=np.float64))
        probes.update(zip(group, fitted, strict=True))
    return [probes[i] for i in range(len(designs))]


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
    mean = rows.mean(axis=0)
    variance = rows.var(axis=0)
    rounding = len(rows) * np.finfo(np.float64).eps
    constant = variance <= rounding * variance + (rounding * mean) ** 2
    return mean, np.where(constant, 1.0, np.sqrt(variance))


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS to one thread: sums in one order, and no fight with the other trials of the machine."""
    with _threadpools().limit(limits=1, user_api="blas"):
        yield


@cache
def _threadpools() -> ThreadpoolController:
    return ThreadpoolController()


def _groups(designs: Sequence[Design], order: Sequence[int]) -> Iterator[list[int]]:
    """Runs of designs that share the number of classes, differ less than twofold in rows, and fit the cell budget."""
    group: list[int] = []
    for i in order:
        design = designs[i]
        if group:
            first = designs[group[0]]
            cells = (len(group) + 1) * len(design.rows) * min(design.rows.shape)
            if design.classes != first.classes or len(design.rows) > 1.6 * len(first.rows) or cells > CELLS:
                yield group
                group = []
        group.append(i)
    if group:
        yield group


def _fit_group(designs: Sequence[Design], strengths: Floats) -> list[Probe]:
    count, longest, width = len(designs), max(len(design.rows) for design in designs), designs[0].rows.shape[1]
    classes = designs[0].classes
    scalers = [scaler(design.rows) for design in designs]
    standard = np.zeros((count, longest, width))
    target = np.zeros((count, longest, classes))
    weight = np.zeros((count, longest))
    present = np.zeros((count, classes), dtype=np.bool_)
    for p, (design, (mean, scale)) in enumerate(zip(designs, scalers, strict=True)):
        rows = len(design.rows)
        sizes = np.bincount(design.labels, minlength=classes)
        standard[p, :rows] = (design.rows - mean) / scale
        target[p, np.arange(rows), design.labels] = 1.0
        weight[p, :rows] = rows / (np.count_nonzero(sizes) * sizes[design.labels])
        present[p] = sizes > 0
    reduced, back = _reduce(standard)
    ones = np.ones((count, longest, 1))
    fitted = solve(np.concatenate([reduced, ones], axis=2), target, weight, present, strengths)
    inner = fitted[:, :-1].reshape(count, reduced.shape[2], -1)
    weights = (inner if back is None else back @ inner).reshape(count, width, len(strengths), classes)
    return [Probe(*scalers[p], weights[p], fitted[p, -1], present[p]) for p in range(count)]


def _reduce(x: Floats) -> tuple[Floats, Floats | None]:
    """Rotate (P, n, D) onto its principal axes: the ridge does not see a rotation, and fewer rows than D need no more than n axes.

    Returns:
        Coordinates (P, n, r) and the map back (P, D, r), r = min(n, D); x itself and None where that is too large to pay.
    """
    _, rows, width = x.shape
    if min(rows, width) > AXES:
        return x, None
    if rows <= width:
        squares, vectors = np.linalg.eigh(x @ x.transpose(0, 2, 1))
        floor = squares[:, -1:] * 1e-13
        kept = squares > floor
        root = np.sqrt(np.where(kept, squares, 0.0))[:, None, :]
        coordinates = vectors * root
        return coordinates, x.transpose(0, 2, 1) @ (
            vectors * np.where(kept[:, None, :], 1.0 / np.where(root > 0, root, 1.0), 0.0)
        )
    _, axes = np.linalg.eigh(x.transpose(0, 2, 1) @ x)
    return x @ axes, axes
