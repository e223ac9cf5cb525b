"""The rows of several probes as one linear map: small designs padded into a stack, large ones as parts of one shared matrix.

Both give the products of the solver in the precision they are asked in, and axes in which the designs' rows are nearly uncorrelated.
Rows are taken as `StandardScaler` leaves them and shifted by their weighted mean, which the free intercept takes up: features and intercept no longer mix.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tune_accent.evaluation.table import Floats

Reals: TypeAlias = npt.NDArray[Any]  # float64 or float32; the answer has the precision of the question

BLOCK = 500  # rows of a shared matrix that are used twice while they are in the cache
FLOOR = 1e-13  # of the largest square: principal axes below are rounding


class Features(ABC):
    """P designs of r features and, as the last coefficient, an intercept.

    Attributes:
        spectrum: (P, r + 1) Σ weight · feature² along the axes of `precondition`, the intercept last.
    """

    spectrum: Floats

    @abstractmethod
    def product(self, coefficients: Reals) -> Reals:
        """Logits (P, n, S, K) of coefficients (P, r + 1, S, K)."""

    @abstractmethod
    def adjoint(self, residual: Reals) -> Reals:
        """The transpose of `product`: (P, n, S, K) → (P, r + 1, S, K)."""

    def around(self, coefficients: Reals, between: Callable[[Reals, slice], Reals]) -> Reals:
        """`adjoint(between(product(coefficients)))`, where `between` takes the rows of a slice by themselves."""
        return self.adjoint(between(self.product(coefficients), slice(None)))

    @abstractmethod
    def to_axes(self, values: Reals) -> Reals:
        """(P, r + 1, S, K) float32 along the axes."""

    @abstractmethod
    def from_axes(self, values: Reals) -> Reals:
        """Back from the axes."""

    @abstractmethod
    def unfold(self, fitted: Floats) -> tuple[Floats, Floats]:
        """From coefficients (P, r + 1, S, K) to weights (P, D, S, K) and bias (P, S, K) for rows as StandardScaler leaves them."""


class Stack(Features):
    """Designs of similar size, padded with rows that have no weight and turned onto their principal axes.

    The ridge does not see a rotation, and n rows need no more than n axes.

    Args:
        rows: (P, n, D), each design standardised, zeros in rows that only pad.
        weight: (P, n), zero in rows that only pad.
    """

    def __init__(self, rows: Floats, weight: Floats) -> None:
        total = weight.sum(axis=1)
        self._centre = np.einsum("pn,pnd->pd", weight, rows) / total[:, None]
        root = np.sqrt(weight)[:, :, None]
        self._scaled = (rows - self._centre[:, None]) * root
        if rows.shape[1] <= rows.shape[2]:
            squares, vectors = np.linalg.eigh(self._scaled @ self._scaled.transpose(0, 2, 1))
            squares = np.where(squares > squares[:, -1:] * FLOOR, squares, 0.0)
            singular = np.sqrt(squares)[:, None]
            coordinates = vectors * singular / np.where(root > 0, root, 1.0)
            self._back: Floats = vectors * np.where(singular > 0, 1.0 / np.where(singular > 0, singular, 1.0), 0.0)
            self._by_rows = True
        else:
            squares, self._back = np.linalg.eigh(self._scaled.transpose(0, 2, 1) @ self._scaled)
            squares = np.maximum(squares, 0.0)
            coordinates = (self._scaled @ self._back) / np.where(root > 0, root, 1.0)
            self._by_rows = False
        self.spectrum = np.concatenate([squares, total[:, None]], axis=1)
        self._x = _both(np.concatenate([coordinates, np.ones((*weight.shape, 1))], axis=2))

    def product(self, coefficients: Reals) -> Reals:
        designs, width, strengths, classes = coefficients.shape
        flat: Reals = self._x[coefficients.dtype] @ coefficients.reshape(designs, width, strengths * classes)
        return flat.reshape(designs, -1, strengths, classes)

    def adjoint(self, residual: Reals) -> Reals:
        designs, rows, strengths, classes = residual.shape
        flat = self._x[residual.dtype].transpose(0, 2, 1) @ residual.reshape(designs, rows, strengths * classes)
        return flat.reshape(designs, -1, strengths, classes)

    def to_axes(self, values: Reals) -> Reals:
        return values

    def from_axes(self, values: Reals) -> Reals:
        return values

    def unfold(self, fitted: Floats) -> tuple[Floats, Floats]:
        designs, _, strengths, classes = fitted.shape
        inner = self._back @ fitted[:, :-1].reshape(designs, -1, strengths * classes)
        if self._by_rows:
            inner = self._scaled.transpose(0, 2, 1) @ inner
        weights = inner.reshape(designs, -1, strengths, classes)
        return weights, fitted[:, -1] - np.einsum("pd,pdsk->psk", self._centre, weights)


class Shared(Features):
    """Designs that are large parts of the same rows: every product is one pass over one matrix, for all of them.

    The axes are the principal axes of the heaviest design; the others are near enough.

    Args:
        rows: (N, D) standardised over all N.
        stretch: (P, D) by which a design's own StandardScaler stretches them further; 0 for a column that is constant in the design.
        offset: (P, D) which it then adds.
        weight: (P, N), zero in rows that a design does not have.
    """

    def __init__(self, rows: Floats, stretch: Floats, offset: Floats, weight: Floats) -> None:
        total = weight.sum(axis=1)
        centre = weight @ rows / total[:, None]
        self._offset = offset + centre * stretch
        heaviest = int(np.argmax(total))
        self._x, self._stretch, self._centre = map(_both, (rows, stretch[:, :, None, None], centre))
        single = np.dtype(np.float32)
        scaled = (self._x[single] - self._centre[single][heaviest]) * np.sqrt(weight[heaviest]).astype(single)[:, None]
        squares, self._axes = np.linalg.eigh(scaled.T @ scaled)
        shares = np.maximum(squares, 0.0) / total[heaviest] * total[:, None]
        self.spectrum = np.concatenate([shares, total[:, None]], axis=1)

    def part(self, which: Sequence[int]) -> Shared:
        """Some of the designs, in this order; they go on sharing the matrix."""
        found = copy(self)
        found.spectrum, found._offset = self.spectrum[which], self._offset[which]
        found._stretch, found._centre = ({kind: x[which] for kind, x in own.items()} for own in (self._stretch, self._centre))
        return found

    def product(self, coefficients: Reals) -> Reals:
        stretched, shift = self._stretched(coefficients)
        return _deep(self._x[coefficients.dtype] @ stretched + shift, coefficients)

    def adjoint(self, residual: Reals) -> Reals:
        flat = _flat(residual)
        return self._gathered(np.ascontiguousarray(flat.T) @ self._x[residual.dtype], flat.sum(axis=0), residual)

    def around(self, coefficients: Reals, between: Callable[[Reals, slice], Reals]) -> Reals:
        stretched, shift = self._stretched(coefficients)
        sums, totals = np.zeros_like(stretched.T), np.zeros_like(shift)
        for start in range(0, len(self._x[coefficients.dtype]), BLOCK):
            rows = slice(start, start + BLOCK)
            x = self._x[coefficients.dtype][rows]
            flat = _flat(between(_deep(x @ stretched + shift, coefficients), rows))
            sums += np.ascontiguousarray(flat.T) @ x
            totals += flat.sum(axis=0)
        return self._gathered(sums, totals, coefficients)

    def _stretched(self, coefficients: Reals) -> tuple[Reals, Reals]:
        """Coefficients (D, P · S · K) and intercepts (P · S · K,) for the rows as they are stored."""
        stretched = coefficients[:, :-1] * self._stretch[coefficients.dtype]
        shift = coefficients[:, -1] - np.einsum("pd,pdsk->psk", self._centre[coefficients.dtype], stretched)
        return _flat(stretched), shift.reshape(-1)

    def _gathered(self, sums: Reals, totals: Reals, like: Reals) -> Reals:
        """From Σ residual · stored row (P · S · K, D) and Σ residual (P · S · K,) to coefficients (P, D + 1, S, K)."""
        designs, _, strengths, classes = like.shape
        inner = sums.reshape(designs, strengths, classes, -1).transpose(0, 3, 1, 2)
        total = totals.reshape(designs, 1, strengths, classes)
        inner = (inner - self._centre[like.dtype][:, :, None, None] * total) * self._stretch[like.dtype]
        return np.concatenate([inner, total], axis=1)

    def to_axes(self, values: Reals) -> Reals:
        return self._turned(self._axes.T, values)

    def from_axes(self, values: Reals) -> Reals:
        return self._turned(self._axes, values)

    def _turned(self, axes: Reals, values: Reals) -> Reals:
        return np.concatenate([_deep(axes @ _flat(values[:, :-1]), values), values[:, -1:]], axis=1)

    def unfold(self, fitted: Floats) -> tuple[Floats, Floats]:
        weights = fitted[:, :-1]
        return weights, fitted[:, -1] - np.einsum("pd,pdsk->psk", self._offset, weights)


def _both(values: Floats) -> dict[Any, Reals]:
    return {np.dtype(np.float64): values, np.dtype(np.float32): values.astype(np.float32)}


def _flat(values: Reals) -> Reals:
    """(P, n, S, K) → (n, P · S · K)."""
    return values.transpose(1, 0, 2, 3).reshape(values.shape[1], -1)


def _deep(flat: Reals, like: Reals) -> Reals:
    """(n, P · S · K) → (P, n, S, K), with P, S and K of `like`."""
    designs, _, strengths, classes = like.shape
    return flat.reshape(-1, designs, strengths, classes).transpose(1, 0, 2, 3)
