"""Multinomial logistic regression for many problems at once: Newton's method, its steps by preconditioned conjugate gradients.

Minimises what scikit-learn's `LogisticRegression(C=C)` minimises, C · Σ weight · cross-entropy + ½ ‖W‖² with a free intercept (‖W‖² for
two classes), for P designs × S strengths in one set of array operations. Scikit-learn's per-fit overhead is most of the cost of a probe on sixty rows;
on thousands of rows it is the iterations, and these the preconditioner saves.

Values and gradients are float64 and decide when a problem is solved. The conjugate gradients inside a step are float32: the next step corrects their error.
At the optimum coefficients sum to zero over classes; every step does, so the last class is never multiplied out.
"""

from __future__ import annotations

import logging

import numpy as np

from tune_accent.evaluation.features import Features, Reals
from tune_accent.evaluation.table import Bools, Floats

LOG = logging.getLogger(__name__)

TOLERANCE = 1e-8  # largest entry of the gradient; the objective is 1-strongly convex in W, so W is that close to the optimum
RELATIVE = 1e-9  # of C · Σ weight, where that is more: scikit-learn's `tol` of a mean loss (1e-4 there). Logits of 10,000 × 2,048 rows are then within 1e-4
NEWTON_STEPS = 60
CG_STEPS = 300


def solve(
    features: Features,
    target: Floats,
    weight: Floats,
    present: Bools,
    strengths: Floats,
    start: Floats | None = None,
    rough: float = 1.0,
) -> Floats:
    """Fit P designs at S strengths.

    Args:
        features: the rows.
        target: (P, n, K) one-hot labels, zeros in rows without weight.
        weight: (P, n) row weights, zero in rows that a design does not have.
        present: (P, K) classes that occur in the design; absent ones keep coefficients of (nearly) zero and never win.
        strengths: (S,) inverse L2 strengths C, ascending.
        start: (P, r + 1, S, K) coefficients to begin with, which sum to zero over classes; None begins with zeros.
        rough: by how much the gradient that is left may exceed the tolerances.

    Returns:
        (P, r + 1, S, K) coefficients, the intercept last.
    """
    coefficients = np.zeros((*features.spectrum.shape, len(strengths), target.shape[2]))
    logits = np.zeros((*weight.shape, len(strengths), target.shape[2]))
    if start is not None:
        coefficients += start
        logits += _with_last(features.product(coefficients[..., :-1]))
    size = np.full((len(weight), len(strengths)), np.inf)
    tolerance = rough * np.maximum(TOLERANCE, RELATIVE * weight.sum(axis=1)[:, None] * strengths)
    first = 0  # small strengths are solved first
    for _ in range(NEWTON_STEPS):
        rest = np.s_[:, :, first:]
        problem = _Problem(features, target, weight, present, strengths[first:])
        value, probability, gradient = problem.at(coefficients[rest], logits[rest])
        active = np.abs(gradient).max(axis=(1, 3)) > tolerance[:, first:]
        if not active.any():
            return coefficients
        before, size[:, first:] = size[:, first:].copy(), np.sqrt(_dot(gradient, gradient))
        goal = _accuracy(before, size[:, first:])
        step = problem.newton_step(probability, gradient, goal, active, 0.3 * tolerance[:, first:])
        change = problem.product(step)
        length = _line_search(problem, coefficients[rest], logits[rest], step, change, value, _dot(gradient, step), active)
        coefficients[rest] += length * step
        logits[rest] += length * change
        first += int(np.argmax(active.any(axis=0)))
    LOG.warning("%d probes stopped before they converged", int(active.sum()))
    return coefficients


def _accuracy(before: Floats, size: Floats) -> Floats:
    """How far a step's residual must fall, (P, S): the more, the faster gradients fall (after Eisenstat & Walker 1996, choice 2)."""
    return np.where(np.isfinite(before), np.clip((size / before) ** 1.5, 1e-4, 0.1), 0.1)


