"""A small Qwen3-TTS-Tokenizer-12Hz of the real class whose codebooks fit speech, in a folder as the real one lies in.

As initialised every code is 0. Residual k-means on what its quantizers are given, written into their buffers, brings all codewords into use.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from sklearn.cluster import KMeans
from torch import Tensor

from tune_accent.data.audio import Wave
from tune_accent.models.qwen_import import import_qwen_tts
from tune_accent.models.tiny import _speech_tokenizer_config, _write_speech_tokenizer, _write_weights


def write_calibrated(folder: Path, waves: Sequence[Wave], codewords: int = 16) -> Path:
    """Write the tokenizer; `_speech_tokenizer_config` has its shape."""
    import_qwen_tts()
    from qwen_tts.core import Qwen3TTSTokenizerV2Config, Qwen3TTSTokenizerV2Model

    folder.mkdir(parents=True)
    _write_speech_tokenizer(folder, 0, codewords)
    model = Qwen3TTSTokenizerV2Model(Qwen3TTSTokenizerV2Config(**_speech_tokenizer_config(codewords))).eval()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    quantizer = model.encoder.quantizer
    features = _features(model, waves)
    for group in (quantizer.semantic_residual_vector_quantizer, quantizer.acoustic_residual_vector_quantizer):
        rest = group.input_proj(features)[0].T.detach().numpy()
        for layer in group.layers:
            clusters = KMeans(codewords, n_init=1, random_state=0).fit(rest)
            centroids = clusters.cluster_centers_.astype(np.float32)
            rest = rest - centroids[clusters.labels_]
            usage = np.maximum(np.bincount(clusters.labels_, minlength=codewords), 1).astype(np.float32)
            layer.codebook.cluster_usage.copy_(torch.from_numpy(usage))
            layer.codebook.embed_sum.copy_(torch.from_numpy(centroids * usage[:, None]))
    _write_weights(folder / "model.safetensors", model.state_dict())
    return folder


def _features(model: Any, waves: Sequence[Wave]) -> Tensor:
    """(1, dims, frames): what the quantizer is given, over all waves."""
    found: list[Tensor] = []
    handle = model.encoder.downsample.register_forward_hook(lambda module, given, output: found.append(output))
    with torch.no_grad():
        for wave in waves:
            values = torch.from_numpy(wave)[None]
            model.encode(values, torch.ones_like(values, dtype=torch.bool))
    handle.remove()
    return torch.cat(found, dim=2)
