"""A trial at the end of an epoch, whole on disk: PEFT adapter, heads, both optimizers, counters. Safetensors and JSON only.

    <folder>/adapter/            PEFT format (absent for the no-LoRA baseline)
    <folder>/heads.safetensors   accent table (names of its rows in the metadata `accents`), z head, classifier, adversary
    <folder>/optimizer.safetensors
    <folder>/state.json          epoch, step, counters; the hash of what the trial is; under fp16 the loss scale
    <folder>/checksums.json      SHA-256 of every other file, checked before anything is loaded

No generator state is kept: every epoch seeds its generators from (seed, epoch) (see seeding.py), so training from a checkpoint gives the same bits
as training through. Does not cover a model trained on another device or library version: that is what environment.json is for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tune_accent.base.checksums import check_folder, write_checksums
from tune_accent.base.errors import DataError
from tune_accent.base.files import read_json, write_folder, write_json
from tune_accent.models.lora import adapter_state, load_adapter_state, save_adapter
from tune_accent.training.trial import Trial

COUNTERS = ("epoch", "step", "best_score", "stale_epochs", "grad_norm")
WHOLE = ("epoch", "step", "stale_epochs")  # of these; the others are finite floats, or None before there is one


def save_checkpoint(folder: Path, trial: Trial) -> None:
    """Write `trial` to `folder`, whole or not at all."""

    def fill(target: Path) -> None:
        if trial.adapter is not None:
            save_adapter(trial.adapter, target / "adapter")
        save_file(_heads_state(trial), target / "heads.safetensors", metadata={"accents": json.dumps(trial.heads.accents)})
        save_file(_optimizer_state(trial), target / "optimizer.safetensors")
        write_json(target / "state.json", {name: getattr(trial, name) for name in ("spec", *COUNTERS)} | _scaler_state(trial))
        write_checksums(target)

    write_folder(folder, fill)


def load_checkpoint(folder: Path, trial: Trial, device: torch.device) -> None:
    """Put the saved state into a freshly built trial of the same spec.

    Raises:
        DataError: a file is missing, damaged, or of another shape, or it is another trial's checkpoint. Damage is found before the trial is touched.
    """
    check_folder(folder)
    try:
        counters = _counters(folder, trial.spec)
        if trial.adapter is not None:
            load_adapter_state(trial.adapter, load_file(folder / "adapter" / "adapter_model.safetensors", device=str(device)))
        _load_heads(trial, load_file(folder / "heads.safetensors", device=str(device)))
        _load_optimizers(trial, load_file(folder / "optimizer.safetensors", device=str(device)))
        _load_scaler(trial, read_json(folder / "state.json"))
        for name, value in counters.items():
            setattr(trial, name, value)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise DataError(
            f"checkpoint cannot be read: {error}", str(folder), "remove it: the trial continues from the one before"
        ) from error


def _counters(folder: Path, spec: str) -> dict[str, int | float | None]:
    """The counters of a checkpoint; `ValueError` where one is of another kind, or they are not those of the trial `spec`."""
    content = read_json(folder / "state.json")
    if content["spec"] != spec:
        raise ValueError("it is the checkpoint of another trial")
    for name in COUNTERS:
        value = content[name]
        whole = type(value) is int and 0 <= value < 2**63
        if not (whole if name in WHOLE else value is None or (isinstance(value, float) and math.isfinite(value))):
            raise ValueError(f"{name} is {str(value)[:40]}")
    return {name: content[name] for name in COUNTERS}


def _scaler_state(trial: Trial) -> dict[str, dict[str, float]]:
    """The loss scale and how long it has held, under fp16; nothing otherwise."""
    return {} if trial.scaler is None else {"scaler": trial.scaler.state_dict()}


def _load_scaler(trial: Trial, content: Mapping[str, Any]) -> None:
    """`ValueError` where what was saved is not the state of a scaler."""
    if trial.scaler is None:
        return
    saved, own = content["scaler"], trial.scaler.state_dict()
    kinds = {name: type(value) for name, value in own.items()}
    same = isinstance(saved, dict) and {name: type(value) for name, value in saved.items()} == kinds
    if not (same and math.isfinite(saved["scale"]) and saved["scale"] > 0):
        raise ValueError(f"the state of the loss scaler is {str(saved)[:60]}")
    trial.scaler.load_state_dict(saved)


def adapter_tensors(trial: Trial) -> dict[str, Tensor]:
    """The adapter's weights by PEFT name; empty without LoRA."""
    return {} if trial.adapter is None else adapter_state(trial.adapter)


def _heads_state(trial: Trial) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": value.detach().contiguous()
        for name, module in trial.heads.modules().items()
        for key, value in module.state_dict().items()
    }


def _load_heads(trial: Trial, tensors: dict[str, Tensor]) -> None:
    for name, module in trial.heads.modules().items():
        prefix = f"{name}."
        module.load_state_dict({key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)})


def _optimizers(trial: Trial) -> dict[str, torch.optim.Optimizer]:
    return {"main": trial.optimizer, "adversary": trial.adversary_optimizer}


def _optimizer_state(trial: Trial) -> dict[str, Tensor]:
    return {
        f"{name}.{index}.{key}": value.detach().contiguous()
        for name, optimizer in _optimizers(trial).items()
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }


def _load_optimizers(trial: Trial, tensors: dict[str, Tensor]) -> None:
    for name, optimizer in _optimizers(trial).items():
        whole = optimizer.state_dict()
        whole["state"] = {}
        for path, value in tensors.items():
            owner, index, key = path.split(".", 2)
            if owner == name:
                # Adam keeps its step count on the CPU; the clone lets go of the mapped file
                whole["state"].setdefault(int(index), {})[key] = value.cpu().clone() if key == "step" else value.clone()
        optimizer.load_state_dict(whole)
