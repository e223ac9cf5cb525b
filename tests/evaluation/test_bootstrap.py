"""The speaker bootstrap: strata keep their size, clusters widen the interval, paired figures share their resamples."""

from __future__ import annotations

import numpy as np

from tune_accent.evaluation.bootstrap import percentile_interval, speaker_counts, stratified_mean


def test_strata_keep_their_number_of_speakers() -> None:
    strata = np.array([0, 1, 0, 1, 1, 2])
    counts = speaker_counts(strata, 200, np.random.SeedSequence(0))
    for stratum, size in ((0, 2), (1, 3), (2, 1)):
        assert (counts[:, strata == stratum].sum(axis=1) == size).all()
    assert np.array_equal(counts, speaker_counts(strata, 200, np.random.SeedSequence(0)))
    assert not np.array_equal(counts, speaker_counts(strata, 200, np.random.SeedSequence(1)))


def test_mean_over_strata_not_over_speakers() -> None:
    values, weights, strata = np.array([1.0, 0.0, 0.0, 0.0]), np.array([1.0, 1.0, 2.0, 1.0]), np.array([0, 1, 1, 1])
    assert stratified_mean(values, weights, strata)[0] == 0.5


def test_interval_covers_the_mean_of_nested_data() -> None:
    """Speakers vary (intra-class correlation about .4): 95 % intervals over 15 speakers cover well above what utterances would."""
    generator = np.random.default_rng(0)
    strata = np.repeat(np.arange(3), 5)
    covered = narrow = 0
    for trial in range(200):
        speakers = 0.6 + 0.15 * generator.normal(size=15)
        scores = (speakers[:, None] + 0.18 * generator.normal(size=(15, 12))).mean(axis=1)
        replicates = stratified_mean(scores, np.ones(15), strata, speaker_counts(strata, 400, np.random.SeedSequence(trial)))
        low, high = percentile_interval(replicates)
        covered += low <= 0.6 <= high
        half = 1.96 * 0.18 / np.sqrt(180)
        narrow += abs(scores.mean() - 0.6) <= half
    assert 0.82 <= covered / 200 <= 0.99
    assert narrow / 200 < 0.7
