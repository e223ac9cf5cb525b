"""The adapter: nothing at step 0, only itself trained, saved and reloaded whole, taken off without a trace."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor

from tune_accent.base.files import read_json
from tune_accent.config.schema import Lora, Projection
from tune_accent.models.adversary import AccentTable
from tune_accent.models.backbone import Backbone, load_backbone
from tune_accent.models.forward import Inputs, Output, forward
from tune_accent.models.lora import (
    adapter_parameters,
    adapter_state,
    attach,
    detach,
    load_adapter_state,
    save_adapter,
    target_pattern,
)

ALL: tuple[Projection, ...] = ("q", "k", "v", "o", "gate", "up", "down")


def run(backbone: Backbone, batch: Inputs, voices: Tensor, accent: Tensor | None = None) -> Output:
    return forward(backbone, batch, speaker=voices, accent=accent, layer=4)


def same(a: Output, b: Output) -> bool:
    return (
        torch.equal(a.hidden, b.hidden)
        and torch.equal(a.loss_codebook0, b.loss_codebook0)
        and torch.equal(a.loss_subtalker, b.loss_subtalker)
    )


def stir(peft_model: PeftModel) -> None:
    """Weights as after training: B is no longer zero."""
    for name, parameter in sorted(peft_model.named_parameters()):
        if "lora_B" in name:
            parameter.data.normal_(std=0.1, generator=torch.Generator().manual_seed(len(name)))


@pytest.mark.parametrize(
    "cfg", [Lora(), Lora(rank=3, target=ALL, dropout=0.3), Lora(code_predictor=True)], ids=["default", "all", "predictor"]
)
def test_step_0_equals_the_base_model_exactly(backbone: Backbone, batch: Inputs, voices: Tensor, cfg: Lora) -> None:
    """Fresh adapter, zero accent table, same prefix."""
    base = run(backbone, batch, voices)
    attach(backbone, cfg, seed=1).train()
    accent = AccentTable(3, backbone.hidden)(torch.tensor([0, 2]))
    assert same(run(backbone, batch, voices, accent), base)


@pytest.mark.parametrize("target", [("q",), ("k", "v"), ("q", "k", "v", "o"), ALL, ("down",)])
@pytest.mark.parametrize("code_predictor", [False, True])
def test_targets_are_the_named_projections_and_no_others(
    backbone: Backbone, target: tuple[str, ...], code_predictor: bool
) -> None:
    cfg = Lora.model_validate({"target": target, "code_predictor": code_predictor})
    peft_model = attach(backbone, cfg, seed=0)
    adapted = [name.split("base_model.model.")[1] for name, module in peft_model.named_modules() if hasattr(module, "lora_A")]
    assert {name.split(".")[-1].removesuffix("_proj") for name in adapted} == set(target)
    assert len([name for name in adapted if name.startswith("talker.model.layers.")]) == 4 * len(target)
    in_predictor = [name for name in adapted if "code_predictor" in name]
    assert len(in_predictor) == (2 * len(target) if code_predictor else 0)
    assert len(adapted) == (6 if code_predictor else 4) * len(target), "nothing in the speaker encoder or elsewhere"


def test_pattern_needs_a_full_match() -> None:
    pattern = re.compile(target_pattern(Lora(target=ALL)))
    assert pattern.fullmatch("talker.model.layers.11.self_attn.q_proj") and pattern.fullmatch("talker.model.layers.0.mlp.up_proj")
    for name in (
        "talker.code_predictor.model.layers.0.self_attn.q_proj",
        "speaker_encoder.q_proj",
        "talker.model.layers.0.self_attn.q_norm",
    ):
        assert not pattern.fullmatch(name)


def test_only_the_adapter_gets_gradient(backbone: Backbone, batch: Inputs, voices: Tensor) -> None:
    peft_model = attach(backbone, Lora(), seed=0)
    stir(peft_model)
    output = run(backbone, batch, voices)
    (output.loss_codebook0 + output.loss_subtalker).backward()  # type: ignore[no-untyped-call]
    for name, parameter in peft_model.named_parameters():
        assert (parameter.grad is not None) == ("lora_" in name), name
    assert len(adapter_parameters(peft_model)) == 4 * 4 * 2
    assert all(
        parameter.dtype == torch.float32 and parameter.grad is not None and parameter.grad.any()
        for parameter in adapter_parameters(peft_model)
    )


def test_seed_fixes_the_weights_and_leaves_the_global_generators_alone(backbone: Backbone) -> None:
    torch.manual_seed(5)
    states = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    weights = []
    for seed in (7, 7, 8):
        peft_model = attach(backbone, Lora(rank=4), seed)
        weights.append(adapter_state(peft_model))
        detach(peft_model)
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[1]
    assert str(np.random.get_state()) == states[2]
    first, again, other = weights
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_detach_restores_the_backbone_bit_for_bit(backbone: Backbone, batch: Inputs, voices: Tensor) -> None:
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    modules = {name: id(module) for name, module in backbone.model.named_modules()}
    base = run(backbone, batch, voices)
    for cfg in (Lora(target=ALL), Lora(rank=2, code_predictor=True)):
        peft_model = attach(backbone, cfg, seed=0)
        peft_model.train()
        stir(peft_model)
        assert not same(run(backbone, batch, voices), base)
        detach(peft_model)
        after = backbone.model.state_dict()
        assert list(after) == list(before) and all(torch.equal(after[name], before[name]) for name in before)
        assert {name: id(module) for name, module in backbone.model.named_modules()} == modules
        assert not any(parameter.requires_grad for parameter in backbone.model.parameters()) and not backbone.model.training
        assert same(run(backbone, batch, voices), base)


def test_attaching_twice_is_refused(backbone: Backbone) -> None:
    attach(backbone, Lora(), seed=0)
    with pytest.raises(ValueError, match="detach it first"):
        attach(backbone, Lora(), seed=0)


@pytest.mark.parametrize(
    "cfg", [Lora(rank=4, alpha_ratio=1.5), Lora(rank=3, target=ALL, code_predictor=True)], ids=["attention", "all"]
)
def test_adapters_reload_to_the_same_output(
    backbone: Backbone, tiny_folder: Path, batch: Inputs, voices: Tensor, tmp_path: Path, cfg: Lora
) -> None:
    peft_model = attach(backbone, cfg, seed=0)
    stir(peft_model)
    save_adapter(peft_model, tmp_path / "best")
    assert sorted(path.name for path in (tmp_path / "best").iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert read_json(tmp_path / "best" / "adapter_config.json")["lora_alpha"] == cfg.scaled_alpha
    assert str(tiny_folder.parent) not in (tmp_path / "best" / "adapter_config.json").read_text(), "no path of this machine"
    other = load_backbone(tiny_folder)
    PeftModel.from_pretrained(other.model, str(tmp_path / "best")).eval()
    peft_model.eval()
    assert same(run(other, batch, voices), run(backbone, batch, voices))
    assert not same(run(load_backbone(tiny_folder), batch, voices), run(backbone, batch, voices))


def test_saved_bytes_depend_on_the_weights_only(backbone: Backbone, tmp_path: Path) -> None:
    for name in ("a", "b"):
        peft_model = attach(backbone, Lora(target=ALL), seed=3)
        save_adapter(peft_model, tmp_path / name)
        detach(peft_model)
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_state_round_trip(backbone: Backbone, batch: Inputs, voices: Tensor, tmp_path: Path) -> None:
    peft_model = attach(backbone, Lora(rank=4), seed=0)
    stir(peft_model)
    state, trained = adapter_state(peft_model), run(backbone, batch, voices)
    save_adapter(peft_model, tmp_path)
    assert {name: value.tolist() for name, value in load_file(tmp_path / "adapter_model.safetensors").items()} == {
        name: value.tolist() for name, value in state.items()
    }
    detach(peft_model)
    fresh = attach(backbone, Lora(rank=4), seed=9)
    load_adapter_state(fresh, state)
    assert same(run(backbone, batch, voices), trained)
    detach(fresh)
    with pytest.raises(ValueError, match="names or shapes differ"):
        load_adapter_state(attach(backbone, Lora(rank=8), seed=9), state)
