"""A given wrongly: is the accent that z is heard with still the speaker's own, or the one that was set?

A probe of the gate accents, fitted on z of train speakers with A = ∅, hears z of test speakers whose A is set to each other gate accent in turn.
z is read off the speaker's own recorded frames: this says how far A overrides what was spoken, not what A does to generated speech (`control.csv`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from tune_accent.evaluation import Figure, Protocol
from tune_accent.evaluation.accent import fit_accent
from tune_accent.evaluation.bootstrap import SHARE
from tune_accent.evaluation.probes import blas_threads
from tune_accent.evaluation.table import read_rows
from tune_accent.paper.speaker_means import SpeakerMeans

Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Turn:
    """Utterances whose A is set.

    Attributes:
        z: (N, D).
        speaker, own, set: (N,) names of the speakers, of their accents, and of the accents that were set; all of these gate accents.
    """

    z: Values
    speaker: Sequence[str]
    own: Sequence[str]
    set: Sequence[str]


def other_accents(own: Sequence[str], gate_accents: Sequence[str]) -> list[list[str]]:
    """K - 1 turns, each with a gate accent for every entry of `own`: over the turns each other gate accent once. An accent outside the gate keeps itself."""
    place = {name: number for number, name in enumerate(gate_accents)}
    count = len(gate_accents)
    return [[gate_accents[(place[name] + turn) % count] if name in place else name for name in own] for turn in range(1, count)]


def heard(neutral: Values, table: pd.DataFrame, turns: Sequence[Turn], protocol: Protocol, seed: int) -> dict[str, Figure]:
    """`heard_true` and `heard_set`: share of the utterances heard as the speaker's accent, and as the one that was set.

    Means over speakers within accent, then over accents; chance is 1/K of K gate accents; intervals over speakers, stratified by accent.

    Args:
        neutral: (N, D) z of train and scored rows with A = ∅.
        table: their rows of the utterance table.
        turns: z of scored speakers with A set.
        protocol: gate accents, strengths, resamples, and whose speakers are scored.
        seed: of the resamples.
    """
    rows = read_rows(neutral, table, protocol)
    names = np.array([rows.accent_names[accent] for accent in rows.gate])
    with blas_threads(protocol.threads):
        probe, strength, _ = fit_accent(rows, protocol, [])
        predicted = np.concatenate([names[probe.predict(turn.z.astype(np.float64), strength)] for turn in turns])
    heard_as = pd.DataFrame({"speaker": _joined(turns, "speaker"), "own": _joined(turns, "own")})
    heard_as["heard_true"] = (predicted == heard_as["own"].to_numpy()).astype(np.float64)
    heard_as["heard_set"] = (predicted == _joined(turns, "set")).astype(np.float64)
    means = SpeakerMeans(dict(zip(heard_as["speaker"], heard_as["own"], strict=True)), protocol.bootstrap, seed)
    return {
        name: means.figure(zip(heard_as["speaker"], heard_as[name], strict=True), chance=1.0 / len(names), within=SHARE)
        for name in ("heard_true", "heard_set")
    }


def _joined(turns: Sequence[Turn], name: str) -> npt.NDArray[np.object_]:
    return np.concatenate([np.asarray(getattr(turn, name), dtype=object) for turn in turns])
