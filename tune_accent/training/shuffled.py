"""The baseline of shuffled accents: what a trial reaches when the accents that it is trained with mean nothing.

Accents are dealt out to the training speakers at random: a whole speaker moves, and every accent keeps its number of training speakers. All that
trains follows (rows of the accent table, accent term, groups of adversary and alignment, ∅-batches); all that measures keeps the true accents.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from tune_accent.base.seeds import derive_seed
from tune_accent.config.schema import Experiment
from tune_accent.training.inputs import TrialData


def as_trained(spec: Experiment, data: TrialData) -> TrialData:
    """`data` with the accent labels that `spec` trains with: the very same object unless `training.shuffled_accents`; harmless when repeated."""
    if not spec.training.shuffled_accents:
        return data
    number = {name: i for i, name in enumerate(data.accents)}
    true = np.array([number[name] for name in data.speech.table["accent"]], dtype=np.int64)
    labels = np.where(data.speaker_labels >= 0, _dealt(spec, data, true)[data.speaker_labels], true)
    return replace(data, accent_labels=labels)


def _dealt(spec: Experiment, data: TrialData, true: np.ndarray) -> np.ndarray:
    """(training speakers,) int64: the accent that each of them is given."""
    own = np.empty(len(data.speakers), dtype=np.int64)
    trained = data.speaker_labels >= 0
    own[data.speaker_labels[trained]] = true[trained]
    rng = np.random.default_rng(derive_seed(spec.training_seed, "shuffled accents"))
    return rng.permutation(own)


def training_table(data: TrialData) -> pd.DataFrame:
    """The utterance table with the accents that are trained with, for the sampler; never for a measurement."""
    names = pd.Series(list(data.accents), dtype=data.speech.table["accent"].dtype)
    return data.speech.table.assign(accent=names.array.take(data.accent_labels))
