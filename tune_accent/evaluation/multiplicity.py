"""What a search over noise would have found: the best of many trials looks good by being the best.

Two corrections, both from the per-speaker rows of the best trial alone. The *null maximum* is the macro-F1 that the best of N trials without
any accent in them would reach. The *optimism* is what the best of N equally good trials gains by luck. Both take the trials as independent;
trials of one search share speakers and are alike, so the true optimism is smaller: it is an upper figure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from tune_accent.evaluation.accent import Confusions, permuted_f1
from tune_accent.evaluation.comparison import replicates
from tune_accent.evaluation.figures import Evaluation
from tune_accent.evaluation.table import Floats


@dataclass(frozen=True)
class ExpectedMaximum:
    """Macro-F1 of N trials.

    Attributes:
        trials: N.
        chance, sd: mean and standard deviation of one null trial: predictions of the best fixed, accents permuted across speakers.
        null_maximum: expected best of N such trials.
        sigma: standard deviation of the best's own F1 over speakers (bootstrap).
        optimism: sigma · m_N, what the best of N equally good trials is expected to exceed their common value by.
    """

    trials: int
    chance: float
    sd: float
    null_maximum: float
    sigma: float
    optimism: float


def null_of_best(evaluation: Evaluation, trials: int, seed: int, permutations: int = 999) -> ExpectedMaximum:
    """The expected maximum of `trials` null trials, to stand beside the best value of a search.

    Args:
        evaluation: of the best trial, with its per-speaker rows.
        trials: N, how many were compared.
        seed: of permutations and bootstrap.
        permutations: B. The expected maximum cannot exceed the largest of them, so B should be well above N.

    Raises:
        ValueError: fewer than one trial or two permutations.
    """
    if trials < 1 or permutations < 2:
        raise ValueError(f"at least 1 trial and 2 permutations are needed, got {trials} and {permutations}")
    rows = evaluation.speakers
    found = Confusions(
        np.asarray(list(rows.predicted.values()), dtype=np.float64), np.asarray([rows.accent[name] for name in rows.predicted])
    )
    null = permuted_f1(found, permutations, np.random.SeedSequence(seed))
    sigma = float(replicates(evaluation, "accent_f1", seed=seed).std(ddof=1))
    return ExpectedMaximum(
        trials=trials,
        chance=float(null.mean()),
        sd=float(null.std(ddof=1)),
        null_maximum=maximum_of_draws(null, trials),
        sigma=sigma,
        optimism=sigma * normal_maximum(trials),
    )


def maximum_of_draws(values: Floats, draws: int) -> float:
    """Expected maximum of `draws` independent draws, with replacement, from `values`: Σ x₍ᵢ₎ [(i/B)ᴺ - ((i-1)/B)ᴺ]."""
    reached = (np.arange(len(values) + 1) / len(values)) ** draws
    return float(np.sort(values) @ np.diff(reached))


def normal_maximum(draws: int) -> float:
    """m_N, the expected maximum of N independent standard normal variables: ∫ x N φ(x) Φ(x)ᴺ⁻¹ dx, by the trapezoidal rule."""
    x = np.linspace(-40.0, 40.0, 80_001)
    density = np.exp(-0.5 * x * x) / np.sqrt(2.0 * np.pi)
    return float(np.trapezoid(x * draws * density * ndtr(x) ** (draws - 1), x))
