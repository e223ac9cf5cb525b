"""Multinomial logistic regression for many small problems at once: Newton's method with conjugate gradients.

Minimises what scikit-learn's `LogisticRegression(C=C)` minimises, C · Σ weight · cross-entropy + ½ ‖W‖² with a free intercept (‖W‖² for
two classes), for P designs × S strengths in one set of array operations. Scikit-learn's per-fit overhead is most of the cost of a probe on sixty rows.
"""

from __future__ import annotations

import logging

import numpy as np

from tune_accent.evaluation.table import Bools, Floats

LOG = logging.getLogger(__name__)

TOLERANCE = 1e-8  # largest entry of the gradient; the objective is 1-strongly convex in W, so W is that close to the optimum
NEWTON_STEPS = 60
CG_STEPS = 400


def solve(x: Floats, target: Floats, weight: Floats, present: Bools, strengths: Floats) -> Floats:
    """Fit P designs at S strengths.

    Args:
        x: (P, n, r) features, the last column ones (its row of the result is the unpenalised intercept).
        target: (P, n, K) one-hot labels, zeros in rows that only pad.
        weight: (P, n) row weights, zero in rows that only pad.
        present: (P, K) classes that occur in the design; absent ones keep zero coefficients and never win.
        strengths: (S,) inverse L2 strengths C.

    Returns:
        (P, r, S, K) coefficients.
    """
    problem = _Problem(x, target, weight, present, strengths)
    coefficients = np.zeros((x.shape[0], x.shape[2], len(strengths), target.shape[2]))
    logits = np.zeros((x.shape[0], x.shape[1], len(strengths), target.shape[2]))
    for _ in range(NEWTON_STEPS):
        value, probability, gradient = problem.at(coefficients, logits)
        active = np.abs(gradient).max(axis=(1, 3)) > TOLERANCE
        if not active.any():
            return coefficients
        step = problem.newton_step(probability, gradient, active)
        change = problem.product(step)
        length = _line_search(problem, coefficients, logits, step, change, value, _dot(gradient, step), active)
        coefficients = coefficients + length * step
        logits = logits + length * change
    LOG.warning("%d probes stopped before they converged", int(active.sum()))
    return coefficients


class _Problem:
    """The objective, its gradient and its Hessian as a product."""

    def __init__(self, x: Floats, target: Floats, weight: Floats, present: Bools, strengths: Floats) -> None:
        self.x, self.xt = x, np.ascontiguousarray(x.transpose(0, 2, 1))
        self.target = target[:, :, None, :]
        self.weight = weight[:, :, None, None] * strengths[None, None, :, None]
        self.absent = np.where(present, 0.0, -np.inf)[:, None, None, :]
        pair = present.sum(axis=1) == 2  # scikit-learn's binary form penalises one vector, not two opposite halves of it
        self.ridge = np.repeat(np.where(pair, 2.0, 1.0)[:, None, None, None], x.shape[2], axis=1)
        self.ridge[:, -1] = 0.0
        self.squares = self.xt * self.xt

    def product(self, direction: Floats) -> Floats:
        """x · direction: (P, r, S, K) → (P, n, S, K)."""
        designs, width, strengths, classes = direction.shape
        flat = self.x @ direction.reshape(designs, width, strengths * classes)
        return flat.reshape(designs, -1, strengths, classes)

    def adjoint(self, residual: Floats) -> Floats:
        """xᵀ · residual: (P, n, S, K) → (P, r, S, K)."""
        designs, rows, strengths, classes = residual.shape
        flat = self.xt @ residual.reshape(designs, rows, strengths * classes)
        return flat.reshape(designs, -1, strengths, classes)

    def preconditioner(self, curvature: Floats) -> Floats:
        """Inverse of the Hessian's diagonal (P, r, S, K), from weight · p · (1 - p), (P, n, S, K)."""
        designs, rows, strengths, classes = curvature.shape
        flat = self.squares @ curvature.reshape(designs, rows, strengths * classes)
        return np.asarray(1.0 / (self.ridge + flat.reshape(designs, -1, strengths, classes) + 1e-12))

    def loss(self, coefficients: Floats, logits: Floats) -> Floats:
        """Objective, (P, S)."""
        return self._value(coefficients, logits, *self._softmax(logits)[1:])

    def at(self, coefficients: Floats, logits: Floats) -> tuple[Floats, Floats, Floats]:
        """Objective (P, S), class probabilities (P, n, S, K), gradient (P, r, S, K)."""
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

    def newton_step(self, probability: Floats, gradient: Floats, active: Bools) -> Floats:
        """Preconditioned conjugate gradients on H · step = -gradient, to a tolerance that tightens as the gradient falls."""
        weighted = self.weight * probability
        step = np.zeros_like(gradient)
        residual = -gradient
        precondition = self.preconditioner(weighted * (1.0 - probability))
        scaled = precondition * residual
        direction = scaled
        norm = _dot(residual, scaled)
        goal = norm * np.minimum(0.01, np.sqrt(norm) * 0.1)
        for _ in range(CG_STEPS):
            live = active & (norm > goal)
            if not live.any():
                break
            projected = self.product(direction)
            centred = projected - np.einsum("pnsk,pnsk->pns", probability, projected)[..., None]
            image = self.adjoint(weighted * centred) + self.ridge * direction
            length = np.where(live, norm / np.where(live, _dot(direction, image), 1.0), 0.0)[:, None, :, None]
            step = step + length * direction
            residual = residual - length * image
            scaled = precondition * residual
            following = _dot(residual, scaled)
            ratio = np.where(live, following / np.where(live, norm, 1.0), 0.0)[:, None, :, None]
            direction = scaled + ratio * direction
            norm = np.where(live, following, norm)
        return step


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
        wide = length[:, None, :, None]
        reached = problem.loss(coefficients + wide * step, logits + wide * change)
        bad = active & (reached > value + 1e-4 * length * slope + slack)
        if not bad.any():
            break
        length = np.where(bad, 0.5 * length, length)
    return length[:, None, :, None]


def _dot(left: Floats, right: Floats) -> Floats:
    return np.asarray(np.einsum("prsk,prsk->ps", left, right))
