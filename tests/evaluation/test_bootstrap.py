"""The speaker bootstrap: weights that sum to the stratum, an unbiased variance, t percentiles, and the coverage that follows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, binom, norm, t

from benchmarks.coverage import counts
from tune_accent.evaluation.accent import Confusions, macro_f1, recalls
from tune_accent.evaluation.bootstrap import (
    freedom,
    interval,
    posterior_counts,
    posterior_interval,
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


@pytest.mark.parametrize("right", [0, 1, 4, 5])
def test_speakers_that_are_right_or_wrong_as_a_whole_give_the_jeffreys_interval(right: int) -> None:
    """Of 5 speakers: quantiles of Beta(right + 1/2, wrong + 1/2), but 0 and 1 where all are wrong or right (Brown, Cai & DasGupta 2001)."""
    one, pseudo = np.zeros(5, dtype=np.int64), np.zeros(2, dtype=np.int64)
    drawn = posterior_counts(one, pseudo, 1.0, 100_000, np.random.SeedSequence(0)) / 5
    share = drawn @ np.append(np.arange(5) < right, [0.0, 1.0])
    low, high = beta.ppf([0.025, 0.975], right + 0.5, 5 - right + 0.5)
    expected = (0.0 if right == 0 else low, 1.0 if right == 5 else high)
    assert posterior_interval(share, right / 5, np.inf) == pytest.approx(expected, abs=0.01)


def test_draws_keep_the_speakers_of_each_stratum_and_the_share_of_its_pseudo_speakers() -> None:
    """Each pseudo-speaker of mass m/2 beside n speakers has the mean share (m/2)/(n + m)."""
    strata, pseudo = np.array([0, 1, 0, 1, 1]), np.array([0, 1, 0, 1])
    drawn = posterior_counts(strata, pseudo, 0.5, 20_000, np.random.SeedSequence(0))
    for stratum, size in ((0, 2), (1, 3)):
        members = np.concatenate([strata, pseudo]) == stratum
        assert drawn[:, members].sum(axis=1) == pytest.approx(size)
        shares = drawn[:, members].mean(axis=0) / size
        assert shares == pytest.approx([1 / (size + 0.5)] * size + [0.25 / (size + 0.5)] * 2, abs=0.01)
    assert np.array_equal(drawn, posterior_counts(strata, pseudo, 0.5, 20_000, np.random.SeedSequence(0)))
    assert posterior_interval(drawn[:, 0], 0.5, freedom(np.array([0, 0, 1]))) == (None, None)


def test_pseudo_speakers_have_the_utterances_of_the_mean_speaker() -> None:
    found = Confusions(np.array([[8.0, 2, 0], [2, 4, 0], [0, 6, 0], [1, 1, 2]]), np.array([0, 0, 1, 2])).with_pseudo
    assert found.predicted[4:].tolist() == [[0, 4, 4], [3, 0, 3], [2, 2, 0], [8, 0, 0], [0, 6, 0], [0, 0, 4]]
    assert found.accent[4:].tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(("level", "speakers"), [(0.5, 5), (0.93, 5), (0.97, 5), (0.93, 3)])
def test_coverage_near_the_ceiling(level: float, speakers: int) -> None:
    """Between 88 and 99 % within what 200 trials allow; resampling speakers alone holds F1 .93 in 82 % (5 per accent) and 73 % (3) of trials."""
    found = list(counts(speakers, level, 0.4, 200))
    pooled = np.sum([each.confusion for each in found], axis=0)
    truths = {
        "accent_f1": macro_f1(pooled),
        "accent_balanced_accuracy": recalls(pooled).mean(),
        "accent_recall": recalls(pooled)[0],
    }
    for name, truth in truths.items():
        figures = [each.figures[name] for each in found]
        held = sum(f.low <= truth <= f.high for f in figures if f.low is not None and f.high is not None)
        assert binom.ppf(0.001, 200, 0.88) <= held
        assert all(f.low is not None and f.low <= (f.value or 0.0) <= (f.high or 0.0) for f in figures)
