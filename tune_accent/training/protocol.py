"""The one way in which a trial, an audit and the paper measure: what the config says, for the gate accents and the held fold of the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tune_accent.config.schema import Experiment
from tune_accent.evaluation import Protocol


def protocol(
    spec: Experiment,
    gate_accents: Sequence[str],
    held_fold: int,
    *,
    permutations: int = 0,
    score_split: Literal["val", "test"] = "val",
    text_drop: bool = True,
    intervals: bool = True,
    secondary: bool = True,
) -> Protocol:
    """The protocol of `spec.evaluation`.

    Args:
        spec: the experiment.
        gate_accents: that count, from the splits.
        held_fold: of the train speakers, from the splits.
        permutations: of the null of macro-F1.
        score_split: whose speakers are the unseen ones.
        text_drop, intervals, secondary: as in `Protocol`.
    """
    chosen = spec.evaluation
    return Protocol(
        speakers=chosen.speakers,
        utterances=chosen.utterances,
        draws=chosen.draws,
        c_grid=chosen.c_grid,
        bootstrap=chosen.bootstrap,
        permutations=permutations,
        gate_accents=tuple(gate_accents),
        held_fold=held_fold,
        score_split=score_split,
        text_drop=text_drop,
        intervals=intervals,
        secondary=secondary,
        threads=spec.training.threads,
    )
