"""The demo corpus: espeak-ng reads the same sentences in several accents, as many invented speakers per accent.

A speaker is a voice variant × pitch × pitch range × rate, drawn by seed, and has one accent. It is real audio with real dialect
phonology but no human voice. The audio is bit-identical from run to run for any number of workers (see `espeak_worker.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tune_accent.base.errors import DataError
from tune_accent.base.progress import Progress
from tune_accent.config import speech
from tune_accent.data.manifest import Manifest, Utterance
from tune_accent.data.sources import Rejected
from tune_accent.data.sources.demo_texts import ENGLISH, PORTUGUESE
from tune_accent.data.sources.espeak import Request, Spoken, installed_voices, synthesise
from tune_accent.data.sources.making import make_corpus

RECIPE = 1  # counts up when the same parameters give other audio
PRESETS = {"EN3": (("en-us", "en-gb-scotland", "en-029"), ENGLISH), "PT2": (("pt", "pt-br"), PORTUGUESE)}
# The tame voice variants; the others whisper, croak or are robots. Names are checked against the engine's folder, which takes unknown ones silently.
MALE = (
    *(f"m{number}" for number in range(1, 9)),
    *("Andy", "Gene", "Lee", "Michael", "Mike", "antonio", "david", "gustave"),
    *("iven", "iven3", "john", "marcelo", "norbert", "pedro", "robert", "travis"),
)
FEMALE = (
    *(f"f{number}" for number in range(1, 6)),
    *("Alicia", "Andrea", "Annie", "anika", "aunty", "belinda", "grandma", "linda", "steph", "steph2", "steph3"),
)
PITCHES, RANGES, RATES = (35, 65), (35, 65), (150, 190)  # inclusive; engine units, and words per minute


@dataclass(frozen=True)
class Speaker:
    """One invented speaker."""

    name: str
    accent: str
    gender: str
    variant: str
    pitch: int
    range: int
    rate: int


@dataclass(frozen=True)
class Demo:
    """The `Source` of the demo."""

    cfg: speech.DemoSource
    seed: int

    @property
    def record(self) -> dict[str, Any]:
        """Everything that decides the audio; the number of workers does not."""
        return {
            "source": "demo",
            "recipe": RECIPE,
            "preset": self.cfg.preset,
            "speakers": self.cfg.speakers,
            "texts": self.cfg.texts,
            "seed": self.seed,
        }

    def fill(self, root: Path, progress: Progress) -> tuple[Sequence[Utterance], Sequence[Rejected]]:
        """Synthesise every speaker × text.

        Raises:
            MissingDependency: the extra `demo` is not installed.
            DataError: the engine lacks a voice or fails.
        """
        speakers, texts = draw_speakers(self.cfg, self.seed), PRESETS[self.cfg.preset][1][: self.cfg.texts]
        _assert_variants({speaker.variant for speaker in speakers})
        plan = [(speaker, number) for speaker in speakers for number in range(len(texts))]
        requests = [_request(root, speaker, number, texts[number]) for speaker, number in plan]
        engine, spoken = synthesise(requests, self.cfg.workers, progress)
        return [_row(*place, texts, item, engine) for place, item in zip(plan, spoken, strict=True)], []


def ensure(root: Path, cfg: speech.DemoSource, seed: int, progress: Progress) -> Manifest:
    """Make the demo corpus in `root`, or read it where it is made already; see `making.make_corpus` for errors."""
    return make_corpus(root, Demo(cfg, seed), progress)


def draw_speakers(cfg: speech.DemoSource, seed: int) -> tuple[Speaker, ...]:
    """The speakers of a preset, by accent and number; genders alternate, and variants repeat in an accent only once all are used."""
    speakers: list[Speaker] = []
    for accent, stream in zip(accents := PRESETS[cfg.preset][0], np.random.SeedSequence(seed).spawn(len(accents)), strict=True):
        generator = np.random.default_rng(stream)
        pools = {"M": _shuffled(MALE, cfg.speakers, generator), "F": _shuffled(FEMALE, cfg.speakers, generator)}
        for number in range(cfg.speakers):
            gender = "MF"[number % 2]
            pitch, span, rate = (int(generator.integers(low, high + 1)) for low, high in (PITCHES, RANGES, RATES))
            variant = pools[gender][number // 2]
            speakers.append(Speaker(f"{accent}_s{number:02d}", accent, gender, variant, pitch, span, rate))
    return tuple(speakers)


def _shuffled(variants: tuple[str, ...], count: int, generator: np.random.Generator) -> list[str]:
    """At least `count` variants: shuffled rounds of all of them."""
    rounds = -(-count // len(variants))
    return [variants[int(index)] for _ in range(rounds) for index in generator.permutation(len(variants))]


def _assert_variants(variants: set[str]) -> None:
    missing = sorted(variants - installed_voices())
    if missing:
        raise DataError(
            f"the installed espeak-ng has no voice variant {missing[0]!r}",
            where="espeak-ng-data/voices/!v",
            fix="pip install 'tune-accent[demo]' for the pinned version",
        )


def _place(speaker: Speaker, number: int) -> str:
    return f"audio/{speaker.name}/t{number:02d}.wav"


def _request(root: Path, speaker: Speaker, number: int, text: str) -> Request:
    voice = f"{speaker.accent}+{speaker.variant}"
    return Request(str(root / _place(speaker, number)), voice, text, speaker.rate, speaker.pitch, speaker.range)


def _row(speaker: Speaker, number: int, texts: Sequence[str], spoken: Spoken, engine: str) -> Utterance:
    return Utterance(
        utt_id=f"{speaker.name}_t{number:02d}",
        audio_path=_place(speaker, number),
        speaker=speaker.name,
        accent=speaker.accent,
        text_id=f"t{number:02d}",
        text=texts[number],
        gender=speaker.gender,
        duration_s=spoken.samples / spoken.sampling_rate,
        sampling_rate=spoken.sampling_rate,
        source=f"espeak-ng {engine}",
        start_s=0.0,
        audio_sha256=spoken.sha256,
    )