class _Problem:
    """The objective, its gradient and its Newton step."""

    def __init__(self, features: Features, target: Floats, weight: Floats, present: Bools, strengths: Floats) -> None:
        self.features = features
        self.target = target[:, :, None, :]
        self.weight = weight[:, :, None, None] * strengths[None, None, :, None]
        self.absent = np.where(present, 0.0, -np.inf)[:, None, None, :]
        classes = present.sum(axis=1)
        self.freedom = np.maximum(classes - 1, 1)
        self.share = (present / classes[:, None])[:, None, None, :]
        # scikit-learn's binary form penalises one vector, not two opposite halves of it
        self.ridge = np.repeat(np.where(classes == 2, 2.0, 1.0)[:, None, None, None], features.spectrum.shape[1], axis=1)
        self.ridge[:, -1] = 0.0

    def product(self, coefficients: Reals) -> Reals:
        """Logits (P, n, S, K) of coefficients that sum to zero over classes."""
        return _with_last(self.features.product(coefficients[..., :-1]))

    def adjoint(self, residual: Reals) -> Reals:
        """The transpose (P, r + 1, S, K), of residuals that sum to zero over classes."""
        return _with_last(self.features.adjoint(residual[..., :-1]))

    def loss(self, coefficients: Floats, logits: Floats) -> Floats:
        """Objective, (P, S)."""
        return self._value(coefficients, logits, *self._softmax(logits)[1:])

    def at(self, coefficients: Floats, logits: Floats) -> tuple[Floats, Floats, Floats]:
        """Objective (P, S), class probabilities (P, n, S, K), gradient (P, r + 1, S, K)."""
        probability, top, total = self._softmax(logits)
        gradient = self.adjoint(self.weight * (probability - self.target)) + self.ridge * coefficients
        return self._value(coefficients, logits, top, total), probability, gradient

    def _softmax(self, logits: Floats) -> tuple[Floats, Floats, Floats]:
        masked = logits + self.absent
        top = masked.max(axis=3, keepdims=True)
        raised = np.exp(masked - top)
        total = raised.sum(axis=3, keepdims=True)
        return raised / total, top, total

    def _value(self, coefficients: Floats, logits: Floats, top: Floats, total: Floats) -> Floats:
        right = (logits * self.target).sum(axis=3, keepdims=True)
        data = (self.weight * (top + np.log(total) - right)).sum(axis=(1, 3))
        return np.asarray(data + 0.5 * (self.ridge * coefficients * coefficients).sum(axis=(1, 3)))

    def newton_step(self, probability: Floats, gradient: Floats, accuracy: Floats, active: Bools, enough: Floats) -> Floats:
        """Conjugate gradients on Hessian · step = -gradient.

        Args:
            probability, gradient: where the step begins.
            accuracy: (P, S) share of the gradient that may be left, in the norm of the preconditioner.
            active: (P, S) problems that need a step.
            enough: (P, S) largest entry that may be left in any case.
        """
        size = np.maximum(np.sqrt(_dot(gradient, gradient)), 1e-300)
        hessian = _Hessian(self, probability)
        residual = (-gradient / _wide(size)).astype(np.float32)
        step = np.zeros_like(residual)
        direction = hessian.precondition(residual, 0)
        norm = _dot(residual, direction)
        goal = norm * accuracy**2
        for _ in range(CG_STEPS):
            live = active & (norm > goal) & (np.abs(residual).max(axis=(1, 3)) * size > enough)
            if not live.any():
                break
            first = int(np.argmax(live.any(axis=0)))
            rest, live = np.s_[:, :, first:], live[:, first:]
            image = hessian.product(direction[rest], first)
            slope = _dot(direction[rest], image)
            length = np.where(live, norm[:, first:] / np.where(slope > 0, slope, 1.0), 0.0)
            step[rest] += _single(length) * direction[rest]
            residual[rest] -= _single(length) * image
            scaled = hessian.precondition(residual[rest], first)
            following = _dot(residual[rest], scaled)
            direction[rest] = scaled + _single(np.where(live, following / norm[:, first:], 0.0)) * direction[rest]
            norm[:, first:] = np.where(live, following, norm[:, first:])
        whole = step * _wide(size)
        return np.asarray(whole - whole.sum(axis=3, keepdims=True) * self.share)


