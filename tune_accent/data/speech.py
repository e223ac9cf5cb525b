"""Seeded batches of row numbers: what one training step sees. The arrays stay in the memory-mapped cache.

An A-batch takes every training row once per epoch, in random order. A ∅-batch is filled as accents × speakers × utterances, so that a speaker
can be told from the accent inside it (DESIGN §5). Both depend only on the generator they are given. With `training.length_buckets` rows of an
A-batch have similar lengths, which saves padding; ∅-batches are filled by speaker in any case.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tune_accent.base.errors import DataError
from tune_accent.config.schema import NullBatch, Training
from tune_accent.data.transforms import original_rows


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


def numbers_of(column: pd.Series[str], names: Sequence[str] | np.ndarray) -> np.ndarray:
    """(N,) int64: the place of each value in `names`, -1 where it is none of them."""
    return pd.Categorical(column, categories=pd.Index(names)).codes.astype(np.int64)


def mean_of_rows(values: np.ndarray, rows: np.ndarray, chunk: int = 4096) -> np.ndarray:
    """(D,) float64 mean of some rows of (N, D), added up in their order; a chunk of a mapped array is in memory at a time."""
    total = np.zeros((1, values.shape[1]))
    for first in range(0, len(rows), chunk):
        some = np.asarray(values[rows[first : first + chunk]], dtype=np.float64)
        total = np.concatenate([total, some] if first else [some]).sum(axis=0, keepdims=True)
    mean: np.ndarray = total[0] / len(rows)
    return mean


class SpeechSampler:
    """Draws the rows of every step of an epoch.

    Args:
        table: the utterance table of the prepared cache.
        held_fold: the fold that stays out of training.
        training: batch sizes, steps per epoch and length buckets.
        lengths: (N,) of every row of `table`, in frames; only length buckets need them.

    Raises:
        DataError: a training speaker has fewer than two utterances, or an accent fewer than two training speakers.
    """

    def __init__(self, table: pd.DataFrame, held_fold: int, training: Training, lengths: np.ndarray | None = None) -> None:
        originals = training_rows(table, held_fold)
        self.original_of = original_rows(table)
        copies = np.flatnonzero(self.original_of != np.arange(len(table))).astype(originals.dtype)
        self.rows = np.concatenate([originals, copies])
        self.training, self.lengths = training, lengths
        trained = table["speaker"].iloc[originals]
        self.names = np.array(sorted(trained.unique()), dtype=object)
        self.speaker_of = numbers_of(table["speaker"], self.names)
        self.rows_of = _by_speaker(self.speaker_of, self.rows, len(self.names))
        self.voices_of = _by_speaker(self.speaker_of, originals, len(self.names)) if len(copies) else self.rows_of
        pairs = pd.DataFrame({"accent": table["accent"].iloc[originals], "speaker": trained}).drop_duplicates()
        accents = sorted(pairs["accent"].unique())
        self.speakers_of = [np.searchsorted(self.names, sorted(pairs["speaker"][pairs["accent"] == name])) for name in accents]
        self._check()

    def _check(self) -> None:
        lonely = [str(name) for name, rows in zip(self.names, self.voices_of, strict=True) if len(rows) < 2]
        if lonely:
            raise DataError(
                f"training speakers with a single utterance outside the held fold: {', '.join(lonely[:5])}",
                where="splits.json",
                fix="give each train speaker at least 2 utterances per fold, or drop those speakers",
            )
        if sum(len(own) >= 2 for own in self.speakers_of) < 2:
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
        batches = np.array_split(order[:total], self.steps)
        for accented in self._bucketed(batches, rng) if self.training.length_buckets else batches:
            voices = np.array([self._other_row(int(row), rng) for row in accented])
            yield StepRows(accented, voices, self._null_rows(rng, self.training.null_batch))

    def _bucketed(self, batches: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
        """The rows of every `length_buckets` batches dealt out again by length, and all batches in random order."""
        if self.lengths is None:
            raise ValueError("length buckets need the lengths of the rows")
        sorted_: list[np.ndarray] = []
        size = self.training.length_buckets or 1
        for first in range(0, len(batches), size):
            bucket = batches[first : first + size]
            rows = np.concatenate(bucket)
            sorted_ += np.split(rows[np.argsort(self.lengths[rows], kind="stable")], np.cumsum([len(one) for one in bucket])[:-1])
        return [sorted_[int(place)] for place in rng.permutation(len(sorted_))]

    def _other_row(self, row: int, rng: np.random.Generator) -> int:
        others = self.voices_of[self.speaker_of[row]]
        return int(rng.choice(others[others != self.original_of[row]]))

    def _null_rows(self, rng: np.random.Generator, shape: NullBatch) -> np.ndarray:
        eligible = [place for place, own in enumerate(self.speakers_of) if len(own) >= 2]
        count = min(shape.accents or len(eligible), len(eligible))
        rows: list[np.ndarray] = []
        for place in rng.choice(eligible, size=count, replace=False):
            speakers = self.speakers_of[int(place)]
            for speaker in rng.choice(speakers, size=min(shape.speakers, len(speakers)), replace=False):
                own = self.rows_of[int(speaker)]
                rows.append(rng.choice(own, size=min(shape.utterances, len(own)), replace=False))
        return np.concatenate(rows)


def _by_speaker(speaker_of: np.ndarray, rows: np.ndarray, count: int) -> list[np.ndarray]:
    """The rows of each of `count` speakers, in the order of `rows`: views of one array."""
    order = np.argsort(speaker_of[rows], kind="stable")
    return np.split(rows[order], np.searchsorted(speaker_of[rows][order], np.arange(1, count)))
