"""What a search would do, before it does anything: resolved config, first configurations, epochs, disk and memory to expect."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tune_accent.config.load import dump_experiment, resolve
from tune_accent.config.schema import Experiment
from tune_accent.config.space import LoadedSpace
from tune_accent.models.memory import setting_of, trained_weights
from tune_accent.models.shape import shape_of
from tune_accent.reporting.search_words import short
from tune_accent.tuning.peak import memory, size
from tune_accent.tuning.results import resolved_values
from tune_accent.tuning.rungs import Rungs
from tune_accent.tuning.settings import search_settings, search_suggester

CHECKPOINTS = 2  # kept per trial
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
        f"# disk:   about {size(disk)} of checkpoints at most, {size(free)} free" + ("  ← NOT ENOUGH" if disk > free else ""),
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
    """Trained weights of the adapter; 0 where the backbone's shape is not known."""
    shape = shape_of(experiment)
    return 0 if shape is None else trained_weights(shape, setting_of(experiment))


def _rungs(space: LoadedSpace, experiment: Experiment) -> str:
    return ", ".join(map(str, Rungs(space.min_iter, space.eta, experiment.training.epochs).levels))


def _row(experiment: Experiment, params: dict[str, Any]) -> str:
    rank, alpha, lr, weight = resolved_values(experiment, params)
    return f"rank {rank}, alpha {short(alpha)}, lr {short(lr)}, leakage weight {short(weight)}"


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder
