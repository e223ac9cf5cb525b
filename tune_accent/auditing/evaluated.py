"""The figures of one feature set: read from its record, or measured and written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tune_accent.auditing.features import Family, FeatureSet, decoder_blocks_of
from tune_accent.auditing.results import Records, array_fingerprint
from tune_accent.config.schema import Experiment, Pooling, Voice
from tune_accent.evaluation import Evaluation, evaluate

Features = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SetResult:
    """A feature set and its figures, or why it has none.

    Attributes:
        name, family, depth, pooling, speaker: as in `FeatureSet`.
        layer: k, the value of `model.layer` with which a search reads this state; None where none does.
        evaluation: None where `failed` says why.
    """

    name: str
    family: Family
    depth: int | None
    pooling: Pooling
    speaker: Voice | None
    layer: int | None
    evaluation: Evaluation | None
    failed: str | None = None

    @property
    def is_candidate(self) -> bool:
        """Whether a search reads exactly this: a layer it can be set to, mean and std over frames, S neutral."""
        return self.layer is not None and self.speaker == "neutral" and self.pooling == "mean+std"


def search_layer_of(one: FeatureSet, spec: Experiment) -> int | None:
    """The `model.layer` k that reads this state: `hidden_states[k]`, the output of decoder block k - 1; None where no k does."""
    if one.family != "backbone":
        return None
    from tune_accent.models.layers import search_layer

    return search_layer(one.name, decoder_blocks_of(spec))


def evaluated(one: FeatureSet, layer: int | None, records: Records) -> SetResult:
    """Evaluate `one`, or read what it came to.

    Args:
        one: the features; a row per utterance of the records' table.
        layer: its `search_layer_of`.
        records: of the audit.
    """
    bare = SetResult(one.name, one.family, one.depth, one.pooling, one.speaker, layer, None)
    features = one.load()
    name = "-".join(part for part in (one.name, one.pooling, one.speaker) if part)
    content = records.get(name, {"features": array_fingerprint(features)}, lambda: _measured(features, records))
    found = content["evaluation"]
    return replace(bare, evaluation=None if found is None else Evaluation.from_dict(found), failed=content["failed"])


def _measured(features: Features, records: Records) -> Mapping[str, Any]:
    table = records.table
    broken = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(broken):
        reason = f"{len(broken)} of {len(features)} rows are not finite, the first is {table['utt_id'].iloc[broken[0]]!r}"
        return {"evaluation": None, "failed": reason}
    found = evaluate(features, table, records.protocol, records.seed)
    return {"evaluation": found.to_dict(), "failed": None}
