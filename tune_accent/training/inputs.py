"""What every trial of a search shares in one process: the prepared cache (memory-mapped) and the frozen backbone."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from tune_accent.config.schema import Experiment, Objective
from tune_accent.data.prepared import Prepared
from tune_accent.data.speech import mean_of_rows, numbers_of, training_rows
from tune_accent.models.backbone import Backbone
from tune_accent.models.forward import Inputs, collate


@dataclass(frozen=True)
class BaseLoss:
    """Validation cross-entropy of the untouched base model, by part."""

    codebook0: float
    subtalker: float

    def total(self, subtalker_weight: float) -> float:
        """The value that a trial's `val_loss` is compared with."""
        return self.codebook0 + subtalker_weight * self.subtalker


@dataclass(frozen=True)
class TrialData:
    """Inputs of a trial, on one device.

    Attributes:
        speech: the prepared cache.
        backbone: the frozen model.
        language: the language of every prefix.
        accents: names in label order; `accent_labels` (N,) int64 numbers the rows, as they are trained with (see shuffled.py).
        speakers: names of the training speakers in label order; `speaker_labels` (N,) is -1 elsewhere.
        mean_speaker: (D,) float32 mean embedding of the training rows: S of every ∅-batch.
        base_losses: cache of the base model's loss, by seed of the frames, split, sub_frames, batch size, precision and determinism.
    """

    speech: Prepared
    backbone: Backbone
    language: str
    accents: tuple[str, ...]
    accent_labels: np.ndarray
    speakers: tuple[str, ...]
    speaker_labels: np.ndarray
    mean_speaker: Tensor
    base_losses: dict[tuple[int, str, int | None, int, str, bool], BaseLoss] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where the backbone lives."""
        return self.backbone.device

    def inputs(self, rows: np.ndarray) -> Inputs:
        """A padded batch of utterances on the device."""
        texts = [self.speech.text_of(int(row)) for row in rows]
        codes = [self.speech.codes_of(int(row)) for row in rows]
        return collate(self.backbone, texts, codes, self.language).to(self.device)

    def voices(self, rows: np.ndarray) -> Tensor:
        """(B, D) speaker embeddings of `rows`."""
        return torch.from_numpy(np.asarray(self.speech.speaker_embeddings[rows], dtype=np.float32)).to(self.device)

    def mean_voice(self, count: int) -> Tensor:
        """(count, D): the neutral S."""
        return self.mean_speaker.expand(count, -1)

    def groups(self, objective: Objective) -> np.ndarray:
        """(N,) int64: number of the group within which the row's speaker is compared with others: the accent, or 0 for all."""
        return self.accent_labels if objective.conditional else np.zeros_like(self.accent_labels)

    def speakers_of_group(self, objective: Objective) -> dict[int, list[int]]:
        """Number of a group → numbers of its training speakers."""
        trained = self.speaker_labels >= 0
        pairs = np.unique(np.stack([self.groups(objective)[trained], self.speaker_labels[trained]]), axis=1)
        return {group: pairs[1][pairs[0] == group].tolist() for group in np.unique(pairs[0]).tolist()}


def trial_data(spec: Experiment, speech: Prepared, backbone: Backbone) -> TrialData:
    """Number the labels of the prepared cache and put the neutral S on the backbone's device."""
    table = speech.table
    accents = sorted(table["accent"].unique())
    trained = training_rows(table, speech.held_fold)
    speakers = sorted(table["speaker"].iloc[trained].unique())
    mean = mean_of_rows(speech.speaker_embeddings, trained).astype(np.float32)
    return TrialData(
        speech,
        backbone,
        spec.model.language or next(iter(sorted(backbone.languages))),
        tuple(accents),
        numbers_of(table["accent"], accents),
        tuple(speakers),
        numbers_of(table["speaker"], speakers),
        torch.from_numpy(mean).to(backbone.device),
    )
