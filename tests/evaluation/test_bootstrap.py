"""The speaker bootstrap: weights that sum to the stratum, an unbiased variance, t percentiles, and the coverage that follows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, norm, t

from tune_accent.evaluation.bootstrap import (
    freedom,
    interval,
    speaker_counts,
    speaker_interval,
    stratified_mean,
)

STRATA = np.repeat(np.arange(3), 5)


def test_strata_keep_their_number_of_speakers() -> None:
    strata = np.array([0, 1, 0, 1, 1, 2])
    counts = speaker_counts(strata, 200, np.random.SeedSequence(0))
    for stratum, size in ((0, 2), (1, 3), (2, 1)):
        assert counts[:, strata == stratum].sum(axis=1) == pytest.approx(size)
    assert set(np.unique(counts[:, strata == 0])) == {0.0, 2.0}  # one of the two speakers is drawn, and counts for both
    assert (counts[:, 5] == 1).all()
    assert np.array_equal(counts, speaker_counts(strata, 200, np.random.SeedSequence(0)))
    assert not np.array_equal(counts, speaker_counts(strata, 200, np.random.SeedSequence(1)))


def test_mean_over_strata_not_over_speakers() -> None:
    values, weights, strata = np.array([1.0, 0.0, 0.0, 0.0]), np.array([1.0, 1.0, 2.0, 1.0]), np.array([0, 1, 1, 1])
    assert stratified_mean(values, weights, strata)[0] == 0.5


def test_variance_of_a_mean_is_the_unbiased_one() -> None:
    """Σ s²/n over strata, divided by K²; the plain bootstrap gives (n - 1)/n of it. The tolerance is 4 standard errors of a variance of B replicates."""
    values = np.random.default_rng(0).normal(size=len(STRATA)) * np.repeat([1.0, 2.0, 3.0], 5)
    replicates = stratified_mean(values, np.ones(15), STRATA, speaker_counts(STRATA, 20_000, np.random.SeedSequence(0)))
    expected = sum(values[stratum == STRATA].var(ddof=1) / 5 for stratum in range(3)) / 9
    assert replicates.var() == pytest.approx(expected, rel=4 * np.sqrt(2 / 20_000))


def test_degrees_of_freedom() -> None:
    assert freedom(STRATA) == pytest.approx(3 * 4)
    assert freedom(np.array([0, 0])) == pytest.approx(1)
    assert freedom(np.array([0, 0, 1])) == 0
    assert 1 < freedom(np.repeat([0, 1, 2], [2, 40, 40])) < 1.5  # the small stratum has nearly all the variance, and one degree


def test_percentiles_of_normal_replicates_are_those_of_t() -> None:
    replicates = np.asarray(norm.ppf((np.arange(100_000) + 0.5) / 100_000))
    for degrees in (4, 12, 1000):
        assert interval(replicates, degrees) == pytest.approx((t.ppf(0.025, degrees), t.ppf(0.975, degrees)), abs=0.01)
    assert interval(replicates, np.inf) == pytest.approx((norm.ppf(0.025), norm.ppf(0.975)), abs=1e-3)


def test_each_bound_is_the_wider_and_possible() -> None:
    skewed = np.random.default_rng(0).gamma(1.0, size=4000)
    low, high = interval(skewed, np.inf)
    assert low == pytest.approx(skewed.mean() - 1.96 * skewed.std(), abs=1e-3)  # below every replicate
    assert high == pytest.approx(np.quantile(skewed, 0.975))
    assert interval(skewed, np.inf, (0.0, 2.0)) == (0.0, 2.0)


@pytest.mark.parametrize("speakers", [2, 3])
def test_two_or_three_speakers_in_one_stratum(speakers: int) -> None:
    """Percentiles alone lie between the smallest and the largest, which hold the mean in 1 - 2^(1 - n) of trials: 50 and 75 %."""
    trials, generator, strata = 300, np.random.default_rng(0), np.zeros(speakers, dtype=np.int64)
    held = 0
    for trial in range(trials):
        values = generator.normal(size=speakers)
        counts = speaker_counts(strata, 1000, np.random.SeedSequence(trial))
        low, high = speaker_interval(stratified_mean(values, np.ones(speakers), strata, counts), strata)
        assert low is not None
        assert high is not None
        held += low <= 0 <= high
    assert held >= binom.ppf(0.001, trials, 0.95)


def test_one_speaker_has_no_interval() -> None:
    assert speaker_interval(np.zeros(10), np.array([0, 0, 1])) == (None, None)


def test_coverage_on_nested_data() -> None:
    """Within-speaker correlation ρ = .4, five speakers per accent: of 95 % intervals, 95 % hold the mean, within what 400 trials allow.

    An interval over the 12 utterances of each speaker takes the variance of a mean for 1/12 where it is ρ + (1 - ρ)/12: it is too short by
    √(12ρ + 1 - ρ) and holds the mean in P(|N(0, 1)| < 1.96/2.32) = 60 % of trials.
    """
    trials, rho, heard = 400, 0.4, 12
    generator = np.random.default_rng(0)
    held = narrow = 0
    for trial in range(trials):
        speakers = np.sqrt(rho) * generator.normal(size=15)
        scores = (speakers[:, None] + np.sqrt(1 - rho) * generator.normal(size=(15, heard))).mean(axis=1)
        counts = speaker_counts(STRATA, 1000, np.random.SeedSequence(trial))
        low, high = speaker_interval(stratified_mean(scores, np.ones(15), STRATA, counts), STRATA)
        assert low is not None
        assert high is not None
        held += low <= 0 <= high
        narrow += abs(scores.mean()) <= 1.96 / np.sqrt(15 * heard)
    assert binom.ppf(0.001, trials, 0.95) <= held <= binom.ppf(0.999, trials, 0.95)
    expected = 1 - 2 * norm.sf(1.96 / np.sqrt(heard * rho + 1 - rho))
    assert binom.ppf(0.001, trials, expected) <= narrow <= binom.ppf(0.999, trials, expected)
