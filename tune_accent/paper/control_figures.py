"""What the rows of `control.csv` come to: confusion target × heard, and figures with intervals over speakers.

Every figure is a mean over the utterances of a speaker, then over speakers, then over accents. Differences are taken within text × speaker first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tune_accent.evaluation import Figure
from tune_accent.evaluation.bootstrap import ANY, SHARE
from tune_accent.paper.control_plan import BASE, NONE, SET
from tune_accent.paper.speaker_means import SpeakerMeans

Row = Mapping[str, Any]
SIGNED = (-1.0, 1.0)
COSINES = {"similarity": "similarity", "ecapa": "ecapa"}  # columns → names of figures; higher is nearer to the reference
OTHERS = ("cer", "mos")
NAMES = {SET: "set", NONE: "none", BASE: "base"}


def heard_matrix(rows: Sequence[Row], accents: Sequence[str]) -> tuple[tuple[float, ...], ...]:
    """Target × heard shares of the utterances with A set; rows sum to 1."""
    counts = np.zeros((len(accents), len(accents)))
    for row in rows:
        if row["setting"] == SET:
            counts[accents.index(row["target"]), accents.index(row["heard"])] += 1
    return tuple(tuple(map(float, line)) for line in counts / counts.sum(axis=1, keepdims=True))


def control_figures(rows: Sequence[Row], accents: Sequence[str], resamples: int, seed: int) -> dict[str, Figure]:
    """The figures of `ControlResults`.

    Args:
        rows: of `control.csv`: every speaker × text in every setting, and with A set to every accent.
        accents: that are set.
        resamples: of speakers.
        seed: of the resamples.

    Returns:
        `follows`: share heard as the accent that is set. `follows_other`: the same where this is not the speaker's own; its chance is what A = ∅ gives.
        `lift`: `follows`, less the share that is heard as that accent without A. `own_without`, `own_base`: share heard as the speaker's own
        accent, with A = ∅ and without LoRA. `similarity_set`, `_none`, `_base`: cosine to the reference; its chance is that to the references of
        others. `similarity_drop`: A = ∅ less A set; `similarity_drop_base`: no LoRA less A set; positive where A costs similarity. `ecapa_…`
        likewise. `cer_…`, `mos_…`: means, and `…_change`, `…_change_base`: A set less A = ∅, and less no LoRA.
    """
    means = SpeakerMeans({row["speaker"]: row["accent"] for row in rows}, resamples, seed)
    figures = _accent_figures(rows, means, len(accents))
    columns = set(rows[0])
    for column in (*COSINES, *OTHERS):
        if column in columns:
            figures |= _column_figures(rows, means, column)
    return figures


def _accent_figures(rows: Sequence[Row], means: SpeakerMeans, accents: int) -> dict[str, Figure]:
    chance = 1.0 / accents
    own_without = means.figure(_values(rows, NONE, _own), chance, SHARE)
    others = [row for row in rows if row["target"] != row["accent"]]
    by_chance = (1.0 - (own_without.value or 0.0)) / (accents - 1)
    return {
        "follows": means.figure(_values(rows, SET, _target), chance, SHARE),
        "follows_other": means.figure(_values(others, SET, _target), by_chance, SHARE),
        "lift": means.figure(
            _paired(rows, NONE, lambda row, without: _target(row) - (without["heard"] == row["target"])), 0.0, SIGNED
        ),
        "own_without": own_without,
        "own_base": means.figure(_values(rows, BASE, _own), chance, SHARE),
    }


def _column_figures(rows: Sequence[Row], means: SpeakerMeans, column: str) -> dict[str, Figure]:
    cosine = column in COSINES
    change, sign = ("drop", -1.0) if cosine else ("change", 1.0)
    other = "similarity_other" if column == "similarity" and rows[0]["similarity_other"] is not None else None
    figures = {}
    for setting, name in NAMES.items():
        chance = means.figure(_values(rows, setting, lambda row: float(row[other]))).value if other else None
        within = SIGNED if cosine else ANY
        figures[f"{column}_{name}"] = means.figure(_values(rows, setting, lambda row: float(row[column])), chance, within)
    for setting, suffix in ((NONE, ""), (BASE, "_base")):
        pairs = _paired(rows, setting, lambda row, without: sign * (row[column] - without[column]))
        figures[f"{column}_{change}{suffix}"] = means.figure(pairs, 0.0, (-2.0, 2.0) if cosine else ANY)
    return figures


def _own(row: Row) -> float:
    return float(row["heard"] == row["accent"])


def _target(row: Row) -> float:
    return float(row["heard"] == row["target"])


def _values(rows: Sequence[Row], setting: str, value: Callable[[Row], float]) -> Iterator[tuple[str, float]]:
    return ((row["speaker"], value(row)) for row in rows if row["setting"] == setting)


def _paired(rows: Sequence[Row], setting: str, value: Callable[[Row, Row], float]) -> Iterator[tuple[str, float]]:
    """Each utterance with A set beside the same text × speaker in `setting`."""
    beside = {(row["speaker"], row["text_id"]): row for row in rows if row["setting"] == setting}
    for row in rows:
        if row["setting"] == SET:
            yield row["speaker"], float(value(row, beside[row["speaker"], row["text_id"]]))