class _Hessian:
    """The Hessian at one point, in float32, and an approximate inverse.

    Row i has the curvature A_i ⊗ x_i x_iᵀ, A_i = weight · (diag p - p pᵀ); the approximation is (Σ A_i) ⊗ (Σ weight · x xᵀ) / Σ weight, which is diagonal along
    principal axes of the rows and contrasts of the classes. Contrasts without curvature, the sum over classes and absent classes, get no part of a step.
    """

    def __init__(self, problem: _Problem, probability: Floats) -> None:
        self._problem = problem
        self._probability = probability.astype(np.float32)
        weighted = problem.weight * probability
        self._weighted = weighted.astype(np.float32)
        self._ridge = problem.ridge.astype(np.float32)
        mean = -(weighted.transpose(0, 2, 3, 1) @ probability.transpose(0, 2, 1, 3))
        diagonal = np.arange(mean.shape[-1])
        mean[..., diagonal, diagonal] += weighted.sum(axis=1)
        curvature, contrasts = np.linalg.eigh(mean)
        spectrum = problem.features.spectrum
        along = (spectrum / spectrum[:, -1:])[:, :, None, None] * np.maximum(curvature, 0.0)[:, None] + problem.ridge
        real = diagonal >= (len(diagonal) - problem.freedom)[:, None, None, None]
        self._contrasts = contrasts[:, None].astype(np.float32)
        self._inverse = np.where(real, 1.0 / (along + 1e-9), 0.0).astype(np.float32)

    def product(self, direction: Reals, first: int) -> Reals:
        """Hessian · direction (P, r + 1, S - first, K), for the strengths from `first` on."""

        def curved(logits: Reals, rows: slice) -> Reals:
            every = _with_last(logits)
            every -= np.einsum("pnsk,pnsk->pns", self._probability[:, rows, first:], every)[..., None]
            every *= self._weighted[:, rows, first:]
            return every[..., :-1]

        image = _with_last(self._problem.features.around(direction[..., :-1], curved))
        return np.asarray(image + self._ridge * direction)

    def precondition(self, residual: Reals, first: int) -> Reals:
        """Approximate inverse · residual (P, r + 1, S - first, K), for the strengths from `first` on."""
        contrasts, inverse = self._contrasts[:, :, first:], self._inverse[:, :, first:]
        turned = self._problem.features.to_axes(residual)[..., None, :] @ contrasts
        back = (turned * inverse[..., None, :]) @ contrasts.swapaxes(-1, -2)
        return self._problem.features.from_axes(back[..., 0, :])


def _line_search(
    problem: _Problem,
    coefficients: Floats,
    logits: Floats,
    step: Floats,
    change: Floats,
    value: Floats,
    slope: Floats,
    active: Bools,
) -> Floats:
    """Step lengths (P, 1, S, 1): 1, halved until the objective falls enough (Armijo); 0 where a problem is solved."""
    length = np.where(active, 1.0, 0.0)
    slack = 1e-12 * np.abs(value)  # of rounding: near the optimum the objective cannot see the step any more
    for _ in range(40):
        reached = problem.loss(coefficients + _wide(length) * step, logits + _wide(length) * change)
        bad = active & (reached > value + 1e-4 * length * slope + slack)
        if not bad.any():
            break
        length = np.where(bad, 0.5 * length, length)
    return _wide(length)


def _with_last(values: Reals) -> Reals:
    return np.concatenate([values, -values.sum(axis=-1, keepdims=True)], axis=-1)


def _wide(values: Floats) -> Floats:
    return values[:, None, :, None]


def _single(values: Floats) -> Reals:
    return _wide(values).astype(np.float32)


def _dot(left: Reals, right: Reals) -> Floats:
    return np.asarray(np.einsum("prsk,prsk->ps", left, right), dtype=np.float64)
