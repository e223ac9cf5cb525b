"""The published checkpoints without their weights: real classes on the meta device, with LoRA, through the real forward."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from tests.models.shaped import batch_of, shaped
from tune_accent.config.load import load_experiment
from tune_accent.config.schema import Lora
from tune_accent.models.backbone import set_checkpointing
from tune_accent.models.forward import codebook0_logits, embed, forward, subtalker_logits, trunk
from tune_accent.models.lora import adapter_parameters, attach
from tune_accent.models.published import HUB_IDS, PARAMETERS, WIDTHS, published_config
from tune_accent.models.shape import Shape

SIZES = {"0.6B": (914.6, 4.6), "1.7B": (1928.7, 6.4)}  # millions of weights, and of an adapter of rank 16 on q, k, v, o


@pytest.mark.parametrize("size", SIZES)
def test_numbers_of_weights_and_widths_of_every_state(size: str) -> None:
    config = published_config(size)
    assert config is not None
    backbone = shaped(config, dtype=torch.bfloat16)
    hidden, ffn = WIDTHS[size]
    counted = sum(parameter.numel() for parameter in backbone.model.parameters())
    assert round(counted / 1e6, 1) == SIZES[size][0] and counted == PARAMETERS[hidden]
    projection, blocks = backbone.talker.text_projection, backbone.talker.model.layers
    assert (projection.linear_fc1.in_features, projection.linear_fc2.out_features) == (2048, hidden)
    assert (len(blocks), blocks[0].mlp.up_proj.out_features, len(backbone.talker.code_predictor.model.layers)) == (28, ffn, 5)

    adapter = attach(backbone, Lora(rank=16, alpha=32), seed=0)
    trained = sum(parameter.numel() for parameter in adapter_parameters(adapter))
    assert round(trained / 1e6, 1) == SIZES[size][1]
    assert trained == Shape.of(config).adapter(16, ("q", "k", "v", "o"), in_predictor=False)


@pytest.fixture
def no_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real classes switch autocast off inside the rotary embedding, which PyTorch cannot do on the meta device."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())


@pytest.mark.parametrize("size", SIZES)
def test_a_step_of_the_shipped_experiment_has_the_right_shapes(size: str, no_autocast: None) -> None:
    spec = load_experiment(f"configs/qwen3_tts_{size.lower()}.yaml").experiment
    assert spec.model.backbone == HUB_IDS[size] and spec.data.codec.name == "qwen"
    backbone = shaped(published_config(spec.model.backbone) or {})
    attach(backbone, spec.model.lora, seed=0)
    set_checkpointing(backbone, spec.training.gradient_checkpointing, spec.training.predictor_checkpointing)
    assert backbone.language_id(spec.model.language) == 2071 and spec.model.layer < backbone.layers
    inputs = batch_of(backbone, 2, 40, 12).to("meta")
    voices = torch.zeros(2, backbone.hidden, device="meta")
    backbone.model.train()
    output = forward(backbone, inputs, speaker=voices, accent=voices, layer=spec.model.layer)
    assert output.hidden.shape == (2, 63, backbone.hidden) and output.hidden.requires_grad
    assert (output.loss_codebook0 + output.loss_subtalker).shape == ()
    last, _ = trunk(backbone, embed(backbone, inputs, voices, None), backbone.layers, whole=True)
    assert codebook0_logits(backbone, inputs, last).shape == (82, 3072)
    assert subtalker_logits(backbone, inputs, last, None).shape == (80, 15, 2048)


@pytest.mark.parametrize("name", ["Qwen/Qwen3-TTS-12Hz-0.6B-Base", "models/Qwen3-TTS-12Hz-0.6B-Base/", "0.6B"])
def test_a_checkpoint_is_known_by_id_size_and_folder(name: str) -> None:
    assert published_config(name) == published_config("0.6B") != published_config("1.7B")
    assert published_config("Qwen/Qwen3-TTS-12Hz-0.6B-CustomVoice") is None
