"""The checkpoint as files: is it a whole *-Base, with a speaker encoder, a codec, and a tokenizer that cuts the prompt as `generate` assumes?

`transformers` fills weights that a file lacks with random ones and says so in a warning that is easy to miss. So the names in the files are read here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tune_accent.base.errors import ModelError
from tune_accent.base.files import read_json
from tune_accent.base.seeds import generator
from tune_accent.checking.file_system import gib
from tune_accent.checking.finding import Finding, Skip
from tune_accent.config.schema import Experiment
from tune_accent.config.speech import QwenCodec
from tune_accent.data.audio import SAMPLING_RATE
from tune_accent.data.codec import CODEBOOKS, FRAME_RATE, Codec
from tune_accent.models.checkpoint import base_config, checkpoint_folder

SINGLE = {"<|im_start|>": "<|im_start|>", "assistant": "assistant", "\n": "newline", "<|im_end|>": "<|im_end|>"}
PARTS = ("talker.model.", "talker.codec_head.", "talker.text_projection.", "talker.code_predictor.")
SPEAKER = "speaker_encoder."
AGAIN = "download the checkpoint again: hf download {name} --local-dir FOLDER, and set model.backbone to the folder"
WEIGHTS = "*.safetensors"


def weights_folder(spec: Experiment) -> Path:
    """The folder of the experiment's backbone; built for `tiny`, fetched for a Hub id.

    Raises:
        ModelError: there is none, or it is no Base checkpoint.
    """
    from tune_accent.models.tiny import ensure_tiny

    if spec.model.backbone == "tiny":
        return ensure_tiny(Path(spec.data.root) / "prepared", spec.model.tiny, getattr(spec.data.codec, "codewords", 2048))
    return checkpoint_folder(spec.model.backbone)


def check_weights(folder: Path, name: str) -> Iterator[Finding]:
    """Config, the names in every weight file, and the speaker encoder among them.

    Args:
        folder: of the checkpoint.
        name: as the config gives it.
    """
    config, again = base_config(folder, name), AGAIN.format(name=name)
    names = weight_names(folder)
    lacking = [part.rstrip(".") for part in PARTS if not any(key.startswith(part) for key in names)]
    if missing := missing_shards(folder):
        yield Finding("weights", "failed", f"{', '.join(missing)} of {folder} missing", again)
    elif lacking:
        yield Finding("weights", "failed", f"{folder} holds no weights of {', '.join(lacking)}", again)
    else:
        size = sum(file.stat().st_size for file in folder.glob(WEIGHTS))
        talker = config["talker_config"]
        words = f"{folder}: Base, {talker['num_hidden_layers']} layers of {talker['hidden_size']}, {gib(size)}"
        yield Finding("weights", "ok", words)
    yield _speaker_encoder(names, again)


def _speaker_encoder(names: set[str], again: str) -> Finding:
    own = sum(key.startswith(SPEAKER) for key in names)
    if own:
        return Finding("speaker encoder", "ok", f"{own} tensors")
    return Finding("speaker encoder", "failed", "the weights hold no speaker encoder: S would come from random weights", again)


def weight_names(folder: Path) -> set[str]:
    """Names of all tensors, from the headers of the files.

    Raises:
        ModelError: there are no weight files, or one is damaged.
    """
    from safetensors import SafetensorError, safe_open

    files = sorted(folder.glob(WEIGHTS))
    if not files:
        raise ModelError(f"no {WEIGHTS}", str(folder), "complete the folder; other weight formats are never loaded")
    names: set[str] = set()
    for file in files:
        try:
            with safe_open(file, framework="numpy") as opened:
                names.update(opened.keys())
        except (SafetensorError, OSError) as error:
            raise ModelError(f"damaged: {error}", str(file), "download the file again") from error
    return names


def missing_shards(folder: Path) -> list[str]:
    """Files that model.safetensors.index.json names and that are not there."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return []
    return sorted({name for name in read_json(index)["weight_map"].values() if not (folder / name).is_file()})


def check_tokenizer(folder: Path) -> Iterator[Finding]:
    """The role and the newline must be one token each: `generate` slices the prompt by position.

    Raises:
        ModelError: there is no tokenizer.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        what = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"no tokenizer: {what}", str(folder), "complete the folder: tokenizer_config.json, vocab.json, merges.txt"
        ) from error
    cut = {said: len(tokenizer.encode(text, add_special_tokens=False)) for text, said in SINGLE.items()}
    split = [f"{said} into {count}" for said, count in cut.items() if count != 1]
    if split:
        what = f"it cuts {' and '.join(split)} tokens; each must be one, since the prompt is sliced by position"
        yield Finding("tokenizer", "failed", what, "use the tokenizer files of the original checkpoint")
    else:
        yield Finding("tokenizer", "ok", f"{len(tokenizer)} tokens; {', '.join(SINGLE.values())} are one each")


def check_codec(spec: Experiment, folder: Path | None) -> Iterator[Finding]:
    """Which codec; `qwen` is loaded, and encodes a second of noise twice.

    Args:
        spec: the experiment.
        folder: of the checkpoint; None where there is none.

    Raises:
        ModelError: the codec's files are not there, or of another model.
    """
    if not isinstance(spec.data.codec, QwenCodec):
        yield _fitted(spec)
        return
    where = spec.data.codec.path or (folder and folder / "speech_tokenizer")
    if where is None:
        raise Skip("it comes with the checkpoint, which is not there")
    from tune_accent.models.qwen_codec import QwenTokenizer
    from tune_accent.training.device import default_device

    codec = QwenTokenizer.open(where, default_device())
    yield judged_codec(codec, str(where))


def judged_codec(codec: Codec, where: str) -> Finding:
    """Whether a second of noise gives 13 frames of 16 codes in range, the same ones twice."""
    noise = (0.1 * generator(0, "doctor", "noise").standard_normal(SAMPLING_RATE)).astype(np.float32)
    first, second = codec.encode(noise), codec.encode(noise)
    wanted = (math.ceil(FRAME_RATE), CODEBOOKS)
    if first.shape != wanted or first.min() < 0 or first.max() >= codec.codebook_size:
        what = f"a second of noise gives codes of shape {first.shape} in {first.min()}..{first.max()}, where {wanted} below {codec.codebook_size} are needed"
        return Finding("codec", "failed", f"{where}: {what}", "use Qwen/Qwen3-TTS-Tokenizer-12Hz")
    if not np.array_equal(first, second):
        return Finding(
            "codec", "failed", f"{where}: the same sound gives other codes the second time", "set training.deterministic: true"
        )
    words = f"{codec.name} ({where}): {wanted[0]} frames of {CODEBOOKS} codes for a second, the same twice, {len(np.unique(first))} codes in use"
    return Finding("codec", "ok", words)


def _fitted(spec: Experiment) -> Finding:
    words = f"mfcc_pq, {getattr(spec.data.codec, 'codewords', '?')} codewords, fitted on the train speakers"
    if spec.model.backbone == "tiny":
        return Finding("codec", "ok", words)
    fix = "set data.codec: {name: qwen}"
    return Finding("codec", "failed", f"{words}: the checkpoint was trained on the codes of another codec", fix)
