"""`evaluate(z, table, protocol, seed)`: every figure of one representation, by fresh linear probes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from tune_accent.evaluation.accent import Confusions, accent_figures, confusions, fit_accent, recall_figures
from tune_accent.evaluation.figures import AccentDetail, Evaluation, Figure, Speakers, Used
from tune_accent.evaluation.leakage import (
    Recalls,
    Task,
    auc_figure,
    draw_tasks,
    eligible,
    larger,
    measure,
    raw_task,
    speaker_aucs,
)
from tune_accent.evaluation.probes import blas_threads
from tune_accent.evaluation.protocol import PROTOCOL_VERSION, Protocol
from tune_accent.evaluation.secondary import secondary_details
from tune_accent.evaluation.table import Ints, Rows, read_rows
from tune_accent.evaluation.text import Sides, TextPlan, plan, text_drop, text_sides

T = TypeVar("T")
BARE = Protocol()


def evaluate(z: npt.NDArray[Any], table: pd.DataFrame, protocol: Protocol = BARE, seed: int = 0) -> Evaluation:
    """Measure accent and speaker leakage of `z`.

    The result depends on the values only: not on the order of the rows, on names of speakers, accents or texts, or on a positive
    scale of z; and it is the same bit for bit for the same input on the same machine.

    Args:
        z: (N, D) float, one vector per utterance.
        table: N rows, columns `utt_id`, `speaker`, `accent`, `text_id` (nullable), `split` in {train, val, test}, `fold` (int, -1 = none).
        protocol: how to measure; works bare.
        seed: of draws, bootstrap and permutations.

    Raises:
        DataError: the input breaks a rule; the message names the speaker, accent or rows.
    """
    rows = read_rows(z, table, protocol)
    seeds = dict(zip(("unseen", "seen", "bootstrap", "null", "text"), np.random.SeedSequence(seed).spawn(5), strict=True))
    able = {scored: eligible(rows, protocol, scored) for scored in (True, False)}
    speakers = min(protocol.speakers, *(len(found) for side in able.values() for found in side.values()))
    tasks = {
        True: draw_tasks(rows, able[True], speakers, True, protocol, seeds["unseen"]),
        False: draw_tasks(rows, able[False], speakers, False, protocol, seeds["seen"]),
    }
    with blas_threads(protocol.threads):
        texts = plan(rows, seeds["text"]) if protocol.text_drop else TextPlan(rows.text, (), "not asked for")
        probe, strength, text_probes = fit_accent(rows, protocol, list(texts.designs))
        found = confusions(rows, probe, strength)
        sides = None if texts.reason else text_sides(rows, texts, text_probes, strength)
        both = measure(rows, tasks[True], protocol), measure(rows, tasks[False], protocol)
        raw = measure(rows, [raw_task(rows, able[True])], protocol)
        aucs = speaker_aucs(rows, able[True])
        figures = _leakage_figures(both, raw, len(rows.gate), protocol, seeds["bootstrap"])
        figures["leakage_auc"] = auc_figure(rows, aucs, protocol, seeds["bootstrap"])
        figures["text_drop"] = (
            text_drop(sides, protocol, seeds["bootstrap"]) if sides is not None else Figure(None, reason=texts.reason)
        )
        f1, balanced = accent_figures(found, protocol, (seeds["bootstrap"], seeds["null"]))
        secondary = secondary_details(rows, probe, strength, protocol, seeds["bootstrap"])
        details = _details(rows, found, both, protocol, seeds["bootstrap"])
    return Evaluation(
        accent_f1=f1,
        accent_balanced_accuracy=balanced,
        **figures,
        per_accent=details,
        confusion=tuple(tuple(int(count) for count in row) for row in found.matrix()[0]),
        gate_accents=tuple(rows.accent_names[accent] for accent in rows.gate),
        secondary_accents=tuple(secondary),
        used=_used(rows, [*tasks[True], *tasks[False]]),
        strength=protocol.c_grid[strength],
        protocol_version=PROTOCOL_VERSION,
        secondary=secondary,
        speakers=_speakers(rows, found, both, raw, aucs, sides),
    )


def _leakage_figures(
    both: tuple[Recalls, Recalls], raw: Recalls, accents: int, protocol: Protocol, seed: np.random.SeedSequence
) -> dict[str, Figure]:
    unseen, seen = both[0].figure(protocol, seed), both[1].figure(protocol, seed)
    return {
        "leakage_unseen": unseen,
        "leakage_seen": seen,
        "leakage": larger(unseen, seen),
        "leakage_raw": raw.pooled_figure(protocol, seed),
        "leakage_raw_ceiling": Figure((accents - 1) / raw.speakers_per_probe, n=raw.speakers_per_probe),
    }


def _details(
    rows: Rows, found: Confusions, both: tuple[Recalls, Recalls], protocol: Protocol, seed: np.random.SeedSequence
) -> dict[str, AccentDetail]:
    recall = recall_figures(found, protocol, seed)
    return {
        rows.accent_names[accent]: AccentDetail(
            recall=recall[position],
            leakage_unseen=both[0].of_accent(accent, protocol, seed),
            leakage_seen=both[1].of_accent(accent, protocol, seed),
            train_speakers=len(rows.speakers_of(accent, scored=False)),
            scored_speakers=len(rows.speakers_of(accent, scored=True)),
        )
        for position, accent in enumerate(rows.gate)
    }


def _used(rows: Rows, tasks: list[Task]) -> Used:
    sizes = np.concatenate([np.unique(rows.speaker[task.at], return_counts=True)[1] for task in tasks])
    draws = max(np.unique([(task.stratum * 2 + int(rows.scored[task.at[0]])) for task in tasks], return_counts=True)[1])
    return Used(len(tasks[0].speakers), int(sizes.min()), int(sizes.max()), int(draws))


def _speakers(
    rows: Rows, found: Confusions, both: tuple[Recalls, Recalls], raw: Recalls, aucs: dict[int, float], sides: Sides | None
) -> Speakers:
    scored = np.unique(rows.speaker[rows.gate_rows(scored=True)])
    every = np.unique(rows.speaker[np.isin(rows.accent, rows.gate)])
    position = np.searchsorted(np.asarray(rows.gate), rows.speaker_accent)
    texts = () if sides is None else zip(sides[0].predicted.tolist(), sides[1].predicted.tolist(), strict=True)
    return Speakers(
        accent=_named(rows, every, position[every].tolist()),
        predicted=_named(rows, scored, (tuple(int(count) for count in row) for row in found.predicted)),
        unseen=_named(rows, both[0].speaker, both[0].pairs()),
        seen=_named(rows, both[1].speaker, both[1].pairs()),
        raw=_named(rows, raw.speaker, raw.recall.tolist()),
        auc=_named(rows, np.asarray(list(aucs)), aucs.values()),
        texts={} if sides is None else _named(rows, scored, ((tuple(a), tuple(b)) for a, b in texts)),
        number=_named(rows, every, every.tolist()),
    )


def _named(rows: Rows, speakers: Ints, values: Iterable[T]) -> dict[str, T]:
    return {rows.speaker_names[speaker]: value for speaker, value in zip(speakers, values, strict=True)}
