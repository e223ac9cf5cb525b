"""Backbones of any shape with random or no weights, and the memory that a step takes, counted by the allocator's own events."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from tune_accent.models.backbone import Backbone
from tune_accent.models.forward import Inputs, collate, forward, pool
from tune_accent.models.published import published_config
from tune_accent.models.qwen_import import import_qwen_tts


def shaped(
    config: Mapping[str, Any], device: str = "meta", dtype: torch.dtype = torch.float32, attention: str = "sdpa"
) -> Backbone:
    """A frozen backbone of the real classes with the shape of `config` (a config.json); on `meta` it has no weights."""
    import_qwen_tts()
    from qwen_tts.core.models import Qwen3TTSConfig, Qwen3TTSForConditionalGeneration

    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(0)
        model = Qwen3TTSForConditionalGeneration(Qwen3TTSConfig(**json.loads(json.dumps(config)))).to(dtype)
    for part in (model.talker, model.talker.model, model.talker.code_predictor, model.talker.code_predictor.model):
        part.config._attn_implementation = attention
    model.requires_grad_(False).eval()
    talker = model.config.talker_config
    return Backbone(
        model=model,
        tts=SimpleNamespace(),
        name="shaped",
        folder=Path("shaped"),
        layers=talker.num_hidden_layers,
        hidden=talker.hidden_size,
        speaker_dim=model.config.speaker_encoder_config.enc_dim,
        codebook_size=talker.code_predictor_config.vocab_size,
        languages=talker.codec_language_id,
        role=(1, 2, 3),
    )


def batch_of(backbone: Backbone, rows: int, frames: int, tokens: int) -> Inputs:
    """`rows` utterances of equal length with random codes, on the CPU."""
    rng = np.random.default_rng(0)
    codes = [rng.integers(0, backbone.codebook_size, (frames, 16)) for _ in range(rows)]
    return collate(backbone, [rng.integers(4, 200, tokens).tolist() for _ in range(rows)], codes, None)


def step_loss(backbone: Backbone, inputs: Inputs, accent: torch.Tensor, layer: int, sub_frames: int | None) -> torch.Tensor:
    """A loss that reaches all that a training step keeps: both cross-entropies and what is pooled at `layer`; `accent` is (1, H)."""
    rows = len(inputs.frames)
    chosen = None if sub_frames is None else torch.arange(sub_frames)
    voices = torch.zeros(rows, backbone.hidden)
    output = forward(backbone, inputs, speaker=voices, accent=accent.expand(rows, -1), layer=layer, sub_frames=chosen)
    return output.loss_codebook0 + output.loss_subtalker + pool(output.hidden, output.frames).mean()


def peak_bytes(run: Callable[[], object], trace: Path) -> int:
    """The most bytes that CPU tensors made by `run` held at once, from the profiler's allocation events."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    profile.export_chrome_trace(str(trace))
    events = [event for event in json.loads(trace.read_text())["traceEvents"] if event.get("name") == "[memory]"]
    held, peak = 0, 0
    for event in sorted(events, key=lambda one: one["ts"]):
        held += event["args"]["Bytes"]
        peak = max(peak, held)
    return peak


def small_config(hidden: int = 128, codes: int = 128) -> dict[str, Any]:
    """config.json with the proportions of the published checkpoints (queries as wide as 2048 to 1024, MLP three times as wide), in small."""
    config: dict[str, Any] = json.loads(json.dumps(published_config("0.6B")))
    talker = config["talker_config"]
    widths = {"num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64}
    talker.update(
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        vocab_size=codes + 256,
        text_hidden_size=64,
        text_vocab_size=400,
        **widths,
    )
    talker["rope_scaling"] = {"type": "default", "mrope_section": [12, 10, 10], "interleaved": True}
    talker["codec_language_id"] = {"english": codes + 5}
    ids = [name for name in talker if name.startswith("codec_") and name.endswith("_id") and name != "codec_language_id"]
    talker |= {name: codes + 10 + number for number, name in enumerate(ids)}
    talker["code_predictor_config"].update(
        hidden_size=128, intermediate_size=384, vocab_size=codes, **{**widths, "num_hidden_layers": 2}
    )
    config |= {"im_start_token_id": 1, "im_end_token_id": 2, "tts_pad_token_id": 3, "tts_bos_token_id": 4, "tts_eos_token_id": 5}
    encoder = {"enc_channels": [32, 32, 32, 32, 96], "enc_attention_channels": 16, "enc_res2net_scale": 4, "enc_se_channels": 16}
    return {**config, "speaker_encoder_config": {"enc_dim": hidden, **encoder}}
