"""Means over utterances within a speaker, then over the speakers of an accent, then over accents, with their intervals over speakers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from tune_accent.evaluation import Figure
from tune_accent.evaluation.bootstrap import (
    ANY,
    SHARE,
    Bounds,
    freedom,
    posterior_counts,
    posterior_interval,
    speaker_counts,
    speaker_interval,
    stratified_mean,
)
from tune_accent.evaluation.table import Floats


class SpeakerMeans:
    """Every mean of the same speakers is resampled by one index, so that a difference is paired where its values are.

    Args:
        accent_of: accent of each speaker: the strata.
        resamples: of speakers.
        seed: of the resamples.
    """

    def __init__(self, accent_of: Mapping[str, str], resamples: int, seed: int) -> None:
        self.names = sorted(accent_of)
        accents = sorted(set(accent_of.values()))
        self.strata = np.array([accents.index(accent_of[name]) for name in self.names], dtype=np.int64)
        self.counts = speaker_counts(self.strata, resamples, np.random.SeedSequence(seed))
        every = np.unique(self.strata)
        self.pseudo = np.tile(every, 2)  # of every accent a speaker who is always wrong, then one who is always right
        self.weights = posterior_counts(self.strata, self.pseudo, 1.0 / len(every), resamples, np.random.SeedSequence(seed))

    def figure(
        self, values: Iterable[tuple[str, float]], chance: float | None = None, within: tuple[float, float] = ANY
    ) -> Figure:
        """The mean of (speaker, value) pairs with its 95 % interval.

        Args:
            values: one or more for each speaker.
            chance: what there is without any effect.
            within: smallest and largest possible value; of a share (`SHARE`) the interval is the one for shares (evaluation/bootstrap.py).
        """
        of: dict[str, list[float]] = {name: [] for name in self.names}
        for name, value in values:
            of[name].append(value)
        means = np.array([np.mean(of[name]) for name in self.names])
        each = np.ones(len(means))
        value = float(stratified_mean(means, each, self.strata)[0])
        if within == SHARE:
            bounds = self._share(means, value)
        else:
            bounds = speaker_interval(stratified_mean(means, each, self.strata, self.counts), self.strata, within)
        return Figure(value, *bounds, chance=chance, n=len(means))

    def _share(self, means: Floats, value: float) -> Bounds:
        strata = np.concatenate([self.strata, self.pseudo])
        every = np.concatenate([means, np.repeat([0.0, 1.0], len(self.pseudo) // 2)])
        replicates = stratified_mean(every, np.ones(len(every)), strata, self.weights)
        return posterior_interval(replicates, value, freedom(self.strata))
