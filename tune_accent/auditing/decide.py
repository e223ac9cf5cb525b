"""What an audit concludes: the layer that a search should read, the verdict on it, and what limits both.

The rule: among the layers that a search can read (S neutral, mean+std, what training uses), the best score J, feasible ones first, with the
validation loss equal to the base model's. Layers whose paired difference of J from the best has a 95 % speaker-bootstrap interval that
holds 0 are tied with it. A tie goes to the layer with the lower unseen leakage, where that too shows in pairs: with few speakers everything
is tied with everything, and a difference that the interval cannot tell from 0 would hand the choice to noise. Choosing the best of L layers on
validation speakers is itself a selection: the chosen layer's figures are biased upward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tune_accent.auditing.evaluated import SetResult
from tune_accent.config.schema import Score
from tune_accent.evaluation import Evaluation, Figure, feasible, score
from tune_accent.evaluation.bootstrap import speaker_interval
from tune_accent.evaluation.comparison import paired_difference, replicates


@dataclass(frozen=True)
class Tie:
    """A layer that cannot be told from the best.

    Attributes:
        name, layer: of the feature set, and its k.
        behind: J of the best minus its own, with the interval of the difference.
        leakage: its unseen leakage minus that of the best, with the interval.
    """

    name: str
    layer: int
    behind: Figure
    leakage: Figure

    @property
    def leaks_less(self) -> bool:
        """Whether its unseen leakage is lower than that of the best, and the interval shows it."""
        return self.leakage.high is not None and self.leakage.high < 0


@dataclass(frozen=True)
class Recommendation:
    """The layer to search with.

    Attributes:
        name, layer: of the feature set, and its k.
        score: its J.
        feasible: whether it keeps every limit of the score.
        best, best_score: name and J of the layer with the highest J.
        tied: the layers that cannot be told from the best, by depth; without the best itself.
        layers: how many layers were compared.
    """

    name: str
    layer: int
    score: float
    feasible: bool
    best: str
    best_score: float
    tied: tuple[Tie, ...]
    layers: int


def layer_score(found: Evaluation, cfg: Score) -> float:
    """J of a frozen layer: its validation loss is the base model's, so nothing is charged for it."""
    assert found.accent_f1.value is not None and found.leakage.value is not None
    return score(found.accent_f1.value, found.leakage.value, found.text_drop.value, 1.0, 1.0, cfg)


def layer_feasible(found: Evaluation, cfg: Score) -> bool:
    """Whether a frozen layer keeps the limits of the score."""
    assert found.leakage.value is not None
    return feasible(found.leakage.value, found.text_drop.value, 1.0, 1.0, cfg).ok


def recommend(results: Sequence[SetResult], cfg: Score, resamples: int, seed: int) -> Recommendation | None:
    """Apply the rule of this module; None where no result is one that a search can read.

    Args:
        results: of an audit, in the order of depth.
        cfg: the section `score`.
        resamples, seed: of the bootstrap.
    """
    compared = [_Compared(one, cfg, resamples, seed) for one in results if one.is_candidate and one.evaluation is not None]
    if not compared:
        return None
    able = [one for one in compared if one.feasible] or compared
    best = max(able, key=lambda one: (one.score, -one.layer))
    ties = {one.name: tie for one in able if one is not best and (tie := _tie(best, one)) is not None}
    better = [one for one in able if one.name in ties and ties[one.name].leaks_less]
    chosen = min(better, key=lambda one: (one.leakage_unseen, -one.score, one.layer), default=best)
    return Recommendation(
        chosen.name,
        chosen.layer,
        chosen.score,
        chosen.feasible,
        best.name,
        best.score,
        tuple(ties.values()),
        len(compared),
    )


class _Compared:
    """A layer that a search can read, with its J and the replicates of it (resamples,); equal seeds resample the same speakers alike."""

    def __init__(self, one: SetResult, cfg: Score, resamples: int, seed: int) -> None:
        found = one.evaluation
        assert found is not None and one.layer is not None and found.leakage_unseen.value is not None
        self.name, self.layer, self.evaluation, self.how = one.name, one.layer, found, (resamples, seed)
        self.score, self.feasible = layer_score(found, cfg), layer_feasible(found, cfg)
        self.leakage_unseen = found.leakage_unseen.value
        self.strata = np.array([found.speakers.accent[name] for name in found.speakers.predicted])
        f1, leakage = (replicates(found, name, resamples, seed) for name in ("accent_f1", "leakage"))
        drop = [None] * resamples if found.text_drop.value is None else replicates(found, "text_drop", resamples, seed).tolist()
        rows = zip(f1.tolist(), leakage.tolist(), drop, strict=True)
        self.replicates = np.array([score(a, b, c, 1.0, 1.0, cfg) for a, b, c in rows])


def _tie(best: _Compared, other: _Compared) -> Tie | None:
    """The tie of `other` with the best; None where the interval of the paired difference lies above 0. Without an interval they are tied."""
    differences = best.replicates - other.replicates
    low, high = speaker_interval(differences[np.isfinite(differences)], best.strata)
    if low is not None and low > 0:
        return None
    leakage = paired_difference(other.evaluation, best.evaluation, "leakage_unseen", *best.how)
    return Tie(other.name, other.layer, Figure(best.score - other.score, low, high, 0.0, len(best.strata)), leakage)
