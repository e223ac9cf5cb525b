"""Talkers whose truth is known, for the control experiment: they say what real espeak speakers said."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tune_accent.base.seeds import generator
from tune_accent.data.audio import Wave
from tune_accent.models.synthesis import Spoken
from tune_accent.paper.control_plan import Batch
from tune_accent.paper.control_speech import Embedding

Choose = Callable[[Batch, int], str]  # (batch, number of the text) → accent that is spoken


def follows(batch: Batch, place: int) -> str:
    """A sets the accent; without A it is the speaker's own."""
    return batch.target or batch.voice.accent


def deaf(batch: Batch, place: int) -> str:
    """The speaker's own, whatever A is."""
    return batch.voice.accent


class Planted:
    """Takes the sound of real utterances, by accent, and embeds by two simple statistics.

    Args:
        choose: which accent.
        sounds: accent → utterances to take from.
        fail_after: batches after which it is interrupted.

    Attributes:
        spoken: names of the batches that it said.
    """

    noise = False

    def __init__(self, choose: Choose, sounds: dict[str, list[Wave]], fail_after: int | None = None) -> None:
        self.identity = f"planted {choose.__name__}"
        self.choose, self.sounds, self.fail_after = choose, sounds, fail_after
        self.spoken: list[str] = []
        self.embedded = 0

    def speak(self, batch: Batch, reference: Embedding, seconds: float) -> Sequence[Spoken]:
        if self.fail_after is not None and len(self.spoken) >= self.fail_after:
            raise KeyboardInterrupt
        self.spoken.append(batch.name)
        return [self._one(batch, place) for place in range(len(batch.texts))]

    def _one(self, batch: Batch, place: int) -> Spoken:
        own = self.sounds[self.choose(batch, place)]
        at = generator(1, batch.voice.speaker, batch.texts[place].text).integers(len(own))
        return Spoken(np.zeros((5, 16), dtype=np.int64), own[int(at)], ended=True)

    def embed(self, wave: Wave) -> Embedding:
        self.embedded += 1
        return np.resize(np.abs(np.fft.rfft(wave, 128)[:32]).astype(np.float32), 32)
