"""The codec `qwen`: Qwen3-TTS-Tokenizer-12Hz, from the `speech_tokenizer/` of a checkpoint or from its own Hub repository.

It is computed in float32 and one utterance at a time: padding in a batch changes codes. Its fingerprint is that of config and weights; the same weights give
the same codes on the same kind of machine, while another one can turn a near tie of two codewords. A cache keeps that fingerprint, not the weights
(some 680 MB), which lie in the checkpoint.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tune_accent.base.errors import ModelError
from tune_accent.base.files import read_json, sha256_file, write_json
from tune_accent.base.hub import is_hub_id
from tune_accent.data.audio import SAMPLING_RATE, Wave
from tune_accent.data.cache_format import codec_files, codec_fingerprint
from tune_accent.data.codec import CODEBOOKS, FRAME_RATE, META, Codes
from tune_accent.models.checkpoint import fetched
from tune_accent.models.qwen_import import import_qwen_tts

KEY = "data.codec.path"
HUB_ID = "Qwen/Qwen3-TTS-Tokenizer-12Hz"
KIND = "qwen3_tts_tokenizer_12hz"
PART = "speech_tokenizer"  # the folder in a checkpoint
FILES = ("*.json", "*.safetensors")
SAMPLES = round(SAMPLING_RATE / FRAME_RATE)  # of a frame


class QwenTokenizer:
    """See `tune_accent.data.codec.Codec`. The weights are loaded when something is first encoded.

    Args:
        folder: config.json, preprocessor_config.json and *.safetensors of `Qwen3TTSTokenizerV2Model`.
        device: where it runs.

    Raises:
        ModelError: the folder does not hold this tokenizer.
    """

    name = "qwen"
    codebooks = CODEBOOKS
    frame_rate = FRAME_RATE

    def __init__(self, folder: Path, device: torch.device | str = "cpu") -> None:
        config = _checked_config(folder)
        self.folder, self.device = folder, torch.device(device)
        self.codebook_size = int(config.get("encoder_config", {}).get("codebook_size", 2048))
        self.fingerprint = codec_fingerprint(folder)

    @classmethod
    def open(cls, name_or_folder: str | Path, device: torch.device | str = "cpu") -> QwenTokenizer:
        """The tokenizer of a folder or Hub id.

        Raises:
            ModelError: no such folder or Hub id, Hub not reachable, not this tokenizer, files missing or damaged.
        """
        name = str(name_or_folder)
        if Path(name).is_dir():
            return cls(Path(name), device)
        if not is_hub_id(name):
            raise ModelError(f"no folder {name!r}", where=KEY, fix=f"give a folder, or the Hub id {HUB_ID}")
        return cls(fetched(name, KEY, FILES, _read_config), device)

    def encode(self, wave: Wave) -> Codes:
        """See `Codec.encode`."""
        with torch.inference_mode():
            values = torch.from_numpy(np.array(wave, dtype=np.float32))[None].to(self.device)
            codes = self._model.encode(values, torch.ones_like(values, dtype=torch.bool), return_dict=True).audio_codes[0]
        found: Codes = codes.cpu().numpy().astype(np.int16)
        return found

    def save(self, folder: Path) -> None:
        """Write `codec.json`: fingerprint, SHA-256 of each file, and where they came from, which decides nothing."""
        files = {path.name: sha256_file(path) for path in codec_files(self.folder)}
        record = {"name": self.name, "fingerprint": self.fingerprint, "codebook_size": self.codebook_size}
        write_json(folder / META, {**record, "origin": origin(self.folder), "files": files})

    @functools.cached_property
    def _model(self) -> Any:
        from safetensors import SafetensorError

        tokenizer = import_qwen_tts().Qwen3TTSTokenizer
        try:
            loaded = tokenizer.from_pretrained(str(self.folder), dtype=torch.float32, use_safetensors=True)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise ModelError(f"the codec cannot be loaded: {error}", where=str(self.folder), fix="download it again") from error
        return loaded.model.requires_grad_(False).eval().to(self.device)


def origin(folder: Path) -> str:
    """Where a tokenizer came from, without the path of this machine: `owner/repository@revision` in the cache of the Hub, else the folder's name."""
    parts = folder.resolve().parts
    if len(parts) > 3 and "snapshots" in parts[2:-1]:
        place = parts.index("snapshots", 2)
        repository = parts[place - 1].removeprefix("models--").replace("--", "/")
        return "/".join([f"{repository}@{parts[place + 1]}", *parts[place + 2 :]])
    return "/".join(parts[-2:] if parts[-1] == PART else parts[-1:])


def _read_config(folder: Path) -> dict[str, Any]:
    """config.json, after a look at what it is the config of."""
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError("no config.json in the codec's folder", where=str(folder), fix=f"give the folder of {HUB_ID}")
    config = read_json(path)
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != KIND:
        raise ModelError(f"not the 12 Hz tokenizer (model_type {kind!r})", where=str(folder), fix=f"give the folder of {HUB_ID}")
    return dict(config)


def _checked_config(folder: Path) -> dict[str, Any]:
    """config.json of a folder that has everything; the shape that frames of 80 ms and 16 codes need."""
    config = _read_config(folder)
    if not (folder / "preprocessor_config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise ModelError(
            "preprocessor_config.json or *.safetensors are missing", where=str(folder), fix="complete the folder of the codec"
        )
    found = {
        "encoder_valid_num_quantizers": config.get("encoder_valid_num_quantizers", CODEBOOKS),
        "encode_downsample_rate": config.get("encode_downsample_rate", SAMPLES),
        "input_sample_rate": config.get("input_sample_rate", SAMPLING_RATE),
    }
    needed = {"encoder_valid_num_quantizers": CODEBOOKS, "encode_downsample_rate": SAMPLES, "input_sample_rate": SAMPLING_RATE}
    if found != needed:
        raise ModelError(f"{found} where {needed} is needed", where=str(folder / "config.json"), fix=f"use {HUB_ID}")
    return config
