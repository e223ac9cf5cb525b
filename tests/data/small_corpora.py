"""Rows, manifests and waves to build tests from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tune_accent.config import speech
from tune_accent.data.audio import Wave
from tune_accent.data.manifest import Manifest, Utterance

SMALL = speech.DemoSource(speakers=4, texts=3, workers=2)


def utterance(speaker: str, accent: str, number: int, text_id: str | None = None, **changes: Any) -> Utterance:
    """A row without audio."""
    fields: dict[str, Any] = {
        "utt_id": f"{speaker}-{number}",
        "audio_path": f"audio/{speaker}/{number}.wav",
        "speaker": speaker,
        "accent": accent,
        "text_id": text_id,
        "text": f"sentence {number}",
        "gender": "F",
        "duration_s": 3.0 + 0.1 * number,
        "sampling_rate": 24_000,
        "source": "test",
        "start_s": 10.0 * number,
    }
    return Utterance(**(fields | changes))


def corpus_of(speakers: dict[str, int], texts: Sequence[str | None], root: Path = Path("corpus")) -> Manifest:
    """A manifest without audio: accent → number of speakers, genders alternating, who read `texts`."""
    rows = [
        utterance(f"{accent}{number}", accent, place, text, gender="MF"[number % 2])
        for accent, count in speakers.items()
        for number in range(count)
        for place, text in enumerate(texts)
    ]
    return Manifest(root, tuple(rows))


def sine(seconds: float, hertz: float = 220.0, rate: int = 24_000, level: float = 0.1) -> Wave:
    """A tone."""
    return (level * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)
