"""Everything that an audit evaluates: matrices of one row per train and val utterance, computed once and kept in a cache.

    table, sets = feature_sets(spec, spec.audit, Path("data/demo_en3/features"), device, progress)
    evaluate(sets[0].load(), table, protocol, seed)

Test rows are never read: the test split is opened by the paper run alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from tune_accent.auditing.extract import Sources, acoustic, backbone_layers
from tune_accent.auditing.speech_encoders import ecapa, ssl_layers
from tune_accent.auditing.store import FEATURES, Extraction, complete
from tune_accent.base.progress import Progress
from tune_accent.config.schema import Audit, Experiment, Pooling, Voice

if TYPE_CHECKING:
    import torch

Family = Literal["backbone", "acoustic", "ssl", "ecapa"]


@dataclass(frozen=True)
class FeatureSet:
    """One way to describe every utterance.

    Attributes:
        name: `text_encoder_out`, `decoder_block_08`, `pre_vocoder`, `acoustic`, `ssl_06` or `ecapa`.
        family: what computes it.
        depth: orders the layers of the backbone: block NN has NN, `text_encoder_out` -1, `pre_vocoder` one more than the last block; None elsewhere.
        pooling: over time. `acoustic` and `ecapa` are statistics already and have "mean+std" alone.
        speaker: S of the pass: "neutral" is the mean embedding, "given" that of another utterance of the speaker; None outside the backbone.
        file: .npy (N, D): mean beside standard deviation.
    """

    name: str
    family: Family
    depth: int | None
    pooling: Pooling
    speaker: Voice | None
    file: Path

    def load(self) -> npt.NDArray[np.float32]:
        """(N, D) float32 in the order of the utterance table."""
        moments = np.load(self.file, mmap_mode="r", allow_pickle=False)
        columns = moments.shape[1] // 2 if self.pooling == "mean" else moments.shape[1]
        return np.array(moments[:, :columns], dtype=np.float32, order="C")


def feature_sets(
    spec: Experiment, options: Audit, cache: Path, device: torch.device | str, on_progress: Progress
) -> tuple[pd.DataFrame, list[FeatureSet]]:
    """Compute what is missing in `cache`, and describe what is in it. An interrupted extraction goes on where it stopped.

    Args:
        spec: the experiment: its data are prepared where they are not yet.
        options: which features; `spec.audit`.
        cache: folder of the cache; can be shared by all audits.
        device: where models run.
        on_progress: told about utterances.

    Returns:
        The table of the N train and val utterances (utt_id, speaker, accent, text_id, gender, split, fold), and the feature sets: the
        backbone's by speaker, depth and pooling, then acoustic, ssl and ecapa. Where S is given, `text_encoder_out` is the same as where it is not.

    Raises:
        UserError: unknown layers, a missing extra or model, broken data, a cache that another process is filling.
    """
    from tune_accent.models.layers import chosen_layers, depth

    layers = decoder_blocks_of(spec)
    names = chosen_layers(options.layers, layers)
    sources = Sources(spec, device, on_progress)
    extractions: list[tuple[Family, Voice | None, Extraction]] = [
        ("backbone", voice, backbone_layers(sources, names, voice, options.batch_size))
        for voice in dict.fromkeys(options.speaker)
    ]
    extractions += [(family, None, extraction) for family, extraction in _others(sources, options)]
    chunks = sources.chunks(options.batch_size)
    for _, _, extraction in extractions:
        complete(cache, extraction, chunks, on_progress)
    sets = [
        FeatureSet(
            name,
            family,
            depth(name, layers) if family == "backbone" else None,
            pooling,
            voice,
            extraction.folder(cache, name) / FEATURES,
        )
        for family, voice, extraction in extractions
        for name in extraction.names
        for pooling in _poolings(family, options)
    ]
    return sources.speech.table.iloc[sources.rows].reset_index(drop=True), sets


def _others(sources: Sources, options: Audit) -> Iterator[tuple[Family, Extraction]]:
    if options.acoustic:
        yield "acoustic", acoustic(sources)
    if options.ssl is not None:
        yield "ssl", ssl_layers(sources, options.ssl)
    if options.ecapa:
        yield "ecapa", ecapa(sources)


def _poolings(family: Family, options: Audit) -> Sequence[Pooling]:
    return list(dict.fromkeys(options.poolings)) if family in ("backbone", "ssl") else ["mean+std"]


def decoder_blocks_of(spec: Experiment) -> int:
    """Number of decoder blocks of the experiment's backbone, without its weights.

    Raises:
        ModelError: there is no such backbone.
    """
    if spec.model.backbone == "tiny":
        return spec.model.tiny.layers
    from tune_accent.models.checkpoint import decoder_blocks

    return decoder_blocks(spec.model.backbone)
