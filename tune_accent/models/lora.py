"""LoRA on the talker's decoder blocks through peft: attach, save, detach.

The code predictor has layers of the same names; a full-match pattern keeps the adapter off them unless the config asks for it.
The backbone's modules are replaced in place, so `forward` sees the adapter; `detach` puts the original modules back, untouched.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import save
from torch import Tensor, nn

from tune_accent.base.files import write_bytes, write_json
from tune_accent.config.schema import Lora
from tune_accent.models.backbone import Backbone

ATTENTION = ("q", "k", "v", "o")


def target_pattern(cfg: Lora) -> str:
    """The pattern that peft matches in full against module names of the whole model."""
    attention = "|".join(name for name in cfg.target if name in ATTENTION)
    mlp = "|".join(name for name in cfg.target if name not in ATTENTION)
    projections = [rf"self_attn\.({attention})_proj"] * bool(attention) + [rf"mlp\.({mlp})_proj"] * bool(mlp)
    where = r"talker\.(code_predictor\.)?model" if cfg.code_predictor else r"talker\.model"
    return rf"{where}\.layers\.\d+\.({'|'.join(projections)})"


def attach(backbone: Backbone, cfg: Lora, seed: int) -> PeftModel:
    """Put a fresh adapter on the backbone; its output is the base model's until a step is taken.

    Args:
        backbone: without an adapter.
        cfg: rank, alpha, dropout, targets.
        seed: of the adapter's initial weights. The global generator is left as it was.

    Returns:
        The peft model; its `parameters()` with gradient are the adapter's only, in float32.
    """
    if any(hasattr(module, "lora_A") for module in backbone.model.modules()):
        raise ValueError("the backbone carries an adapter already: detach it first")
    config = LoraConfig(
        r=cfg.rank, lora_alpha=cfg.scaled_alpha, lora_dropout=cfg.dropout, target_modules=target_pattern(cfg), bias="none"
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            peft_model = get_peft_model(backbone.model, config)
        except BaseException:  # out of memory, say: the next trial must find the backbone as it was
            _strip(backbone.model)
            raise
    config.base_model_name_or_path = Path(backbone.name).name if Path(backbone.name).is_dir() else backbone.name
    return peft_model


def detach(peft_model: PeftModel) -> None:
    """Take the adapter off: the backbone has its own modules again, bit for bit."""
    peft_model.unload()
    _strip(peft_model.base_model.model)


def _strip(model: nn.Module) -> None:
    """Put every layer that carries an adapter back, and forget that there was one."""
    for parent in list(model.modules()):
        vars(parent).pop("peft_config", None)
        for name, child in list(parent.named_children()):
            if hasattr(child, "lora_A"):
                setattr(parent, name, child.base_layer)
    model.requires_grad_(False)
    model.eval()


def adapter_parameters(peft_model: PeftModel) -> list[nn.Parameter]:
    """The trainable weights, in a fixed order."""
    return [parameter for _, parameter in sorted(peft_model.named_parameters()) if parameter.requires_grad]


def adapter_state(peft_model: PeftModel) -> dict[str, Tensor]:
    """A copy of the adapter's weights on the CPU, under peft's names."""
    return {
        name: value.detach().to("cpu", copy=True).contiguous()
        for name, value in get_peft_model_state_dict(peft_model, save_embedding_layers=False).items()
    }


def load_adapter_state(peft_model: PeftModel, state: Mapping[str, Tensor]) -> None:
    """Set the adapter's weights.

    Raises:
        ValueError: names or shapes are not those of this adapter.
    """
    own = get_peft_model_state_dict(peft_model, save_embedding_layers=False)
    if {name: value.shape for name, value in own.items()} != {name: value.shape for name, value in state.items()}:
        raise ValueError("these are not the weights of this adapter: names or shapes differ")
    set_peft_model_state_dict(peft_model, dict(state))


def save_adapter(peft_model: PeftModel, folder: Path) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors`, as `PeftModel.from_pretrained(model, folder)` reads them.

    `PeftModel.save_pretrained` would also render a model card from a template, which takes longer than everything else of a checkpoint.
    """
    config = {**peft_model.peft_config[peft_model.active_adapter].to_dict(), "inference_mode": True}
    plain = {name: sorted(value) if isinstance(value, set) else value for name, value in config.items()}
    write_json(folder / "adapter_config.json", dict(sorted(plain.items())))
    write_bytes(folder / "adapter_model.safetensors", save(adapter_state(peft_model), metadata={"format": "pt"}))
