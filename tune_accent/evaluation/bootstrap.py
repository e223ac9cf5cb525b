"""Intervals by resampling speakers, stratified by accent, with the probe held fixed; never by resampling utterances.

Utterances of a speaker are not independent: an utterance bootstrap covers 20-48 % where it claims 95 %. The counts depend only on the
speakers' accents and the seed, so two figures of the same speakers are resampled alike and their difference is paired.
Not covered: variation of the probe's training set, of the split, of the training seed.
"""

from __future__ import annotations

import numpy as np

from tune_accent.evaluation.table import Floats, Ints


def speaker_counts(strata: Ints, resamples: int, seed: np.random.SeedSequence) -> Floats:
    """How often each speaker occurs in each resample, (resamples, speakers).

    Args:
        strata: (speakers,) accent of each speaker; every resample keeps each accent's number of speakers.
        resamples: how many.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    counts = np.zeros((resamples, len(strata)))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        counts[:, members] = generator.multinomial(len(members), np.full(len(members), 1.0 / len(members)), size=resamples)
    return counts


def percentile_interval(replicates: Floats) -> tuple[float, float]:
    """2.5 and 97.5 percentiles of the replicates."""
    low, high = np.quantile(replicates, [0.025, 0.975])
    return float(low), float(high)


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
