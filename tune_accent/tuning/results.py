"""The files of a results folder that are derived from the core's records: rewritten whole, readable without Ray, equal for equal searches."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tune_accent.base.checksums import check_folder
from tune_accent.base.errors import DataError
from tune_accent.base.files import append_line, canonical_json, read_json, write_json, write_text
from tune_accent.base.storage import explained
from tune_accent.config.load import resolve
from tune_accent.config.schema import Experiment
from tune_accent.config.space import Space
from tune_accent.models.adapter_base import NAME as BASE
from tune_accent.models.adapter_base import AdapterBase, write_adapter
from tune_accent.tuning.core import Trial
from tune_accent.tuning.memo import FolderMemo

logger = logging.getLogger(__name__)
RESOLVED = ("lora_rank", "lora_alpha", "lr", "leakage_weight")
FIGURES = (
    "accent_f1",
    "accent_balanced_accuracy",
    "speaker_leakage",
    "speaker_leakage_unseen",
    "speaker_leakage_seen",
    "text_drop",
    "val_loss",
    "score",
)
TIMING = ("launch", "trial", "epoch", "worker", "started", "seconds", "peak_mb", "allocated_mb")
TIMINGS = (TIMING, TIMING[:-1])  # the second was written before allocated memory was noted


def trials_csv(experiment: Experiment, space: Space, trials: Sequence[Trial]) -> str:
    """`trials.csv`: a row per trial by number, figures of the last epoch; nothing that depends on time or machine."""
    own = [parameter.name for parameter in space.searched if parameter.name not in RESOLVED]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["trial", "state", "epochs", *own, *RESOLVED, *FIGURES, "key"])
    for trial in trials:
        last: Mapping[str, Any] = trial.reports[-1] if trial.reports else {}
        params = [trial.params[name] for name in own]
        values = [*params, *resolved_values(experiment, trial.params), *(last.get(name) for name in FIGURES)]
        writer.writerow([trial.number, trial.state, len(trial.reports), *map(_cell, values), trial.key])
    return out.getvalue()


def resolved_values(experiment: Experiment, params: Mapping[str, Any]) -> tuple[int, float, float, float]:
    """LoRA rank, alpha, learning rate and leakage weight of a trial, whichever of them were searched."""
    spec = resolve(experiment, params)
    return spec.model.lora.rank, spec.model.lora.scaled_alpha, spec.training.lr, spec.objective.leakage_weight


def epochs_jsonl(trials: Sequence[Trial]) -> str:
    """`epochs.jsonl`: every figure of every epoch that a decision was made from."""
    lines = [
        json.dumps({"trial": trial.number, "key": trial.key, "epoch": epoch, **report}, sort_keys=True, allow_nan=False)
        for trial in trials
        for epoch, report in enumerate(trial.reports, 1)
    ]
    return "".join(line + "\n" for line in lines)


def append_timing(root: Path, row: Mapping[str, Any]) -> None:
    """One executed epoch into `timing.csv`, with the columns that the file has; memory that nobody measured is 0."""
    path = root / "timing.csv"
    if not path.exists():
        write_text(path, ",".join(TIMING) + "\n")
    with explained(path), path.open(encoding="utf-8", errors="replace") as stream:
        columns = timing_columns(stream.readline())
    known = {"allocated_mb": 0.0, **row}
    append_line(path, ",".join(_cell(known[name]) for name in columns))


def timing_columns(heading: str) -> tuple[str, ...]:
    """The columns of a `timing.csv` that begins with `heading`; those of today where it says nothing that was ever written."""
    found = tuple(heading.rstrip("\r\n").split(","))
    return found if found in TIMINGS else TIMING


def next_launch(root: Path) -> int:
    """Number of this launch: one more than the last that trained an epoch."""
    path = root / "timing.csv"
    if not path.exists():
        return 1
    cells = [line.split(",")[0] for line in path.read_text(encoding="utf-8", errors="replace").splitlines()[1:]]
    return 1 + max((int(cell) for cell in cells if cell.isdecimal()), default=0)


def write_best(root: Path, best: Trial, summary: Mapping[str, Any], card: str, base: AdapterBase) -> None:
    """`best.json` and `best/`: the adapter and heads of the best trial's last epoch, what they were trained on, and a card. Nothing where they are there and whole.

    Raises:
        DataError: the checkpoint is damaged; what was in `best/` stays.
    """
    if holds_best(root, summary):
        return
    write_adapter(FolderMemo(root).checkpoint(best.key, len(best.reports)), base, root / "best", card)
    write_json(root / "best.json", {name: json.loads(canonical_json(value)) for name, value in summary.items()})


def holds_best(root: Path, summary: Mapping[str, Any]) -> bool:
    """Whether `best.json` is `summary`, and `best/` beside it is whole."""
    try:
        check_folder(root / "best")
        return (root / "best" / BASE).is_file() and canonical_json(read_json(root / "best.json")) == canonical_json(dict(summary))
    except (DataError, FileNotFoundError, ValueError):
        return False


def write_tables(root: Path, experiment: Experiment, space: Space, trials: Sequence[Trial]) -> None:
    """`trials.csv` and `epochs.jsonl` as they stand."""
    write_text(root / "trials.csv", trials_csv(experiment, space, trials))
    write_text(root / "epochs.jsonl", epochs_jsonl(trials))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)
