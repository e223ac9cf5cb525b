"""The generated speech of the control experiment on disk, for people to listen to: a folder per batch, whole or absent.

    <root>/paper/control_audio/<speaker>/<setting>-001/    001.flac ... (24 kHz, 16 bits), codes.safetensors, request.json, checksums.json

What is measured is read back from these files, so that an interrupted run and one that went through hear the same sound.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from tune_accent.base.checksums import check_folder, write_checksums
from tune_accent.base.errors import DataError, ModelError
from tune_accent.base.files import read_json, remove, remove_torn, sha256_file, sha256_json, write_folder, write_json
from tune_accent.data.audio import SUFFIX, Wave, encode_audio, read_audio
from tune_accent.paper.control_plan import BASE, Batch, Voice

if TYPE_CHECKING:
    import torch

    from tune_accent.models.synthesis import Speaker, Spoken

AUDIO = "control_audio"  # below `paper/`
VERSION = 1  # raised whenever the same request would sound different
REQUEST = "request.json"
LIBRARIES = ("torch", "transformers", "qwen-tts", "peft")
Embedding = npt.NDArray[np.float32]


class Talker(Protocol):
    """What speaks.

    Attributes:
        identity: changes whenever the same batch would sound different.
    """

    identity: str

    def speak(self, batch: Batch, reference: Embedding, seconds: float) -> Sequence[Spoken]:
        """One utterance for each text of `batch`, in the voice `reference` (D,), cut at `seconds`."""
        ...

    def embed(self, wave: Wave) -> Embedding:
        """Speaker embedding (D,) of a wave at 24 kHz, by the same encoder as `reference`."""
        ...

    @property
    def noise(self) -> bool:
        """Whether it has random weights, and speaks no language."""
        ...


class AdapterTalker:
    """The model of an adapter folder; loaded when it first speaks, and again where LoRA is switched off or on.

    Args:
        folder: of the adapter.
        device: where it speaks.
        base: folder or Hub id of its base, where the recorded one is not here.
    """

    def __init__(self, folder: Path, device: torch.device, base: str | None = None) -> None:
        from tune_accent.models.adapter_base import HEADS, read_accents, read_base

        self.folder, self.device, self.base = folder, device, base
        self.accents, self.recorded = read_accents(folder), read_base(folder)
        names = (HEADS, "adapter_config.json", "adapter_model.safetensors")
        files = {name: sha256_file(folder / name) for name in names if (folder / name).is_file()}
        said = {"files": files, "base": self.recorded.fingerprint, "language": self.recorded.language, "device": device.type}
        self.identity = sha256_json({**said, "libraries": {name: version(name) for name in LIBRARIES}})
        self._open: tuple[float, Speaker] | None = None

    def speak(self, batch: Batch, reference: Embedding, seconds: float) -> Sequence[Spoken]:
        """As `Talker.speak`, by models/synthesis.py; without LoRA it is the base model."""
        import torch

        from tune_accent.models.synthesis import Line, Sampling, speak

        speaker = self._speaker(0.0 if batch.setting == BASE else 1.0)
        lines = [Line(one.text, batch.target) for one in batch.texts]
        return speak(speaker, lines, torch.from_numpy(np.array(reference)), Sampling(batch.seed, seconds=seconds))

    def embed(self, wave: Wave) -> Embedding:
        """As `Talker.embed`. The encoder carries no adapter."""
        return self._speaker(None).backbone.speaker_embedding(wave)

    @property
    def noise(self) -> bool:
        """Whether its base is the tiny model."""
        return self.recorded.tiny is not None

    def _speaker(self, scale: float | None) -> Speaker:
        """With this factor on what LoRA adds; None takes any."""
        from tune_accent.models.synthesis import open_speaker

        if self._open is None or scale not in (None, self._open[0]):
            self._open = None  # the memory of one model is enough
            wanted = 1.0 if scale is None else scale
            self._open = (wanted, open_speaker(self.folder, self.device, base=self.base, scale=wanted))
        return self._open[1]


@dataclass(frozen=True)
class Said:
    """An utterance on disk. `ended`: False where it was cut; `sha256`: of the audio file."""

    batch: Batch
    place: int
    path: Path
    ended: bool
    sha256: str

    @property
    def name(self) -> str:
        """Unique, and a path below any folder."""
        return f"{self.batch.name}-{self.place + 1:03d}"

    def wave(self) -> Wave:
        """(samples,) float32 at 24 kHz."""
        return read_audio(self.path)


def say(batch: Batch, root: Path, talker: Talker, reference: Callable[[Voice], Embedding], seconds: float) -> list[Said]:
    """The utterances of a batch; generated where their folder is absent, damaged, or of another request.

    Args:
        batch: what to say.
        root: the results folder.
        talker: what speaks.
        reference: S of a voice, (D,).
        seconds: an utterance is cut there.

    Raises:
        ModelError: what is generated is not finite.
    """
    folder = root / "paper" / AUDIO / batch.name
    key = request_key(batch, talker.identity, reference(batch.voice), seconds)
    if not _holds(folder, key):
        _write(folder, key, batch, talker.speak(batch, reference(batch.voice), seconds))
    ended = read_json(folder / REQUEST)["ended"]
    paths = [folder / f"{place + 1:03d}{SUFFIX}" for place in range(len(batch.texts))]
    return [Said(batch, place, path, ended[place], sha256_file(path)) for place, path in enumerate(paths)]


def forget_others(folder: Path, keep: Collection[str]) -> None:
    """Remove what an earlier plan, or a kill, left in `folder`: every entry `<speaker>/<name>` that is not among `keep`."""
    if not folder.is_dir():
        return
    remove_torn(folder)
    for entry in sorted(folder.glob("*/*")):
        if entry.relative_to(folder).as_posix() not in keep:
            remove(entry)
    for speaker in sorted(folder.iterdir()):
        if speaker.is_dir() and not any(speaker.iterdir()):
            remove(speaker)


def request_key(batch: Batch, talker: str, reference: Embedding, seconds: float) -> str:
    """Hash of everything that the sound of a batch depends on."""
    embedding = np.asarray(reference, dtype=np.float64).tolist()
    plain = {**asdict(batch), "talker": talker, "reference": embedding, "seconds": seconds, "version": VERSION}
    return sha256_json(plain)


def _holds(folder: Path, key: str) -> bool:
    if not folder.is_dir():
        return False
    try:
        check_folder(folder)
        return bool(read_json(folder / REQUEST)["key"] == key)
    except (DataError, KeyError, TypeError):
        return False


def _write(folder: Path, key: str, batch: Batch, spoken: Sequence[Spoken]) -> None:
    if not all(len(one.wave) and np.isfinite(one.wave).all() for one in spoken):
        raise ModelError(
            "the generated speech is empty or not finite", where=batch.name, fix="the adapter diverged: choose another"
        )
    codes = {f"{place + 1:03d}": np.ascontiguousarray(one.codes, dtype=np.int32) for place, one in enumerate(spoken)}
    request = {
        "key": key,
        "speaker": batch.voice.speaker,
        "accent": batch.voice.accent,
        "reference": batch.voice.utt_id,
        "setting": batch.setting,
        "target": batch.target,
        "texts": [one.text for one in batch.texts],
        "seed": batch.seed,
        "ended": [one.ended for one in spoken],
    }

    def fill(empty: Path) -> None:
        for place, one in enumerate(spoken):
            (empty / f"{place + 1:03d}{SUFFIX}").write_bytes(encode_audio(one.wave))
        (empty / "codes.safetensors").write_bytes(safetensors.numpy.save(codes))
        write_json(empty / REQUEST, request)
        write_checksums(empty)

    write_folder(folder, fill)
