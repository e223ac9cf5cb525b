"""Seeded batches of row numbers: what one training step sees. The arrays stay in the memory-mapped cache.

An A-batch takes every training row once per epoch, in random order. A ∅-batch is filled as accents × speakers × utterances, so that a speaker
can be told from the accent inside it (DESIGN §5). Both depend only on the generator they are given.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tune_accent.base.errors import DataError
from tune_accent.config.schema import NullBatch, Training
from tune_accent.data.transforms import copy_rows


@dataclass(frozen=True)
class StepRows:
    """Rows of one training step.

    Attributes:
        accented: (A,) rows of the A-batch.
        voices: (A,) for each of them a *different* row of the same speaker, whose embedding is S.
        null: (B,) rows of the ∅-batch, accents × speakers × utterances.
    """

    accented: np.ndarray
    voices: np.ndarray
    null: np.ndarray


def training_rows(table: pd.DataFrame, held_fold: int) -> np.ndarray:
    """Rows that LoRA is trained on: train speakers, every fold but the held one."""
    chosen = (table["split"] == "train") & (table["fold"] >= 0) & (table["fold"] != held_fold)
    return np.flatnonzero(chosen.to_numpy())


class SpeechSampler:
    """Draws the rows of every step of an epoch.

    Args:
        table: the utterance table of the prepared cache.
        held_fold: the fold that stays out of training.
        training: batch sizes and steps per epoch.

    Raises:
        DataError: a training speaker has fewer than two utterances, or an accent fewer than two training speakers.
    """

    def __init__(self, table: pd.DataFrame, held_fold: int, training: Training) -> None:
        originals = training_rows(table, held_fold)
        self.original_of = copy_rows(table)
        self.rows = np.concatenate([originals, np.array(sorted(self.original_of), dtype=originals.dtype)])
        self.training = training
        chosen = table.iloc[self.rows]
        speakers = chosen["speaker"].to_numpy()
        voices = table["speaker"].to_numpy()[originals]
        self.voices_of = {name: originals[voices == name] for name in sorted(set(voices))}
        self.rows_of = {name: self.rows[speakers == name] for name in sorted(set(speakers))}
        grouped = chosen.groupby("accent")["speaker"].unique()
        self.speakers_of = {str(accent): sorted(map(str, names)) for accent, names in grouped.items()}
        self.speaker_of = dict(zip(self.rows.tolist(), speakers, strict=True))
        self._check()

    def _check(self) -> None:
        lonely = [name for name, rows in self.voices_of.items() if len(rows) < 2]
        if lonely:
            raise DataError(
                f"training speakers with a single utterance outside the held fold: {', '.join(lonely[:5])}",
                where="splits.json",
                fix="give each train speaker at least 2 utterances per fold, or drop those speakers",
            )
        if sum(len(names) >= 2 for names in self.speakers_of.values()) < 2:
            raise DataError(
                "fewer than two accents have two training speakers: leakage within accent cannot be trained on",
                where="splits.json",
                fix="add speakers",
            )

    @property
    def steps(self) -> int:
        """Steps per epoch."""
        return self.training.steps_per_epoch or -(-len(self.rows) // self.training.batch_size)

    def epoch(self, rng: np.random.Generator) -> Iterator[StepRows]:
        """The steps of one epoch, drawn from `rng`."""
        total = self.steps * self.training.batch_size if self.training.steps_per_epoch else len(self.rows)
        order = np.concatenate([rng.permutation(self.rows) for _ in range(-(-total // len(self.rows)))])
        for accented in np.array_split(order[:total], self.steps):
            voices = np.array([self._other_row(row, rng) for row in accented])
            yield StepRows(accented, voices, self._null_rows(rng, self.training.null_batch))

    def _other_row(self, row: int, rng: np.random.Generator) -> int:
        own = self.original_of.get(int(row), int(row))
        others = self.voices_of[self.speaker_of[int(row)]]
        return int(rng.choice(others[others != own]))

    def _null_rows(self, rng: np.random.Generator, shape: NullBatch) -> np.ndarray:
        eligible = [accent for accent, names in self.speakers_of.items() if len(names) >= 2]
        count = min(shape.accents or len(eligible), len(eligible))
        rows: list[np.ndarray] = []
        for accent in rng.choice(eligible, size=count, replace=False):
            names = self.speakers_of[str(accent)]
            for name in rng.choice(names, size=min(shape.speakers, len(names)), replace=False):
                own = self.rows_of[str(name)]
                rows.append(rng.choice(own, size=min(shape.utterances, len(own)), replace=False))
        return np.concatenate(rows)
