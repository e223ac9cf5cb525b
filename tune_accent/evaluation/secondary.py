"""Secondary accents, reported apart: too few speakers for the gate, and no figure of the gate depends on them.

The probe of the gate accents has no name for a secondary accent, so what it calls one says which gate accent it resembles, not how well it
is recognised. Recall takes a further probe, fitted on every accent that has a train speaker, at the strength that the gate probe chose.
"""

from __future__ import annotations

import numpy as np

from tune_accent.evaluation.bootstrap import Bounds, posterior_counts, posterior_interval
from tune_accent.evaluation.figures import Figure, SecondaryDetail
from tune_accent.evaluation.probes import Design, Probe, fit
from tune_accent.evaluation.protocol import Protocol
from tune_accent.evaluation.table import Floats, Ints, Rows


def secondary_details(
    rows: Rows, probe: Probe, strength: int, protocol: Protocol, seed: np.random.SeedSequence
) -> dict[str, SecondaryDetail]:
    """Every accent outside the gate, by name.

    Args:
        rows: canonical rows.
        probe: of the gate accents.
        strength: index of its strength.
        protocol: whether to fit the further probe, and for the intervals.
        seed: of the bootstrap.
    """
    found = {}
    others = [number for number in range(len(rows.accent_names)) if number not in rows.gate]
    recalls = _recalls(rows, others, protocol.c_grid[strength], protocol, seed)
    for accent in others:
        at = _scored(rows, accent)
        given = (
            np.bincount(probe.predict(rows.z[at], strength), minlength=len(rows.gate)) if len(at) else np.zeros(len(rows.gate))
        )
        found[rows.accent_names[accent]] = SecondaryDetail(
            predicted=tuple(int(count) for count in given),
            recall=recalls[accent],
            train_speakers=len(rows.speakers_of(accent, scored=False)),
            scored_speakers=len(rows.speakers_of(accent, scored=True)),
        )
    return found


def _scored(rows: Rows, accent: int) -> Ints:
    return np.flatnonzero((rows.accent == accent) & rows.scored)


def _recalls(rows: Rows, others: list[int], c: float, protocol: Protocol, seed: np.random.SeedSequence) -> dict[int, Figure]:
    heard = [accent for accent in others if len(rows.speakers_of(accent, scored=False))]
    able = [accent for accent in heard if len(_scored(rows, accent))]
    found = dict.fromkeys(others, Figure(None, reason="no scored speaker"))
    found |= dict.fromkeys(set(others) - set(heard), Figure(None, reason="no train speaker"))
    if not protocol.secondary:
        return found | dict.fromkeys(able, Figure(None, reason="not asked for"))
    if not able:
        return found
    classes = np.sort([*rows.gate, *heard])
    train = np.flatnonzero(~rows.scored & np.isin(rows.accent, classes))
    [probe] = fit([Design(rows.z[train], np.searchsorted(classes, rows.accent[train]), len(classes))], (c,))
    for accent in able:
        at = _scored(rows, accent)
        hits = classes[probe.predict(rows.z[at], 0)] == accent
        found[accent] = _recall(rows.speaker[at], hits.astype(np.float64), 1.0 / len(classes), protocol, seed)
    return found


def _recall(speaker: Ints, hits: Floats, chance: float, protocol: Protocol, seed: np.random.SeedSequence) -> Figure:
    _, group, sizes = np.unique(speaker, return_inverse=True, return_counts=True)
    value = float(hits.mean())
    bounds: Bounds = None, None
    if protocol.intervals and len(sizes) > 1:
        own = np.append(np.bincount(group, weights=hits), (0.0, sizes.mean()))
        one, pseudo = np.zeros(len(sizes), dtype=np.int64), np.zeros(2, dtype=np.int64)
        counts = posterior_counts(one, pseudo, 1.0, protocol.bootstrap, seed)
        bounds = posterior_interval(counts @ own / (counts @ np.append(sizes, [sizes.mean()] * 2)), value, np.inf)
    return Figure(value, *bounds, chance=chance, n=len(sizes))
