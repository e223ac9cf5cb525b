"""Intervals by resampling speakers, stratified by accent, with the probe held fixed; never by resampling utterances.

Utterances of a speaker are not independent: an utterance bootstrap covers 46 to 71 % where it claims 95 % (benchmarks/coverage.py). The counts
depend only on the speakers' accents and the seed, so two figures of the same speakers are resampled alike and their difference is paired.

Five speakers per accent are few: the plain percentile bootstrap understates their variance by (n - 1)/n and takes normal quantiles. So n - 1
speakers are drawn and count n/(n - 1) each (Rao, Wu & Yue 1992), and quantiles are those of Student's t (Hesterberg 2015, The American
Statistician 69:371). Percentiles cannot leave the range of two or three speakers, and ± t·se does not see skewness: each bound is the wider.

Shares of right answers have a ceiling, near which most speakers make no error: no resampling of five of them shows how bad a bad one is, and the
intervals above cover 82 % at F1 .93. So figures of accents take the Bayesian bootstrap (Rubin 1981, Ann. Stat. 9:130) with a prior of a pseudo-speaker
whom the probe always gets wrong and one whom it always gets right, half a speaker each. Were speakers right or wrong as a whole, this would be the Jeffreys
interval of a share of speakers, which is the one to take for few of them near 0 or 1 (Brown, Cai & DasGupta 2001, Stat. Sci. 16:101).

Not covered: variation of the probe's training set, of the split, of the training seed.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, stdtrit

from tune_accent.evaluation.table import Floats, Ints

Bounds = tuple[float | None, float | None]
ANY, SHARE = (-np.inf, np.inf), (0.0, 1.0)


def speaker_counts(strata: Ints, resamples: int, seed: np.random.SeedSequence) -> Floats:
    """How much each speaker counts in each resample, (resamples, speakers); the sum over a stratum is its number of speakers.

    Args:
        strata: (speakers,) accent of each speaker; n - 1 of its n speakers are drawn, with replacement. One alone always counts 1.
        resamples: how many.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    counts = np.ones((resamples, len(strata)))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        n = len(members)
        if n > 1:
            counts[:, members] = generator.multinomial(n - 1, np.full(n, 1.0 / n), size=resamples) * (n / (n - 1))
    return counts


def posterior_counts(strata: Ints, pseudo: Ints, mass: float, resamples: int, seed: np.random.SeedSequence) -> Floats:
    """How much speakers and pseudo-speakers count in each draw of the Bayesian bootstrap, (resamples, speakers + pseudo-speakers).

    Weights of a stratum are Dirichlet, of shape 1 for a speaker, and sum to its number of speakers.

    Args:
        strata: (speakers,) accent of each speaker.
        pseudo: (pseudo-speakers,) accent of each pseudo-speaker.
        mass: how many speakers those of a stratum are worth together.
        resamples: how many.
        seed: of the draws.
    """
    every = np.concatenate([strata, pseudo])
    share = mass / np.bincount(pseudo)[pseudo]
    counts = np.random.default_rng(seed).gamma(np.concatenate([np.ones(len(strata)), share]), size=(resamples, len(every)))
    for stratum in np.unique(strata):
        members = every == stratum
        counts[:, members] *= np.count_nonzero(strata == stratum) / counts[:, members].sum(axis=1, keepdims=True)
    return counts


def freedom(strata: Ints) -> float:
    """Degrees of freedom of a mean over strata, by Satterthwaite (1946) for strata of equal variance; K(n - 1) where all have n; 0 where one has 1."""
    sizes = np.unique(strata, return_counts=True)[1].astype(np.float64)
    if sizes.min() < 2:
        return 0.0
    return float((1 / sizes).sum() ** 2 / (1 / (sizes**2 * (sizes - 1))).sum())


def interval(replicates: Floats, degrees: float, within: tuple[float, float] = ANY) -> tuple[float, float]:
    """95 % interval of a figure with `degrees` degrees of freedom: on each side the wider of percentile and mean ± t·sd of the replicates.

    The percentiles are those of the normal probability of ±t(.975, degrees): 2.5 and 97.5 for infinitely many degrees of freedom.

    Args:
        replicates: (resamples,).
        degrees: of freedom, over 0.
        within: smallest and largest possible value of the figure.
    """
    t = float(stdtrit(min(degrees, 1e9), 0.975))
    low, high = np.quantile(replicates, [ndtr(-t), ndtr(t)])
    mean, reach = replicates.mean(), t * replicates.std()
    return max(float(min(low, mean - reach)), within[0]), min(float(max(high, mean + reach)), within[1])


def speaker_interval(replicates: Floats, strata: Ints, within: tuple[float, float] = ANY) -> Bounds:
    """95 % interval from replicates of `speaker_counts(strata, …)`; none where an accent has a single speaker."""
    degrees = freedom(strata)
    return interval(replicates, degrees, within) if degrees else (None, None)


def posterior_interval(replicates: Floats, value: float, degrees: float) -> Bounds:
    """95 % interval from replicates of `posterior_counts`: their percentiles, as in `interval`, and never without the value itself.

    Args:
        replicates: (resamples,).
        value: of the figure; at 0 and 1 it is the bound (Brown, Cai & DasGupta 2001).
        degrees: of freedom, infinite where the pseudo-speakers make up a whole speaker of every stratum; 0 gives no interval.
    """
    if not degrees:
        return None, None
    t = float(stdtrit(min(degrees, 1e9), 0.975))
    low, high = np.quantile(replicates, [ndtr(-t), ndtr(t)])
    return min(float(low), value), max(float(high), value)


def stratified_mean(values: Floats, weights: Floats, strata: Ints, counts: Floats | None = None) -> Floats:
    """Mean over strata of the weighted mean over speakers, for each resample.

    Args:
        values, weights, strata: (speakers,).
        counts: (resamples, speakers) of `speaker_counts`; None takes every speaker once.

    Returns:
        (resamples,), or (1,) without counts.
    """
    taken = (np.ones((1, len(values))) if counts is None else counts) * weights
    means = [
        taken[:, strata == stratum] @ values[strata == stratum] / taken[:, strata == stratum].sum(axis=1)
        for stratum in np.unique(strata)
    ]
    return np.asarray(np.mean(means, axis=0))
