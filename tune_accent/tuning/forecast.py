"""What a search would do, before it does anything: resolved config, first configurations, epochs, disk and memory to expect."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import psutil

from tune_accent.base.files import read_json
from tune_accent.config.load import dump_experiment, resolve
from tune_accent.config.schema import Experiment
from tune_accent.config.space import LoadedSpace
from tune_accent.tracking.provenance import gpus
from tune_accent.tuning.progress import number
from tune_accent.tuning.results import resolved_values
from tune_accent.tuning.rungs import Rungs
from tune_accent.tuning.settings import search_settings, search_suggester

CHECKPOINTS = 2  # kept per trial
PROCESS_BYTES = 0.8 * 2**30  # of a worker with torch and qwen_tts imported, before any weight
TINY_PARAMETERS = 1.0e6  # at hidden 64, the speech tokenizer included
STATES = 3  # float32 tensors per trained weight on disk: the weight and Adam's two moments


def forecast(space: LoadedSpace, experiment: Experiment, run_cap: int, root: Path) -> str:
    """The text of `--dry-run`; nothing is prepared, claimed or written."""
    lines = [f"# the experiment, resolved ({root})", dump_experiment(experiment).rstrip(), "", "# first configurations"]
    lines += [f"  trial {index}: {_row(experiment, params)}" for index, params in enumerate(first(space, experiment, run_cap))]
    low, high = epochs_expected(space, experiment, run_cap)
    disk = disk_bytes(space, experiment, run_cap)
    free = shutil.disk_usage(_existing(root)).free
    lines += [
        "",
        f"# epochs: {low} to {high} ({run_cap} trials of {experiment.training.epochs}, "
        + (f"ASHA rungs at {_rungs(space, experiment)})" if space.min_iter else "no early stopping)"),
        f"# disk:   about {_size(disk)} of checkpoints at most, {_size(free)} free" + ("  ← NOT ENOUGH" if disk > free else ""),
        f"# memory: {memory(experiment)}",
    ]
    return "\n".join(lines) + "\n"


def first(space: LoadedSpace, experiment: Experiment, run_cap: int) -> list[dict[str, Any]]:
    """Parameters of the first round: they depend on the seed alone."""
    suggester = search_suggester(experiment, space, search_settings(experiment, space, run_cap))
    draws = [suggester.ask(index, 0) for index in range(min(run_cap, experiment.tuning.slots))]
    return [suggester.params(draw) for draw in draws if draw is not None]


def epochs_expected(space: LoadedSpace, experiment: Experiment, run_cap: int) -> tuple[int, int]:
    """Fewest epochs (every rung keeps its best 1/eta, ties apart) and most (nothing is stopped)."""
    epochs = experiment.training.epochs
    levels = Rungs(space.min_iter, space.eta, epochs).levels if space.min_iter else ()
    remaining, before, low = run_cap, 0, 0
    for level in (*levels, epochs):
        low += remaining * (level - before)
        remaining, before = -(-remaining // space.eta), level
    return low, run_cap * epochs


def disk_bytes(space: LoadedSpace, experiment: Experiment, run_cap: int) -> int:
    """Bytes of the kept checkpoints if every trial had the largest rank of the space."""
    ranks = [edge for p in space.space.parameters if p.name == "lora_rank" for edge in p.edges if isinstance(edge, int)]
    rank = max(ranks, default=experiment.model.lora.rank)
    widest = resolve(experiment, {"lora_rank": rank})
    return run_cap * CHECKPOINTS * (4 * STATES * adapter_weights(widest) + 2**18)


def adapter_weights(experiment: Experiment) -> int:
    """Trained weights of the adapter; 0 where the backbone's shape is not on this machine."""
    shape = _shape(experiment)
    if shape is None:
        return 0
    hidden, heads, key_values, ffn = (shape[name] for name in ("hidden", "heads", "key_values", "ffn"))
    sides = {"q": hidden + heads, "k": hidden + key_values, "v": hidden + key_values, "o": hidden + heads}
    sides |= {"gate": hidden + ffn, "up": hidden + ffn, "down": hidden + ffn}
    return experiment.model.lora.rank * shape["layers"] * sum(sides[name] for name in experiment.model.lora.target)


def memory(experiment: Experiment) -> str:
    """Whether one worker fits: a floor from process, weights, gradients and optimizer; activations come on top."""
    shape = _shape(experiment)
    if shape is None:
        return f"unknown: the shape of {experiment.model.backbone} is not on this machine"
    width = 2 if experiment.training.precision == "bf16" else 4
    model: float = shape["parameters"] * width + 4 * (STATES + 1) * adapter_weights(experiment)
    cards = gpus() if experiment.tuning.resources.gpu > 0 else []
    if cards:
        room = float(cards[0]["memory"].split()[0]) * 2**20 * experiment.tuning.resources.gpu
        where = f"gpu {experiment.tuning.resources.gpu:g} of {cards[0]['name']} is {_size(room)}"
    else:
        model += PROCESS_BYTES
        room = psutil.virtual_memory().available / (experiment.tuning.workers or experiment.tuning.slots)
        where = f"{_size(room)} of main memory per worker"
    return f"at least {_size(model)} per worker, activations on top; {where}: {'fits' if model < room else 'DOES NOT FIT'}"


def _shape(experiment: Experiment) -> dict[str, int] | None:
    """Widths of the talker, and the number of weights."""
    name = experiment.model.backbone
    if name == "tiny":
        hidden = experiment.model.tiny.hidden
        wide = {"hidden": hidden, "heads": hidden, "key_values": hidden // 2, "ffn": 3 * hidden}
        return {"layers": experiment.model.tiny.layers, "parameters": round(TINY_PARAMETERS * (hidden / 64) ** 2), **wide}
    folder = Path(name)
    if not (folder / "config.json").is_file():
        return None
    talker = read_json(folder / "config.json")["talker_config"]
    head = talker.get("head_dim", talker["hidden_size"] // talker["num_attention_heads"])
    return {
        "layers": talker["num_hidden_layers"],
        "hidden": talker["hidden_size"],
        "heads": head * talker["num_attention_heads"],
        "key_values": head * talker["num_key_value_heads"],
        "ffn": talker["intermediate_size"],
        "parameters": sum(file.stat().st_size for file in folder.glob("*.safetensors")) // 2,  # checkpoints are bf16
    }


def _rungs(space: LoadedSpace, experiment: Experiment) -> str:
    return ", ".join(map(str, Rungs(space.min_iter, space.eta, experiment.training.epochs).levels))


def _row(experiment: Experiment, params: dict[str, Any]) -> str:
    rank, alpha, lr, weight = resolved_values(experiment, params)
    return f"rank {rank}, alpha {number(alpha)}, lr {number(lr)}, leakage weight {number(weight)}"


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit in ("B", "KiB") else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError
