"""What remains of an import once the sound is known: nothing twice, and the minima once more."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable

from tune_accent.config import speech
from tune_accent.data.hygiene import duplicates
from tune_accent.data.manifest import Utterance
from tune_accent.data.sources import Rejected
from tune_accent.data.sources.census import Step, enough_speakers, enough_utterances, step
from tune_accent.data.sources.in_parts import Outcome

Filter = Callable[[list[Utterance]], list[Utterance]]


def settle(outcomes: Iterable[Outcome], cfg: speech.CoraaMupe) -> tuple[list[Utterance], list[Rejected], list[Step]]:
    """Rows by speaker and time, everything that was left out for its sound, and the end of the census."""
    rows, rejected, sounds = _together(outcomes)
    twin = duplicates(sounds.items())
    steps = [step("usable sound and transcript", rows)]
    filters: list[tuple[str, Filter]] = [("no sound twice", lambda rows: _without(rows, twin)), *_minima(cfg)]
    for label, keep in filters:
        kept = keep(rows)
        ids = {row.utt_id for row in kept}
        gone = [row.utt_id for row in rows if row.utt_id not in ids]
        rejected += [
            Rejected(name, f"the same sound as {twin[name]}" if name in twin else f"left without: {label}") for name in gone
        ]
        rows = kept
        steps.append(step(label, rows))
    rows.sort(key=lambda row: (row.speaker, row.session or "", row.start_s, row.utt_id))
    return rows, sorted(rejected, key=lambda item: (item.utt_id, item.reason)), steps


def _without(rows: list[Utterance], ids: Container[str]) -> list[Utterance]:
    return [row for row in rows if row.utt_id not in ids]


def _minima(cfg: speech.CoraaMupe) -> list[tuple[str, Filter]]:
    return [(f"{label}, with usable sound", keep) for label, keep in (enough_utterances(cfg), enough_speakers(cfg))]


def _together(outcomes: Iterable[Outcome]) -> tuple[list[Utterance], list[Rejected], dict[str, str]]:
    rows: list[Utterance] = []
    rejected: list[Rejected] = []
    sounds: dict[str, str] = {}
    for outcome in outcomes:
        rows += outcome.rows
        rejected += outcome.rejected
        sounds |= outcome.sounds
    return rows, rejected, sounds
