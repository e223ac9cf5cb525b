"""Further ears of the control experiment: ECAPA-TDNN, a transcriber (character error rate), a naturalness score. Each is optional, and imported when asked for.

None of them is needed for accent or similarity; what they need is checked before anything is generated.
"""

from __future__ import annotations

import importlib
import importlib.util
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tune_accent.base.errors import MissingDependency, ModelError
from tune_accent.config.schema import Control
from tune_accent.data.audio import SAMPLING_RATE, Wave

RATE = 16_000  # Hz, of Whisper
INSTALL_ECAPA = "pip install 'tune-accent[ecapa]'"
INSTALL_WHISPER = "pip install 'tune-accent[whisper]'"
NO_UTMOS = (
    "no UTMOS package installs beside this torch (utmos 1.1.10 needs fairseq): leave paper.control.mos off, or install one that does, "
    "with the interface of utmos.Score"
)
CODES = {  # languages of Qwen3-TTS, as Whisper names them
    "chinese": "zh",
    "english": "en",
    "french": "fr",
    "german": "de",
    "italian": "it",
    "japanese": "ja",
    "korean": "ko",
    "portuguese": "pt",
    "russian": "ru",
    "spanish": "es",
}


@dataclass(frozen=True)
class Heard:
    """What an ear is given.

    Attributes:
        wave: (samples,) at 24 kHz, at the loudness of the config.
        text: that was to be said.
        reference: (samples,), the real utterance that the voice was taken from.
        voice: names it.
    """

    wave: Wave
    text: str
    reference: Wave
    voice: str


Hear = Callable[[Heard], float]


@dataclass(frozen=True)
class Ear:
    """A further column of the table.

    Attributes:
        column: its name.
        identity: changes whenever the same sound would get another value.
        open: loads what is needed. Called only where something has not been heard yet.
    """

    column: str
    identity: str
    open: Callable[[], Hear]


def ears_of(options: Control, language: str | None) -> list[Ear]:
    """What the config asks for.

    Args:
        options: `ecapa`, `whisper`, `mos`.
        language: of the speech; None lets the transcriber find out.

    Raises:
        MissingDependency: a package is not installed; the message names the command.
    """
    ears = []
    if options.ecapa:
        _need("speechbrain", "paper.control.ecapa", INSTALL_ECAPA)
        ears.append(Ear("ecapa", "speechbrain/spkrec-ecapa-voxceleb", open_ecapa))
    if options.whisper is not None:
        _need("faster_whisper", "paper.control.whisper", INSTALL_WHISPER)
        name = options.whisper
        ears.append(character_errors(f"faster-whisper {name}", lambda: open_whisper(name, language)))
    if options.mos:
        _need("utmos", "paper.control.mos", NO_UTMOS)
        ears.append(naturalness("utmos", open_utmos))
    return ears


def _need(package: str, key: str, fix: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise MissingDependency(f"the package {package} is not installed", where=key, fix=fix)


def character_errors(identity: str, open_transcriber: Callable[[], Callable[[Wave], str]]) -> Ear:
    """`cer`: edits of characters per character of the text, letter case and punctuation aside.

    Args:
        identity: of the transcriber.
        open_transcriber: gives a function from a wave at 24 kHz to text.
    """

    def opened() -> Hear:
        transcribe = open_transcriber()
        return lambda heard: character_error_rate(heard.text, transcribe(heard.wave))

    return Ear("cer", identity, opened)


def naturalness(identity: str, open_score: Callable[[], Callable[[Wave], float]]) -> Ear:
    """`mos`: predicted mean opinion score, 1 to 5.

    Args:
        identity: of the predictor.
        open_score: gives a function from a wave at 24 kHz to the score.
    """

    def opened() -> Hear:
        score = open_score()
        return lambda heard: float(score(heard.wave))

    return Ear("mos", identity, opened)


def open_ecapa() -> Hear:
    """Cosine of ECAPA-TDNN embeddings of the utterance and its reference, which is embedded once."""
    import torch

    from tune_accent.auditing.speech_encoders import ECAPA, ECAPA_WEIGHTS, load_ecapa, local_folder

    weights = local_folder(ECAPA, "paper.control.ecapa", (ECAPA_WEIGHTS,)) / ECAPA_WEIGHTS
    embed = load_ecapa(weights, torch.device("cpu"))
    references: dict[str, np.ndarray] = {}

    def hear(heard: Heard) -> float:
        if heard.voice not in references:
            references[heard.voice] = embed(heard.reference)
        return cosine(embed(heard.wave), references[heard.voice])

    return hear


def open_whisper(name: str, language: str | None) -> Callable[[Wave], str]:
    """faster-whisper on the CPU in float32, greedy over temperatures: the same sound gives the same text.

    Raises:
        ModelError: no such model.
    """
    import soxr

    try:
        model = importlib.import_module("faster_whisper").WhisperModel(name, device="cpu", compute_type="float32", cpu_threads=1)
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"faster-whisper cannot load {name!r}: {error}", "paper.control.whisper", "give a folder or a name"
        ) from error
    code = CODES.get((language or "").lower())

    def transcribe(wave: Wave) -> str:
        sound = soxr.resample(wave, SAMPLING_RATE, RATE)
        segments, _ = model.transcribe(
            sound, language=code, temperature=0.0, condition_on_previous_text=False, without_timestamps=True, vad_filter=False
        )
        return "".join(segment.text for segment in segments)

    return transcribe


def open_utmos() -> Callable[[Wave], float]:
    """`utmos.Score`, which loads its own checkpoint with PyTorch Lightning: trust its source."""
    import torch

    predictor = importlib.import_module("utmos").Score()
    return lambda wave: float(predictor.calculate_wav(torch.from_numpy(wave)[None], SAMPLING_RATE))


def character_error_rate(said: str, heard: str) -> float:
    """Levenshtein distance over the length of `said`, both in lower case without punctuation; 1 or more where nothing is right."""
    wanted, got = _letters(said), _letters(heard)
    if not wanted:
        return float(bool(got))
    row = list(range(len(got) + 1))
    for i, letter in enumerate(wanted, start=1):
        above, row[0] = row[0], i
        for j, other in enumerate(got, start=1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (letter != other))
    return row[-1] / len(wanted)


def _letters(text: str) -> str:
    """Letters, digits, marks and single blanks, composed and in lower case."""
    plain = unicodedata.normalize("NFC", text).casefold()
    return " ".join("".join(sign if unicodedata.category(sign)[0] in "LNM" else " " for sign in plain).split())


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Cosine of two vectors; 0 where one is zero."""
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / norms if norms > 0 else 0.0
