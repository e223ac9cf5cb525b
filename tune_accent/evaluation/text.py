"""Text drop: how much of accent F1 comes from texts that the probe has heard in training.

Texts are dealt into G groups, and G probes are fitted, each without one group, all of equal size. Utterances of group g are scored by the
probe without g (their texts removed) and by the others (their texts allowed): same test utterances, same speakers, same training size.

A positive drop says that the probe needs to have heard the texts, not why: it may read the accent off the words, or it may have learnt to ignore
what the words add to z, which it cannot for words that it has not heard.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tune_accent.evaluation.accent import Confusions, gate_position, macro_f1, scored_accents, tally
from tune_accent.evaluation.bootstrap import Bounds, speaker_counts, speaker_interval
from tune_accent.evaluation.figures import Figure
from tune_accent.evaluation.probes import Design, Probe
from tune_accent.evaluation.protocol import Protocol
from tune_accent.evaluation.table import Floats, Ints, Rows

GROUPS = 3


@dataclass(frozen=True)
class TextPlan:
    """Group (0 … G - 1, or -1) of every row, and the G designs; or the reason why there are none."""

    group: Ints
    designs: tuple[Design, ...]
    reason: str | None = None


def plan(rows: Rows, seed: np.random.SeedSequence) -> TextPlan:
    """Choose the groups of texts and the training rows of each probe. `seed` says which surplus rows are left out."""
    group, reason = _group_texts(rows)
    if reason is not None:
        return TextPlan(group, (), reason)
    kept = _equal_rows(rows, group, np.random.default_rng(seed))
    designs = tuple(Design(rows.z, gate_position(rows, at), len(rows.gate), at) for at in kept)
    classes = [len(np.unique(design.labels)) for design in designs]
    if min(classes) < len(rows.gate):
        return TextPlan(group, (), "some accent has no training rows once a third of the texts is removed")
    return TextPlan(group, designs)


Sides = tuple[Confusions, Confusions]


def text_drop(sides: Sides, protocol: Protocol, seed: np.random.SeedSequence) -> Figure:
    """Signed, paired difference of macro-F1 with its interval: texts allowed in training minus texts removed (`text_sides`)."""
    accents = sides[0].accent
    bounds: Bounds = None, None
    if protocol.intervals:
        bounds = speaker_interval(drop(sides, speaker_counts(accents, protocol.bootstrap, seed)), accents, (-1.0, 1.0))
    return Figure(float(drop(sides)[0]), *bounds, chance=0.0, n=len(accents))


def drop(sides: Sides, counts: Floats | None = None) -> Floats:
    """The difference in each resample, (resamples,), or (1,) without counts."""
    return macro_f1(sides[0].matrix(counts)) - macro_f1(sides[1].matrix(counts))


def text_sides(rows: Rows, planned: TextPlan, probes: list[Probe], strength: int) -> Sides:
    """Predictions by speaker with the scored texts allowed in training, and with them removed; the plan must have probes.

    Args:
        rows: canonical rows.
        planned: groups and designs.
        probes: one for each design; those that allow a text count 1/(G - 1) each.
        strength: index of the strength of the accent probe; both sides use it.
    """
    accents = scored_accents(rows)
    removed = np.zeros((len(accents), len(rows.gate)))
    allowed = np.zeros_like(removed)
    at = rows.gate_rows(scored=True)
    for without, probe in enumerate(probes):
        predicted = probe.predict(rows.z[at], strength)
        own = planned.group[at] == without
        other = (planned.group[at] >= 0) & ~own
        removed += tally(rows, at[own], predicted[own])
        allowed += tally(rows, at[other], predicted[other], 1.0 / (len(probes) - 1))
    return Confusions(allowed, accents), Confusions(removed, accents)


def _group_texts(rows: Rows) -> tuple[Ints, str | None]:
    """Group of every row: texts that both train and scored speakers of the gate read, dealt out in order of appearance."""
    group = np.full(len(rows.text), -1)
    train, scored = rows.gate_rows(scored=False), rows.gate_rows(scored=True)
    if not (rows.text[scored] >= 0).any():
        return group, "the utterances have no text_id"
    shared = np.intersect1d(rows.text[train], rows.text[scored])
    shared = shared[shared >= 0]
    covered = np.isin(rows.text[scored], shared)
    if len(shared) < 2 or 2 * np.count_nonzero(covered) < len(scored):
        return (
            group,
            f"texts are not shared: {np.count_nonzero(covered)} of {len(scored)} scored utterances have a text that train speakers read",
        )
    heard = {int(accent) for accent in rows.accent[scored[covered]]}
    silent = [rows.accent_names[accent] for accent in rows.gate if accent not in heard]
    if silent:
        return group, f"no scored speaker of accent {silent[0]!r} reads a text that train speakers read"
    number = {int(text): position % min(GROUPS, len(shared)) for position, text in enumerate(shared)}
    return np.asarray([number.get(int(text), -1) for text in rows.text]), None


def _equal_rows(rows: Rows, group: Ints, generator: np.random.Generator) -> list[Ints]:
    """Training rows of each probe: per speaker as many as the smallest of its sets without one group holds."""
    train = rows.gate_rows(scored=False)
    train = train[group[train] >= 0]
    groups = range(int(group.max()) + 1)
    kept: list[list[Ints]] = [[] for _ in groups]
    for speaker in np.unique(rows.speaker[train]):
        own = train[rows.speaker[train] == speaker]
        sets = [own[group[own] != without] for without in groups]
        size = min(len(rest) for rest in sets)
        for without, rest in enumerate(sets):
            kept[without].append(rest if len(rest) == size else generator.choice(rest, size, replace=False))
    return [np.sort(np.concatenate(parts)) for parts in kept]
