"""Encoders that others trained, to set the backbone beside: any self-supervised one that `transformers` loads, and ECAPA-TDNN (SpeechBrain).

They hear one utterance at a time at 16 kHz, so that no padding enters. Weights are read from safetensors; SpeechBrain's only file is a torch
archive, from which nothing but tensors is accepted, and its hyperparams.yaml, which can name any Python object, is never read.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tune_accent.auditing.extract import Sources, each
from tune_accent.auditing.store import Compute, Extraction, Matrix, Rows
from tune_accent.base.errors import MissingDependency, ModelError, UserError
from tune_accent.base.files import sha256_file, sha256_json
from tune_accent.base.hub import NoCopy, hub_copy
from tune_accent.config.schema import SpeechEncoder

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from tune_accent.data.audio import Wave

PROTOCOL_VERSION = 1  # raised whenever a feature would change for the same request
RATE = 16_000  # Hz
DEFAULT_LAYERS = 8
ECAPA, ECAPA_WEIGHTS = "speechbrain/spkrec-ecapa-voxceleb", "embedding_model.ckpt"
ECAPA_MELS = 80
INSTALL = "pip install 'tune-accent[ecapa]'"
SOUND_LIBRARIES = ("numpy", "soundfile", "soxr", "pyloudnorm", "torch")


def ssl_layers(sources: Sources, asked: SpeechEncoder) -> Extraction:
    """Hidden states of a self-supervised encoder; `ssl_00` is the input of its first block.

    Raises:
        ModelError: no such encoder, or none that can be read.
        UserError: it has fewer layers than were asked for.
    """
    folder = local_folder(asked.model, "audit.ssl.model", ("*.json", "*.safetensors"))
    layers = _chosen(asked.layers, _depth(folder, asked.model))
    weights = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors"))
    request = {
        "family": "ssl",
        "protocol": PROTOCOL_VERSION,
        **sources.sound(),
        "model": sha256_json({path.name: sha256_file(path) for path in weights}),
        "computer": sources.computer(),
        "libraries": {name: version(name) for name in (*SOUND_LIBRARIES, "transformers")},
    }
    names = tuple(f"ssl_{layer:02d}" for layer in layers)
    return Extraction("speech encoder", request, names, lambda: _states_of(sources, folder, asked.model))


def _chosen(asked: Sequence[int] | None, blocks: int) -> list[int]:
    """Layers in order, each once; for None eight spread evenly from the input to the last block."""
    if asked is None:
        count = min(DEFAULT_LAYERS, blocks + 1)
        return [round(place * blocks / (count - 1)) for place in range(count)]
    if max(asked) > blocks:
        raise UserError(f"the encoder has no layer {max(asked)}", where="audit.ssl.layers", fix=f"use 0 to {blocks}")
    return sorted(set(asked))


def _depth(folder: Path, name: str) -> int:
    """Number of blocks of an encoder, from its config alone."""
    from transformers import AutoConfig

    try:
        return int(AutoConfig.from_pretrained(str(folder)).num_hidden_layers)
    except (OSError, ValueError, AttributeError) as error:
        raise _unusable(name, error) from error


def _states_of(sources: Sources, folder: Path, name: str) -> Compute:
    model, extractor = _load(folder, name, sources.device)

    def compute(chosen: Rows, names: Sequence[str]) -> dict[str, Matrix]:
        heard = [_pooled(model, extractor, wave) for wave in sources.waves(chosen)]
        return {name: np.stack([states[int(name.removeprefix("ssl_"))] for states in heard]) for name in names}

    return compute


def _load(folder: Path, name: str, device: torch.device) -> tuple[Any, Any]:
    """The encoder, in evaluation mode on `device`, and what prepares waves for it."""
    import torch
    from transformers import AutoFeatureExtractor, AutoModel

    try:
        extractor = AutoFeatureExtractor.from_pretrained(str(folder))
        model = AutoModel.from_pretrained(str(folder), use_safetensors=True, dtype=torch.float32)
    except (OSError, ValueError, KeyError) as error:
        raise _unusable(name, error) from error
    encoder = model.get_encoder() if model.config.is_encoder_decoder else model
    return encoder.to(device).eval(), extractor


def _pooled(model: Any, extractor: Any, wave: Wave) -> Matrix:
    """(layers, 2H): mean and standard deviation over time of every hidden state."""
    import torch

    from tune_accent.models.forward import pool

    inputs = extractor(_at_16_khz(wave), sampling_rate=RATE, return_tensors="pt", return_attention_mask=True).to(model.device)
    mask = inputs["attention_mask"][0]
    said = int(mask.sum())  # less than all of it where the extractor pads: Whisper's to 30 s
    if said == len(mask) or "attention_mask" not in extractor.model_input_names:
        del inputs["attention_mask"]
    with torch.no_grad():
        states = torch.cat(model(**inputs, output_hidden_states=True).hidden_states)
    heard = torch.arange(states.shape[1], device=states.device) < -(-said * states.shape[1] // len(mask))
    moments: Matrix = pool(states, heard.expand(len(states), -1)).cpu().numpy()
    return moments


def ecapa(sources: Sources) -> Extraction:
    """Speaker embeddings (192,) of SpeechBrain's ECAPA-TDNN trained on VoxCeleb (Desplanques et al. 2020).

    Raises:
        MissingDependency: the extra is not installed.
        ModelError: the weights cannot be fetched.
    """
    if importlib.util.find_spec("speechbrain") is None:
        raise MissingDependency("ECAPA needs SpeechBrain, which is not installed", where="audit.ecapa", fix=INSTALL)
    weights = local_folder(ECAPA, "audit.ecapa", (ECAPA_WEIGHTS,)) / ECAPA_WEIGHTS
    request = {
        "family": "ecapa",
        "protocol": PROTOCOL_VERSION,
        **sources.sound(),
        "model": sha256_file(weights),
        "computer": sources.computer(),
        "libraries": {name: version(name) for name in (*SOUND_LIBRARIES, "speechbrain")},
    }
    return Extraction("speaker encoder", request, ("ecapa",), lambda: each(sources, "ecapa", load_ecapa(weights, sources.device)))


def load_ecapa(weights: Path, device: torch.device) -> Callable[[Wave], Matrix]:
    """The encoder as a function of a wave at 24 kHz; 80 filter-bank energies with the mean of the utterance removed go in."""
    import torch

    from tune_accent.models.qwen_import import import_qwen_tts

    import_qwen_tts()  # SpeechBrain needs torchaudio too, and this makes it load beside any torch
    from speechbrain.lobes.features import Fbank

    encoder = new_ecapa()
    encoder.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    encoder.to(device).eval()
    filters = Fbank(sample_rate=RATE, n_mels=ECAPA_MELS).to(device)

    @torch.no_grad()
    def embed(wave: Wave) -> Matrix:
        energies: Tensor = filters(torch.from_numpy(_at_16_khz(wave)).to(device)[None])
        embedding: Matrix = encoder(energies - energies.mean(1, keepdim=True))[0, 0].cpu().numpy()
        return embedding

    return embed


def new_ecapa() -> Any:
    """The network of `speechbrain/spkrec-ecapa-voxceleb`, with random weights."""
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN

    shape = {"channels": [1024] * 4 + [3072], "kernel_sizes": [5, 3, 3, 3, 1], "dilations": [1, 2, 3, 4, 1]}
    return ECAPA_TDNN(ECAPA_MELS, **shape, attention_channels=128, lin_neurons=192)


def _at_16_khz(wave: Wave) -> Wave:
    import soxr

    from tune_accent.data.audio import SAMPLING_RATE

    heard: Wave = soxr.resample(wave, SAMPLING_RATE, RATE)
    return heard


def local_folder(name: str, where: str, files: Sequence[str]) -> Path:
    """The folder `name`, or the local copy of a Hub repository of that name."""
    if Path(name).is_dir():
        return Path(name)
    try:
        return hub_copy(name, files)
    except NoCopy as error:
        raise ModelError(
            f"{name!r} is no folder, and as a Hub id it cannot be fetched: {error}",
            where=where,
            fix="check the name and the network, or give the folder of a copy that you have",
        ) from error


def _unusable(name: str, error: Exception) -> ModelError:
    return ModelError(
        f"{name!r} cannot be loaded as a speech encoder: {str(error).strip().partition(chr(10))[0]}",
        where="audit.ssl.model",
        fix="give a folder with config.json, preprocessor_config.json and *.safetensors (`save_pretrained` of model and feature extractor)",
    )
