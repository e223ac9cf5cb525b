"""What an audit computes itself: the layers of the frozen backbone without adapter, and the acoustic statistics.

The backbone runs as in a trial's evaluation (A = ∅; dtype, attention and precision of the config), once with S neutral and once with S given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tune_accent.auditing.store import Compute, Extraction, Matrix, Rows
from tune_accent.base.progress import Progress, silent
from tune_accent.base.seeds import derive_seed
from tune_accent.config.schema import Experiment, Voice
from tune_accent.data.prepared import LIBRARIES, Prepared, open_prepared
from tune_accent.training.preparation import PreparedRecord, ensure_prepared
from tune_accent.training.voices import other_rows

if TYPE_CHECKING:
    import torch

    from tune_accent.data.audio import Wave
    from tune_accent.data.corpus import Corpus
    from tune_accent.training.inputs import TrialData

PROTOCOL_VERSION = 1  # raised whenever a feature would change for the same request
SPLITS = ("train", "val")  # the test split is opened by the paper run alone
BACKBONE_LIBRARIES = ("torch", "transformers", "qwen-tts")
ACOUSTIC_LIBRARIES = (*LIBRARIES, "librosa")


class Sources:
    """What extractions read, each opened when it is first needed.

    Args:
        spec: the experiment.
        device: where models run.
        progress: told about work that precedes the extraction.

    Attributes:
        speech: the prepared cache; `record` holds its hashes.
        rows: rows of `speech` that are extracted; row i of every matrix is `rows[i]`.
    """

    def __init__(self, spec: Experiment, device: torch.device | str, progress: Progress) -> None:
        self.spec, self.progress = spec, progress
        self._device = device
        self.record: PreparedRecord = ensure_prepared(spec, progress is not silent)
        self.speech: Prepared = open_prepared(Path(spec.data.root) / "prepared" / self.record.cache)
        self.rows: Rows = np.flatnonzero(self.speech.table["split"].isin(SPLITS).to_numpy()).astype(np.int64)

    @cached_property
    def device(self) -> torch.device:
        """The device, once torch is set up as for a trial."""
        import torch

        from tune_accent.training.seeding import configure_torch

        configure_torch(self.spec.training)
        return torch.device(self._device)

    @cached_property
    def data(self) -> TrialData:
        """The frozen backbone and its inputs."""
        from tune_accent.training.preparation import open_inputs

        return open_inputs(self.spec, self.device, self.progress)

    @cached_property
    def corpus(self) -> Corpus:
        """The manifest and the audio behind it."""
        from tune_accent.data.corpus import ensure_corpus

        return ensure_corpus(self.spec.data, derive_seed(self.spec.seed, "data"), self.progress)

    def waves(self, chosen: Rows) -> list[Wave]:
        """The sound of the utterances `rows[chosen]`, at 24 kHz."""
        from tune_accent.data.prepared import waves

        utterances = [self.corpus.manifest.rows[int(row)] for row in self.rows[chosen]]
        return list(waves(self.corpus, utterances, self.spec.data, "", silent))

    def chunks(self, size: int) -> list[Rows]:
        """Numbers of the extracted utterances, by length and `size` at a time."""
        lengths = np.diff(self.speech.frame_offsets)[self.rows]
        order = np.argsort(lengths, kind="stable").astype(np.int64)
        return [order[start : start + size] for start in range(0, len(order), size)]

    def sound(self) -> dict[str, Any]:
        """What decides which sound the extracted utterances have, for keys."""
        return {"manifest": self.record.manifest, "splits": self.record.splits, "loudness_lufs": self.spec.data.loudness_lufs}

    def computer(self) -> dict[str, Any]:
        """What decides the last bits of a model's output, for keys."""
        training = self.spec.training
        kind = str(self._device).partition(":")[0]
        return {"device": kind, "threads": training.threads, "deterministic": training.deterministic}


def backbone_layers(sources: Sources, names: Sequence[str], voice: Voice, batch_size: int) -> Extraction:
    """One teacher-forced pass of the frozen backbone per batch; `batch_size` decides the last bits and so is in the key."""
    spec, computer = sources.spec, sources.computer()
    request = {
        "family": "backbone",
        "protocol": PROTOCOL_VERSION,
        "data": sources.record.cache,
        "backbone": sources.record.backbone,
        "language": spec.model.language,
        "speaker": voice,
        "voices": derive_seed(spec.seed, "audit voices") if voice == "given" else None,
        "attention": spec.model.attention,
        "dtype": "bfloat16" if spec.training.precision == "bf16" and computer["device"] == "cuda" else "float32",
        "batch_size": batch_size,
        "computer": computer,
        "libraries": {name: version(name) for name in BACKBONE_LIBRARIES},
    }
    return Extraction(f"layers, S {voice}", request, tuple(names), lambda: _layers_of(sources, voice))


def _layers_of(sources: Sources, voice: Voice) -> Compute:
    from tune_accent.models.layers import pooled_layers
    from tune_accent.training.device import autocast

    data = sources.data
    data.backbone.model.eval()
    others = other_rows(sources.speech.table, sources.rows, sources.spec.seed, "audit voices") if voice == "given" else None

    def compute(chosen: Rows, names: Sequence[str]) -> dict[str, Matrix]:
        rows = sources.rows[chosen]
        speaker = data.mean_voice(len(rows)) if others is None else data.voices(others[chosen])
        with autocast(sources.spec.training, data.device):
            pooled = pooled_layers(data.backbone, data.inputs(rows), speaker, names)
        return {name: moments.cpu().numpy() for name, moments in pooled.items()}

    return compute


def acoustic(sources: Sources) -> Extraction:
    """Acoustic statistics of the sound (data/acoustic.py)."""
    from tune_accent.data import acoustic as features

    request = {
        "family": "acoustic",
        "protocol": features.PROTOCOL_VERSION,
        **sources.sound(),
        "libraries": {name: version(name) for name in ACOUSTIC_LIBRARIES},
    }
    return Extraction("acoustic features", request, ("acoustic",), lambda: each(sources, "acoustic", features.acoustic_features))


def each(sources: Sources, name: str, describe: Callable[[Wave], Matrix]) -> Compute:
    """A computation that hears one utterance at a time."""

    def compute(chosen: Rows, names: Sequence[str]) -> dict[str, Matrix]:
        return {name: np.stack([describe(wave) for wave in sources.waves(chosen)])}

    return compute
