"""Load a frozen Qwen3-TTS: a Hub id, a local folder and the tiny folder all go through `load_backbone`.

Only `*-Base` checkpoints have a speaker encoder, hence a place for S. Nothing but safetensors and JSON is read; no pickle is ever loaded.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tune_accent.base.errors import DataError, ModelError
from tune_accent.base.files import sha256_file, sha256_json
from tune_accent.models.checkpoint import base_config, checkpoint_folder
from tune_accent.models.qwen_import import import_qwen_tts

log = logging.getLogger(__name__)

SAMPLING_RATE = 24_000  # of the speaker encoder, Hz
ROLE_TOKENS = 3  # `<|im_start|>`, `assistant`, newline: `generate` slices the prompt by position
TAIL_TOKENS = 5  # `<|im_end|>`, newline, and the three of the next role
SHORTEST_S = 0.15  # below it the speaker encoder's reflect padding has nothing to reflect


@dataclass(frozen=True)
class Backbone:
    """A frozen Qwen3-TTS in evaluation mode, every parameter without gradient.

    Attributes:
        model: `Qwen3TTSForConditionalGeneration`.
        tts: the `Qwen3TTSModel` around it (processor, `generate_voice_clone`).
        name: Hub id or folder, as it was given.
        folder: where its files are.
        layers: number of decoder blocks of the talker.
        hidden: width H of the talker, of its input embeddings and of S.
        speaker_dim: width D of the speaker embedding (equal to `hidden`).
        codebook_size: codes per codebook.
        languages: language name (lower case) → codec id, in the checkpoint's order.
        role: the three tokens that open every prompt.
    """

    model: Any
    tts: Any
    name: str
    folder: Path
    layers: int
    hidden: int
    speaker_dim: int
    codebook_size: int
    languages: Mapping[str, int]
    role: tuple[int, ...]

    @property
    def talker(self) -> Any:
        """The talker (`Qwen3TTSTalkerForConditionalGeneration`), with the code predictor inside."""
        return self.model.talker

    @property
    def device(self) -> torch.device:
        """Where the talker's weights are."""
        return torch.device(self.talker.device)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the talker's weights."""
        dtype: torch.dtype = self.talker.dtype
        return dtype

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 over config and weight files, for keys of caches and trials. Reads every byte once, when first asked."""
        paths = [
            self.folder / "config.json",
            self.folder / "tokenizer.json",
            self.folder / "vocab.json",
            *self.folder.rglob("*.safetensors"),
        ]
        return sha256_json({str(path.relative_to(self.folder)): sha256_file(path) for path in paths if path.is_file()})

    def language_id(self, language: str | None) -> int:
        """Codec id of a language; of the first that the backbone knows for None.

        Raises:
            ModelError: the backbone does not know the language; the message names those it knows.
        """
        key = next(iter(self.languages)) if language is None else language.lower()
        if key not in self.languages:
            raise ModelError(
                f"the backbone knows no language {language!r}",
                where="model.language",
                fix=f"use one of: {', '.join(self.languages)}",
            )
        return self.languages[key]

    def text_tokens(self, text: str) -> list[int]:
        """Content tokens of `text` as `generate` uses them, between the role and the end of the prompt. Surrounding white space is dropped."""
        prompt = self._prompt_tokens(text.strip())
        return prompt[ROLE_TOKENS:-TAIL_TOKENS]

    def _prompt_tokens(self, text: str) -> list[int]:
        tokens: list[int] = self.tts.processor(text=self.tts._build_assistant_text(text))["input_ids"][0]
        return tokens

    def speaker_embedding(self, wave24k: np.ndarray) -> np.ndarray:
        """Speaker embedding of the model's own encoder.

        Args:
            wave24k: (samples,) float32 mono at 24 kHz; values outside ±1 are clipped.

        Returns:
            (speaker_dim,) float32.

        Raises:
            DataError: shorter than 0.15 s.
        """
        if len(wave24k) < SHORTEST_S * SAMPLING_RATE:
            raise DataError(
                f"audio of {len(wave24k) / SAMPLING_RATE:.2f} s is too short for a speaker embedding (at least {SHORTEST_S} s)"
            )
        wave = np.clip(wave24k, -1.0, 1.0).astype(np.float32, copy=True)
        embedding: np.ndarray = self.model.extract_speaker_embedding(wave, SAMPLING_RATE).float().cpu().numpy().copy()
        return embedding


def load_backbone(
    name_or_folder: str | Path, *, attention: str = "sdpa", dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Backbone:
    """Load a `*-Base` checkpoint, frozen and in evaluation mode.

    Args:
        name_or_folder: a Hub id (`Qwen/Qwen3-TTS-12Hz-0.6B-Base`) or a folder with the same files.
        attention: `sdpa`, `eager` or `flash_attention_2`.
        dtype: type of the weights.
        device: where they go.

    Raises:
        ModelError: no such folder or Hub id, Hub not reachable, not a Base checkpoint, files missing or damaged; FlashAttention cannot run here.
    """
    name = str(name_or_folder)
    _check_attention(attention, dtype, torch.device(device))
    folder = checkpoint_folder(name)
    base_config(folder, name)
    tts = _read(folder, name, attention, dtype, torch.device(device))
    tts.model.requires_grad_(False)
    tts.model.eval()
    config = tts.model.config
    talker = config.talker_config
    backbone = Backbone(
        model=tts.model,
        tts=tts,
        name=name,
        folder=folder,
        layers=talker.num_hidden_layers,
        hidden=talker.hidden_size,
        speaker_dim=config.speaker_encoder_config.enc_dim,
        codebook_size=talker.code_predictor_config.vocab_size,
        languages={key.lower(): value for key, value in talker.codec_language_id.items() if "dialect" not in key},
        role=tuple(tts.processor(text="<|im_start|>assistant\n")["input_ids"][0]),
    )
    _check_prompt(backbone)
    return backbone


def set_checkpointing(backbone: Backbone, talker: bool, code_predictor: bool = False) -> None:
    """Switch gradient checkpointing of the talker's decoder blocks and of the code predictor's (gradients stay bit-identical).

    It acts in training mode only.
    """
    for model, enabled in ((backbone.talker.model, talker), (backbone.talker.code_predictor.model, code_predictor)):
        if enabled:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        else:
            model.gradient_checkpointing_disable()


def _check_attention(attention: str, dtype: torch.dtype, device: torch.device) -> None:
    """What FlashAttention needs, before anything is loaded: the same message wherever it is missing."""
    if attention != "flash_attention_2":
        return
    if importlib.util.find_spec("flash_attn") is None:
        missing, do = "the package flash_attn, which is not installed", "`pip install flash-attn --no-build-isolation`"
    elif device.type != "cuda":
        missing, do = "a CUDA GPU", "run where there is one"
    elif dtype == torch.float32:
        missing, do = "weights in half precision", "set training.precision: bf16"
    else:
        return
    raise ModelError(f"flash_attention_2 needs {missing}", where="model.attention", fix=f"set model.attention: sdpa, or {do}")


def _read(folder: Path, name: str, attention: str, dtype: torch.dtype, device: torch.device) -> Any:
    for part in (folder, folder / "speech_tokenizer"):
        if not any(part.glob("*.safetensors")):
            raise ModelError(
                f"no *.safetensors in {part.name}", where=name, fix="complete the folder; other weight formats are never loaded"
            )
    qwen_tts = import_qwen_tts()
    from safetensors import SafetensorError

    try:
        return qwen_tts.Qwen3TTSModel.from_pretrained(
            str(folder),
            attn_implementation=attention,
            dtype=dtype,
            device_map=None if device.type == "cpu" else device,
            use_safetensors=True,
        )
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise ModelError(
            f"the backbone cannot be loaded: {error}", where=name, fix="download it again, or see the cause in the log"
        ) from error


def _check_prompt(backbone: Backbone) -> None:
    """`generate` slices the prompt by position: role and tail must have the lengths it assumes."""
    empty = len(backbone._prompt_tokens(""))
    if len(backbone.role) != ROLE_TOKENS or empty != ROLE_TOKENS + TAIL_TOKENS:
        raise ModelError(
            f"its tokenizer cuts the prompt's frame into {empty} tokens where {ROLE_TOKENS + TAIL_TOKENS} are needed",
            where=backbone.name,
            fix="use the tokenizer of the original checkpoint",
        )
    if backbone.speaker_dim != backbone.hidden:
        raise ModelError(
            f"speaker encoder width {backbone.speaker_dim} differs from the talker's width {backbone.hidden}", where=backbone.name
        )
