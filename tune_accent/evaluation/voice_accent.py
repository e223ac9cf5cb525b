"""Leakage S → A: how well the accent of an unseen speaker is read off the speaker embedding alone. Frozen encoder: once per data set.

The figure is per utterance, because S is the embedding of *one* utterance: that is all the accent that the model can read off its input.
The mean embedding of a speaker has the noise of the single utterances averaged away and holds more than the model is given, so it
would overstate the leak of S; and it leaves one point per speaker to fit and to score on. It is reported beside the figure, as what a
mean of many recordings as S would give away. In both, a speaker is the unit of the interval and of the permutations.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tune_accent.evaluation.accent import accent_figures, confusions, fit_accent
from tune_accent.evaluation.figures import Figure
from tune_accent.evaluation.probes import blas_threads
from tune_accent.evaluation.protocol import Protocol
from tune_accent.evaluation.table import Rows, read_rows


@dataclass(frozen=True)
class VoiceAccent:
    """Accent of unseen speakers from their embeddings.

    Attributes:
        accent_f1, accent_balanced_accuracy: of single embeddings, macro over the gate accents.
        speaker_mean_f1: macro-F1 of mean embeddings, fitted on those of train speakers.
    """

    accent_f1: Figure
    accent_balanced_accuracy: Figure
    speaker_mean_f1: Figure

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {field.name: getattr(self, field.name).to_dict() for field in fields(self)}


def voice_accent(embeddings: npt.NDArray[Any], table: pd.DataFrame, protocol: Protocol, seed: int = 0) -> VoiceAccent:
    """Measure the leakage S → A.

    Args:
        embeddings: (N, D) float, the speaker embedding of each utterance.
        table: N rows, as for `evaluate`.
        protocol: gate accents, split, strengths, intervals, permutations.
        seed: of bootstrap and permutations.

    Raises:
        DataError: the input breaks a rule; the message names the speaker, accent or rows.
    """
    rows = read_rows(embeddings, table, protocol)
    seeds = np.random.SeedSequence(seed).spawn(2)
    with blas_threads(protocol.threads):
        f1, balanced = _accent(rows, protocol, (seeds[0], seeds[1]))
        mean_f1, _ = _accent(_speaker_means(rows), protocol, (seeds[0], seeds[1]))
    return VoiceAccent(f1, balanced, mean_f1)


def _accent(
    rows: Rows, protocol: Protocol, seeds: tuple[np.random.SeedSequence, np.random.SeedSequence]
) -> tuple[Figure, Figure]:
    probe, strength, _ = fit_accent(rows, protocol, [])
    return accent_figures(confusions(rows, probe, strength), protocol, seeds)


def _speaker_means(rows: Rows) -> Rows:
    """One row per speaker, in the order of their numbers."""
    speakers, first, sizes = np.unique(rows.speaker, return_index=True, return_counts=True)
    sums = np.zeros((len(speakers), rows.z.shape[1]))
    np.add.at(sums, rows.speaker, rows.z)
    none = np.full(len(speakers), -1)
    return replace(
        rows,
        z=sums / sizes[:, None],
        speaker=speakers,
        accent=rows.speaker_accent,
        text=none,
        fold=none,
        scored=rows.scored[first],
    )
