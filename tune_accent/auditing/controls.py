"""Controls of the recommended layer: random accents, other strengths of the probe, S given in the place of S neutral."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tune_accent.auditing.evaluated import SetResult
from tune_accent.auditing.results import Records, array_fingerprint
from tune_accent.evaluation import Figure
from tune_accent.evaluation.comparison import paired_difference
from tune_accent.evaluation.controls import c_sweep
from tune_accent.evaluation.selectivity import selectivity

Features = npt.NDArray[np.float32]
SIDES = {"unseen": "unseen speakers", "known": "new utterances of train speakers"}
SELECTIVE = {"f1": "accent F1", "control": "accent F1 of random accents", "selectivity": "selectivity, their difference"}
COMPARED = {"accent_f1": "accent F1", "leakage": "leakage", "text_drop": "text drop"}


def selectivity_figures(features: Features, records: Records) -> dict[str, Figure]:
    """Selectivity (Hewitt & Liang 2019) of a layer, by what is measured."""

    def measure() -> Mapping[str, Any]:
        return selectivity(features, records.table, records.protocol, records.seed).to_dict()

    found = records.get("selectivity", {"features": array_fingerprint(features)}, measure)
    return {
        f"recommended layer, {where}: {label}": Figure.from_dict(found[side][name])
        for side, where in SIDES.items()
        for name, label in SELECTIVE.items()
    }


def strength_sweep(features: Features, records: Records) -> dict[float, dict[str, Figure]]:
    """C → figures of a layer with every probe at that strength, none of them chosen."""

    def measure() -> Mapping[str, Any]:
        swept = c_sweep(features, records.table, records.protocol, records.seed).evaluations
        return {repr(c): {name: one.to_dict() for name, one in found.figures.items()} for c, found in swept.items()}

    plain = records.get("c_sweep", {"features": array_fingerprint(features)}, measure)
    return {float(c): {name: Figure.from_dict(one) for name, one in figures.items()} for c, figures in plain.items()}


def given_differences(chosen: SetResult, results: Sequence[SetResult], records: Records) -> dict[str, Figure]:
    """S given minus S neutral of the same layer and pooling, paired over speakers; nothing where S given was not audited."""
    given = next((one for one in results if (one.name, one.pooling, one.speaker) == (chosen.name, chosen.pooling, "given")), None)
    if given is None or given.evaluation is None or chosen.evaluation is None:
        return {}
    pair, how = (given.evaluation, chosen.evaluation), (records.protocol.bootstrap, records.seed)
    return {
        f"recommended layer, S given minus S neutral: {label}": paired_difference(*pair, name, *how)
        for name, label in COMPARED.items()
    }
