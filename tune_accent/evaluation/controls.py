"""The same evaluation again, at other strengths and of other inputs: does a verdict hang on C, and what do the heads and S add?

Nothing is chosen here: every strength of a fixed grid and every representation is reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy.typing as npt
import pandas as pd

from tune_accent.base.errors import DataError
from tune_accent.config.schema import Gate
from tune_accent.evaluation.comparison import paired_difference
from tune_accent.evaluation.evaluate import evaluate
from tune_accent.evaluation.figures import Evaluation, Figure
from tune_accent.evaluation.gate import Verdict
from tune_accent.evaluation.protocol import Protocol

GRID = (0.001, 0.01, 0.1, 1.0, 10.0)
SHOWN = ("accent_f1", "leakage_unseen", "leakage_seen", "leakage")


@dataclass(frozen=True)
class Sweep:
    """The evaluation at each strength of a grid."""

    evaluations: Mapping[float, Evaluation]

    def verdicts(self, thresholds: Gate) -> dict[float, Verdict]:
        """The verdict at each strength."""
        return {strength: found.gate(thresholds) for strength, found in self.evaluations.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: one row per strength."""
        return {"rows": [{"strength": strength, **_shown(found)} for strength, found in self.evaluations.items()]}


def c_sweep(z: npt.NDArray[Any], table: pd.DataFrame, protocol: Protocol, seed: int = 0, grid: Sequence[float] = GRID) -> Sweep:
    """Evaluate with every probe, of accents and of speakers, at each strength C of `grid` in turn; arguments as for `evaluate`.

    Raises:
        DataError: the input breaks a rule; the message names the speaker, accent or rows.
    """
    return Sweep({c: evaluate(z, table, replace(protocol, c_grid=(c,)), seed) for c in grid})


@dataclass(frozen=True)
class InputComparison:
    """Representations of the same utterances side by side.

    Attributes:
        evaluations: by name; the first is the reference.
        differences: by name of each other one, then by figure: its value minus that of the reference, paired over speakers.
    """

    evaluations: Mapping[str, Evaluation]
    differences: Mapping[str, Mapping[str, Figure]]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: one row per representation, with its differences (the reference has none)."""
        return {"rows": [self._row(name, found) for name, found in self.evaluations.items()]}

    def _row(self, name: str, found: Evaluation) -> dict[str, Any]:
        differences = {key: figure.to_dict() for key, figure in self.differences.get(name, {}).items()}
        return {"name": name, **_shown(found), "difference": differences or None}


def compare_inputs(
    representations: Mapping[str, npt.NDArray[Any]], table: pd.DataFrame, protocol: Protocol, seed: int = 0
) -> InputComparison:
    """Evaluate several representations of the same rows: z, pooled h, z with S given.

    Args:
        representations: (N, D) each, D may differ; the first is what the others are compared with.
        table, protocol, seed: as for `evaluate`; every representation is measured with the same draws and resamples.

    Raises:
        DataError: there is no representation, or one breaks a rule; the message names it.
    """
    if not representations:
        raise DataError("there is no representation to compare", where="representations", fix="give one at least")
    found = {name: _evaluate(name, z, table, protocol, seed) for name, z in representations.items()}
    first, *others = found
    differences = {
        name: {key: paired_difference(found[name], found[first], key, protocol.bootstrap, seed) for key in SHOWN}
        for name in others
    }
    return InputComparison(found, differences)


def _evaluate(name: str, z: npt.NDArray[Any], table: pd.DataFrame, protocol: Protocol, seed: int) -> Evaluation:
    try:
        return evaluate(z, table, protocol, seed)
    except DataError as error:
        raise DataError(f"representation {name!r}: {error.what}", error.where, error.fix) from error


def _shown(found: Evaluation) -> dict[str, Any]:
    return {name: found.figures[name].to_dict() for name in SHOWN}
