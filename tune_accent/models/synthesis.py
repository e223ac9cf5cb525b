"""Speak with an adapter through `qwen_tts` generation, in the layout that training used.

`generate` builds the prompt itself; the accent is added to it just before the talker reads it, at the language id's position, where `forward.embed`
adds it. Non-streaming, always with a language, S alone (no reference codes). Does not judge what is heard: see the control experiment for that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tune_accent.base.errors import DataError, ModelError
from tune_accent.base.seeds import derive_seed
from tune_accent.data.audio import SAMPLING_RATE, Wave, read_audio, set_loudness
from tune_accent.models.adapter_base import HEADS, TABLE, AdapterBase, read_accents, read_base
from tune_accent.models.backbone import Backbone, load_backbone
from tune_accent.models.forward import ACCENT_POSITION
from tune_accent.models.lora import adapter_state
from tune_accent.models.tiny import ensure_tiny

FRAMES_PER_SECOND = 12.5
WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class Speaker:
    """A backbone with an adapter on it, ready to speak.

    Attributes:
        backbone: it carries the adapter.
        accents: names of the rows of `table`.
        table: (accents, H) float32, on the backbone's device.
        language: of every prefix.
        loudness_lufs: of the wave that S is taken from; None leaves the level alone.
        noise: whether the backbone has random weights: it speaks no language.
    """

    backbone: Backbone
    accents: tuple[str, ...]
    table: Tensor
    language: str
    loudness_lufs: float | None
    noise: bool


@dataclass(frozen=True)
class Line:
    """What to say: a text, and an accent or None for A = ∅."""

    text: str
    accent: str | None


@dataclass(frozen=True)
class Sampling:
    """How codes are drawn. Temperature, top-k and repetition penalty are the checkpoint's.

    Attributes:
        seed: of every draw; equal texts get equal draws whatever the accent, so that accents are compared under the same noise.
        greedy: take the most probable code.
        seconds: an utterance that has not ended is cut here.
    """

    seed: int = 0
    greedy: bool = False
    seconds: float = 20.0

    @property
    def frames(self) -> int:
        """Most codec frames of an utterance."""
        return max(2, round(self.seconds * FRAMES_PER_SECOND))


@dataclass(frozen=True)
class Spoken:
    """An utterance.

    Attributes:
        codes: (T, 16) int64.
        wave: (samples,) float32 at 24 kHz.
        ended: False where it was cut at `Sampling.seconds`.
    """

    codes: npt.NDArray[np.int64]
    wave: Wave
    ended: bool


def open_speaker(folder: Path, device: torch.device, *, base: str | None = None, scale: float = 1.0) -> Speaker:
    """Load the base of an adapter folder, and the adapter on it.

    Args:
        folder: as `write_best` of a search leaves it; see adapter_base.py.
        device: where the model goes; weights are float32.
        base: folder or Hub id of the same checkpoint, where the recorded one is not here.
        scale: factor on what LoRA adds; at 0 and A = ∅ it is the base model, exactly. The accent table is not scaled.

    Raises:
        ModelError: no adapter folder, no accents, another base, or a base that cannot be loaded. DataError: damaged.
    """
    accents, recorded = read_accents(folder), read_base(folder)
    backbone = load_backbone(base or _base_folder(recorded), device=device)
    if backbone.fingerprint != recorded.fingerprint:
        raise ModelError(
            f"this is not the base that the adapter was trained on ({recorded.backbone}, {recorded.fingerprint[:12]})",
            where=backbone.name,
            fix="give the same checkpoint, in the same revision, with --base",
        )
    try:
        if (folder / WEIGHTS).is_file():
            _attach(backbone, folder, scale)
        table = load_file(folder / HEADS, device=str(device))[TABLE].float()
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise ModelError(f"the adapter does not fit its base: {error}", where=str(folder)) from error
    if table.shape[1] != backbone.hidden:
        raise ModelError(f"accents of width {table.shape[1]} on a base of width {backbone.hidden}", where=str(folder / HEADS))
    language = recorded.language or min(backbone.languages)
    backbone.language_id(language)
    noise = backbone.model.config.tts_model_size == "tiny"
    return Speaker(backbone, accents, table, language, recorded.loudness_lufs, noise)


def _base_folder(recorded: AdapterBase) -> str | Path:
    """What `load_backbone` takes; the tiny model is built where it is not there."""
    if recorded.tiny is None:
        return recorded.backbone
    return ensure_tiny(Path(recorded.data_root) / "prepared", recorded.tiny, recorded.codewords)


def _attach(backbone: Backbone, folder: Path, scale: float) -> None:
    """Put the saved adapter on the backbone; `ValueError` where it is not one of this backbone, weight for weight."""
    model = PeftModel.from_pretrained(backbone.model, str(folder), torch_device=str(backbone.device)).eval()
    saved, own = load_file(folder / WEIGHTS), adapter_state(model)
    if saved.keys() != own.keys() or not all(torch.equal(saved[name].float(), own[name]) for name in own):
        raise ValueError("names or shapes of the weights differ")
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.set_scale(model.active_adapter, scale)


def read_voice(speaker: Speaker, path: Path) -> Tensor:
    """S (H,) of a reference recording, as training takes it: same loudness, the backbone's own encoder.

    Raises:
        DataError: the file cannot be read, or is too short.
    """
    try:
        wave = read_audio(path)
        if speaker.loudness_lufs is not None:
            wave = set_loudness(wave, speaker.loudness_lufs)
        return torch.from_numpy(speaker.backbone.speaker_embedding(wave))
    except DataError as error:
        raise DataError(error.what, str(path), "give a recording of a few seconds, e.g. a WAV or FLAC file") from error


def accent_vectors(speaker: Speaker, accents: Sequence[str | None]) -> Tensor:
    """(len(accents), H): rows of the table, zero for None."""
    rows = [
        torch.zeros_like(speaker.table[0]) if name is None else speaker.table[speaker.accents.index(name)] for name in accents
    ]
    return torch.stack(rows)


def speak(speaker: Speaker, lines: Sequence[Line], voice: Tensor, sampling: Sampling) -> list[Spoken]:
    """Speak `lines` in one batch, all with the same voice.

    The draws depend on the texts of the batch and on the seed. Batches of one are the same bits whatever else is asked for; longer ones are
    faster on a GPU, and pad.

    Args:
        speaker: from `open_speaker`.
        lines: texts that are not blank.
        voice: (H,) S.
        sampling: seed, greedy, length.
    """
    texts = [line.text.strip() for line in lines]
    codes, ended = _generate(speaker, texts, accent_vectors(speaker, [line.accent for line in lines]), voice, sampling)
    waves, rate = speaker.backbone.model.speech_tokenizer.decode([{"audio_codes": block} for block in codes])
    if rate != SAMPLING_RATE:
        raise ModelError(f"its codec speaks at {rate} Hz, not {SAMPLING_RATE}", where=speaker.backbone.name)
    return [
        Spoken(block.cpu().numpy(), np.asarray(wave, dtype=np.float32), end)
        for block, wave, end in zip(codes, waves, ended, strict=True)
    ]


def _generate(
    speaker: Speaker, texts: list[str], accents: Tensor, voice: Tensor, sampling: Sampling
) -> tuple[list[Tensor], list[bool]]:
    """Codes (T, 16) of each text, and whether it came to its end."""
    backbone, count = speaker.backbone, len(texts)
    tts, device = backbone.tts, backbone.device
    prompt = {
        "ref_code": None,
        "ref_spk_embedding": [voice] * count,
        "x_vector_only_mode": [True] * count,
        "icl_mode": [False] * count,
    }
    draws = {"do_sample": not sampling.greedy, "subtalker_dosample": not sampling.greedy}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), _accents_set(backbone, accents) as tokens:
        torch.manual_seed(derive_seed(sampling.seed, "speech", *texts))
        codes, _ = backbone.model.generate(
            input_ids=tts._tokenize_texts([tts._build_assistant_text(text) for text in texts]),
            voice_clone_prompt=prompt,
            languages=[speaker.language] * count,
            non_streaming_mode=True,
            # the codes of a frame come out when the next token is asked for
            **tts._merge_generate_kwargs(**draws, max_new_tokens=sampling.frames + 1),
        )
    ended = (tokens[0] == backbone.model.config.talker_config.codec_eos_token_id).any(1).tolist()
    return codes, ended


@contextmanager
def _accents_set(backbone: Backbone, accents: Tensor) -> Iterator[list[Tensor]]:
    """Add `accents` (B, H) to the prompts that the talker is given meanwhile; yields the list that codebook 0's tokens go to."""
    talker, tokens = backbone.talker, []
    generate = talker.generate

    def accented(*, inputs_embeds: Tensor, attention_mask: Tensor, **rest: Any) -> Any:
        rows = torch.arange(len(accents), device=inputs_embeds.device)
        first = inputs_embeds.shape[1] - attention_mask.sum(1)  # prompts are padded on the left
        given = inputs_embeds.clone()
        given[rows, first + ACCENT_POSITION] += accents.to(given)
        result = generate(inputs_embeds=given, attention_mask=attention_mask, pad_token_id=rest["eos_token_id"], **rest)
        tokens.append(result.sequences)
        return result

    talker.generate = accented
    try:
        yield tokens
    finally:
        del talker.generate
