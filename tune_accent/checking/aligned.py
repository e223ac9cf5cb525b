"""The alignment check of models/label_alignment.py on speech of the corpus: do trained weights agree with our labels and positions?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from tune_accent.checking.finding import Finding, Skip
from tune_accent.config.schema import Experiment

if TYPE_CHECKING:
    from tune_accent.training.inputs import TrialData

UTTERANCES = 16
CAUSES = (
    "are the weights those of the checkpoint (download it again), is data.codec its own codec, do the transcripts belong to the audio, "
    "is model.language theirs? Training on this would teach the model something else than it generates"
)


def check_alignment(spec: Experiment, data: TrialData) -> Iterator[Finding]:
    """Cross-entropy of the labels as they are against labels one further, over a few utterances of several speakers.

    Raises:
        Skip: the weights are random and know nothing.
    """
    from tune_accent.models.label_alignment import alignment
    from tune_accent.training.device import autocast

    if spec.model.backbone == "tiny":
        raise Skip("the tiny model has random weights, which know nothing of speech")
    rows = np.flatnonzero(data.speech.table["split"].to_numpy() == "train")
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, UTTERANCES).astype(np.int64))]
    data.backbone.model.eval()
    with autocast(spec.training, data.device):
        found = alignment(data.backbone, data.inputs(rows), data.voices(rows))
    yield Finding("alignment", "ok", found.words) if found.ok else Finding("alignment", "failed", found.words, CAUSES)
