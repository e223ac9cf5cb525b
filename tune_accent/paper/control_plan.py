"""What the control experiment says: fixed texts × test speakers × every accent, with A = ∅, and without LoRA.

A speaker's voice is one real utterance of another text than those that are said, where the speaker has one. Utterances are generated in batches of one
speaker and one setting, whose texts and draws are the same in every setting: accents are compared under the same noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tune_accent.base.errors import DataError
from tune_accent.base.seeds import derive_seed, generator
from tune_accent.config.schema import Control
from tune_accent.data.manifest import Utterance
from tune_accent.data.prepared import Prepared

Setting = Literal["A set", "A none", "no LoRA"]
SET: Setting = "A set"
NONE: Setting = "A none"
BASE: Setting = "no LoRA"
SHORT = {SET: "set", NONE: "none", BASE: "base"}  # in names of folders


@dataclass(frozen=True)
class Text:
    """A sentence of the data set; `text_id` is the utterance's id where texts are not shared."""

    text_id: str
    text: str


@dataclass(frozen=True)
class Voice:
    """A test speaker, and the row of the utterance table that S is taken from. `said`: whether its text is one of those that are generated."""

    speaker: str
    accent: str
    row: int
    utt_id: str
    said: bool


@dataclass(frozen=True)
class Batch:
    """Utterances that are generated at once.

    Attributes:
        name: of its folder, unique.
        voice: whose S.
        setting: what the model is given.
        target: the accent of A, or None for A = ∅.
        texts: what is said.
        seed: of the draws; the same in every setting.
    """

    name: str
    voice: Voice
    setting: Setting
    target: str | None
    texts: tuple[Text, ...]
    seed: int


@dataclass(frozen=True)
class Plan:
    """Everything that is said. `accents` are those that are set, and those of the speakers."""

    accents: tuple[str, ...]
    texts: tuple[Text, ...]
    voices: tuple[Voice, ...]
    batches: tuple[Batch, ...]


def make_plan(options: Control, speech: Prepared, manifest: Sequence[Utterance], seed: int) -> Plan:
    """Choose texts, speakers and references.

    Args:
        options: how many; `max_seconds` leaves out texts that take longer to say.
        speech: the utterance table; its gate accents count.
        manifest: rows for its `utt_id`s.
        seed: of the choice of speakers and references, and of all draws.

    Raises:
        DataError: there are no texts of test speakers.
    """
    of = {row.utt_id: row for row in manifest}
    accents = tuple(sorted(speech.gate_accents))
    test = {int(row): of[speech.table["utt_id"][row]] for row in speech.rows_of("test")}
    test = {row: utterance for row, utterance in test.items() if utterance.accent in accents}
    texts = choose_texts(list(test.values()), options.texts, options.max_seconds)
    voices = tuple(_voices(test, texts, accents, options.speakers, seed))
    return Plan(accents, texts, voices, tuple(_batches(texts, voices, accents, options.batch, seed)))


def choose_texts(rows: Sequence[Utterance], count: int, max_seconds: float) -> tuple[Text, ...]:
    """`count` different texts, evenly spread over those of `rows` by id; those that were said within `max_seconds`, where there are such.

    Raises:
        DataError: there are none.
    """
    by_text = {row.text.strip(): Text(row.text_id or row.utt_id, row.text.strip()) for row in reversed(rows) if row.text.strip()}
    if not by_text:
        raise DataError("the test speakers have no transcripts", "manifest.jsonl", "texts are needed to generate speech")
    short = {row.text.strip() for row in rows if row.duration_s <= max_seconds} & set(by_text) or set(by_text)
    known = sorted((by_text[text] for text in short), key=lambda one: (one.text_id, one.text))
    places = np.unique(np.linspace(0, len(known) - 1, min(count, len(known))).round().astype(int))
    return tuple(known[place] for place in places)


def _voices(
    test: Mapping[int, Utterance], texts: Sequence[Text], accents: Sequence[str], count: int, seed: int
) -> Iterator[Voice]:
    said = {one.text for one in texts}
    for accent in accents:
        names = sorted({one.speaker for one in test.values() if one.accent == accent})
        drawn = generator(seed, "control speakers", accent).choice(names, size=min(count, len(names)), replace=False)
        for name in sorted(map(str, drawn)):
            own = [row for row, one in test.items() if one.speaker == name]
            other = [row for row in own if test[row].text.strip() not in said]
            row = int(generator(seed, "control reference", name).choice(other or own))
            yield Voice(name, accent, row, test[row].utt_id, not other)


def _batches(texts: Sequence[Text], voices: Sequence[Voice], accents: Sequence[str], size: int, seed: int) -> Iterator[Batch]:
    """Those with LoRA first: the model is loaded once with, and once without."""
    settings: list[tuple[Setting, str | None]] = [*((SET, accent) for accent in accents), (NONE, None), (BASE, None)]
    for with_lora in (True, False):
        for voice in voices:
            for setting, target in settings:
                if (setting != BASE) == with_lora:
                    for start in range(0, len(texts), size):
                        chosen = tuple(texts[start : start + size])
                        draws = derive_seed(seed, "control draws", voice.speaker)
                        yield Batch(_name(voice, setting, target, start), voice, setting, target, chosen, draws)


def _name(voice: Voice, setting: Setting, target: str | None, start: int) -> str:
    """<speaker>/<setting>[-<accent>]-<number of its first text>; different ones stay different in any file system."""
    words = [SHORT[setting], *([] if target is None else [target]), f"{start + 1:03d}"]
    return f"{file_name(voice.speaker)}/{'-'.join(map(file_name, words))}"


def file_name(text: str) -> str:
    """`text` with what a file system may refuse escaped."""
    return "".join(sign if sign.isalnum() or sign in "-_" else f"%{ord(sign):x}" for sign in text)
