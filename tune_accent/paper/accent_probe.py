"""An accent probe that hears more than it was scored on: fitted on train speakers, scored on unseen ones, then asked about anything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tune_accent.evaluation import Figure, Protocol
from tune_accent.evaluation.accent import accent_figures, confusions, fit_accent
from tune_accent.evaluation.probes import Probe, blas_threads
from tune_accent.evaluation.table import read_rows


@dataclass(frozen=True)
class AccentProbe:
    """A fitted probe of the gate accents.

    Attributes:
        accents: names of its classes.
        probe, strength: the fit, and which strength of its grid.
        f1, recall: macro-F1 and balanced accuracy on the scored speakers: how well it hears what it has not been fitted on.
    """

    accents: tuple[str, ...]
    probe: Probe
    strength: int
    f1: Figure
    recall: Figure

    def hear(self, features: npt.NDArray[Any]) -> list[str]:
        """(N, D) → the accent that each row is heard with."""
        with blas_threads():
            places = self.probe.predict(np.asarray(features, dtype=np.float64), self.strength)
        return [self.accents[place] for place in places]


def fit_accent_probe(features: npt.NDArray[Any], table: pd.DataFrame, protocol: Protocol, seed: int) -> AccentProbe:
    """Fit on the train rows, score on those of `protocol.score_split`.

    Args:
        features: (N, D), finite.
        table: N rows of the utterance table.
        protocol: gate accents, strengths, resamples, permutations.
        seed: of bootstrap and permutations.

    Raises:
        DataError: the input breaks a rule of `evaluate`.
    """
    rows = read_rows(features, table, protocol)
    seeds = np.random.SeedSequence(seed).spawn(2)
    with blas_threads():
        probe, strength, _ = fit_accent(rows, protocol, [])
        f1, recall = accent_figures(confusions(rows, probe, strength), protocol, (seeds[0], seeds[1]))
    return AccentProbe(tuple(rows.accent_names[number] for number in rows.gate), probe, strength, f1, recall)
