"""What is heard in an utterance of the control experiment: a checked record for each, so that an interrupted run goes on where it stopped.

    <root>/paper/control/<speaker>/<setting>-001-001.json    acoustic features, similarity to the reference, further columns

Accent is not in it: the probe hears the features, and is fitted anew each time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tune_accent.auditing.results import array_fingerprint
from tune_accent.base.files import sha256_json
from tune_accent.base.records import load_record, save_record
from tune_accent.data import acoustic
from tune_accent.data.audio import SAMPLING_RATE, Wave, set_loudness
from tune_accent.data.prepared import LIBRARIES
from tune_accent.paper.control_hooks import Ear, Hear, Heard, cosine
from tune_accent.paper.control_plan import Voice
from tune_accent.paper.control_speech import Embedding, Said, Talker

RECORDS = "control"  # below `paper/`
VERSION = 1  # raised whenever a record would hold something else


class Listener:
    """Hears utterances.

    Args:
        root: the results folder.
        talker: for its speaker encoder.
        loudness: of the real speech, in LUFS, that generated speech is brought to; None leaves the level alone.
        ears: further columns.
        embeddings: S of each voice, by `utt_id`.
        references: the sound behind it.
    """

    def __init__(
        self,
        root: Path,
        talker: Talker,
        loudness: float | None,
        ears: Sequence[Ear],
        embeddings: Mapping[str, Embedding],
        references: Mapping[str, Wave],
    ) -> None:
        self.root, self.talker, self.loudness, self.ears = root, talker, loudness, ears
        self.embeddings, self.references = embeddings, references
        self._common = {
            "version": VERSION,
            "acoustic": acoustic.PROTOCOL_VERSION,
            "talker": talker.identity,
            "loudness": loudness,
            "ears": {ear.column: ear.identity for ear in ears},
            "voices": {name: array_fingerprint(embedding) for name, embedding in sorted(embeddings.items())},
            "libraries": {name: version(name) for name in (*LIBRARIES, "librosa", "torch")},
        }

    def listen(self, said: Said) -> Mapping[str, Any]:
        """Features, `similarity` to the own reference, mean `similarity_other` to those of the other speakers, `seconds`, and the ears' columns."""
        key = sha256_json({**self._common, "audio": said.sha256, "voice": said.batch.voice.utt_id, "text": self._text(said)})
        path = self.root / "paper" / RECORDS / f"{said.name}.json"
        known = load_record(path, key)
        if known is not None:
            return known
        content = self._heard(said)
        save_record(path, key, content)
        return content

    def _heard(self, said: Said) -> dict[str, Any]:
        wave, own = said.wave(), said.batch.voice.utt_id
        seconds = len(wave) / SAMPLING_RATE
        wave = wave if self.loudness is None else set_loudness(wave, self.loudness)
        embedding = self.talker.embed(wave)
        similarity = {name: cosine(embedding, reference) for name, reference in self.embeddings.items()}
        others = [value for name, value in similarity.items() if name != own]
        heard = Heard(wave, self._text(said), self.references[own], own)
        return {
            "features": acoustic.acoustic_features(wave).tolist(),
            "similarity": similarity[own],
            "similarity_other": float(np.mean(others)) if others else None,
            "seconds": seconds,
            **{column: hear(heard) for column, hear in self._opened.items()},
        }

    @staticmethod
    def _text(said: Said) -> str:
        return said.batch.texts[said.place].text

    @cached_property
    def _opened(self) -> dict[str, Hear]:
        return {ear.column: ear.open() for ear in self.ears}


def references(
    voices: Sequence[Voice], speech_embeddings: Embedding, waves: Sequence[Wave]
) -> tuple[dict[str, Embedding], dict[str, Wave]]:
    """S (D,) and sound of each voice, by `utt_id`, from those of the whole table and of the voices."""
    embeddings = {voice.utt_id: np.array(speech_embeddings[voice.row], dtype=np.float32) for voice in voices}
    return embeddings, {voice.utt_id: wave for voice, wave in zip(voices, waves, strict=True)}
