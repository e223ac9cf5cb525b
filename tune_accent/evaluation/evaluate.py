"""`evaluate(z, table, protocol, seed)`: every figure of one representation, by fresh linear probes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tune_accent.evaluation.accent import Confusions, accent_figures, confusions, fit_accent, recalls
from tune_accent.evaluation.figures import AccentDetail, Evaluation, Figure, Used
from tune_accent.evaluation.leakage import Recalls, Task, draw_tasks, eligible, larger, measure, raw_task, speaker_auc
from tune_accent.evaluation.probes import one_blas_thread
from tune_accent.evaluation.protocol import PROTOCOL_VERSION, Protocol
from tune_accent.evaluation.table import Rows, read_rows
from tune_accent.evaluation.text import TextPlan, plan, text_drop

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
    with one_blas_thread():
        texts = plan(rows, seeds["text"]) if protocol.text_drop else TextPlan(rows.text, (), "not asked for")
        probe, strength, text_probes = fit_accent(rows, protocol, list(texts.designs))
        found = confusions(rows, probe, strength)
        both = measure(rows, tasks[True], protocol), measure(rows, tasks[False], protocol)
        raw = measure(rows, [raw_task(rows, able[True])], protocol)
        figures = _leakage_figures(both, raw, len(rows.gate), protocol, seeds["bootstrap"])
        figures["leakage_auc"] = speaker_auc(rows, able[True], protocol, seeds["bootstrap"])
        figures["text_drop"] = text_drop(rows, texts, text_probes, strength, protocol, seeds["bootstrap"])
        f1, balanced = accent_figures(found, protocol, (seeds["bootstrap"], seeds["null"]))
    return Evaluation(
        accent_f1=f1,
        accent_balanced_accuracy=balanced,
        **figures,
        per_accent=_details(rows, found, *both),
        confusion=tuple(tuple(int(count) for count in row) for row in found.matrix()[0]),
        gate_accents=tuple(rows.accent_names[accent] for accent in rows.gate),
        secondary_accents=tuple(name for number, name in enumerate(rows.accent_names) if number not in rows.gate),
        used=_used(rows, [*tasks[True], *tasks[False]], len(rows.gate)),
        strength=protocol.c_grid[strength],
        protocol_version=PROTOCOL_VERSION,
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


def _details(rows: Rows, found: Confusions, unseen: Recalls, seen: Recalls) -> dict[str, AccentDetail]:
    recall = recalls(found.matrix())[0]
    return {
        rows.accent_names[accent]: AccentDetail(
            recall=float(recall[position]),
            leakage_unseen=unseen.of_accent(accent),
            leakage_seen=seen.of_accent(accent),
            train_speakers=len(rows.speakers_of(accent, scored=False)),
            scored_speakers=len(rows.speakers_of(accent, scored=True)),
        )
        for position, accent in enumerate(rows.gate)
    }


def _used(rows: Rows, tasks: list[Task], accents: int) -> Used:
    sizes = np.concatenate([np.unique(rows.speaker[task.at], return_counts=True)[1] for task in tasks])
    draws = max(np.unique([(task.stratum * 2 + int(rows.scored[task.at[0]])) for task in tasks], return_counts=True)[1])
    return Used(len(tasks[0].speakers), int(sizes.min()), int(sizes.max()), int(draws))
