"""A checkpoint as a folder with a config.json: found, fetched from the Hub, and refused where it is no *-Base. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tune_accent.base.errors import ModelError
from tune_accent.base.files import read_json
from tune_accent.base.hub import NoCopy, hub_copy, is_hub_id
from tune_accent.models.published import HUB_IDS

FILES = ("*.json", "*.safetensors", "*.txt", "speech_tokenizer/*.json", "speech_tokenizer/*.safetensors")


def checkpoint_folder(name: str) -> Path:
    """The folder of a checkpoint: `name` itself, or the local copy of a Hub repository (config first: a wrong one is not downloaded).

    Raises:
        ModelError: there is none, or it is no Base checkpoint.
    """
    if Path(name).is_dir():
        return Path(name)
    if not is_hub_id(name):
        raise _no_folder(name)
    return fetched(name, "model.backbone", FILES, lambda folder: base_config(folder, name))


def _no_folder(name: str) -> ModelError:
    last = name.rstrip("/").split("/")[-1]
    hub_id = next((one for one in HUB_IDS.values() if one.endswith(f"/{last}")), HUB_IDS["0.6B"])
    fix = f"give the folder of a copy, made where there is a network by `hf download {hub_id} --local-dir models/{hub_id.split('/')[1]}`"
    what = f"no folder {name!r} (a path counts from the current folder, {Path.cwd()})"
    return ModelError(what, "model.backbone", f"{fix}; or the Hub id {hub_id} itself; or tiny")


def fetched(name: str, key: str, files: Sequence[str], look: Callable[[Path], object]) -> Path:
    """The local copy of a Hub repository.

    Args:
        name: `owner/repository`.
        key: of the config, for messages.
        files, look: as in `hub_copy`.

    Raises:
        ModelError: the Hub or the repository cannot be reached; or what `look` raises.
    """
    try:
        return hub_copy(name, files, look=look)
    except NoCopy as error:
        fix = (
            f"check the id, the network and `hf auth login`; or set {key} to the folder of a copy, made where there is a network "
            f"by `hf download {name} --local-dir models/{name.split('/')[-1]}`"
        )
        raise ModelError(f"Hub id {name!r} cannot be fetched: {error}", where=key, fix=fix) from error


def decoder_blocks(name_or_folder: str | Path) -> int:
    """Number of decoder blocks of a checkpoint, from its config alone.

    Raises:
        ModelError: as `load_backbone`.
    """
    name = str(name_or_folder)
    return int(base_config(checkpoint_folder(name), name)["talker_config"]["num_hidden_layers"])


def base_config(folder: Path, name: str) -> dict[str, Any]:
    """config.json of a *-Base checkpoint, after the checks that need no weights.

    Args:
        folder: of the checkpoint.
        name: folder or Hub id, as it was given.

    Raises:
        ModelError: it is not there, or of another model.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(
            "no config.json in the backbone's folder", where=name, fix="give the folder of a Qwen3-TTS *-Base checkpoint"
        )
    config = read_json(path)
    if not isinstance(config, dict) or not isinstance(config.get("talker_config", {}), dict):
        raise ModelError("config.json is not that of a model", where=name, fix="download it again")
    kind = config.get("tts_model_type")
    if config.get("model_type") != "qwen3_tts" or kind != "base":
        raise ModelError(
            f"not a Qwen3-TTS Base checkpoint (model_type {config.get('model_type')!r}, tts_model_type {kind!r}): only Base has a speaker encoder",
            where=name,
            fix="use a *-Base checkpoint, such as Qwen/Qwen3-TTS-12Hz-0.6B-Base; *-CustomVoice and *-VoiceDesign have no place for a speaker",
        )
    if not config.get("talker_config", {}).get("codec_language_id"):
        raise ModelError("the checkpoint knows no language: talker_config.codec_language_id is empty", where=name)
    return config
