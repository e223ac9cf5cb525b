"""A results folder as a campaign: figures from the memo (checksummed), states from `trials.csv`, times from `timing.csv`.

Needs neither Ray, nor Optuna, nor W&B's engine, whichever of them made the folder.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tune_accent.base.errors import DataError
from tune_accent.base.files import read_json
from tune_accent.base.storage import explained
from tune_accent.comparing.identity import identity_of
from tune_accent.comparing.record import Campaign, Execution, TrialRecord
from tune_accent.config.parameters import Uniform
from tune_accent.config.space import LoadedSpace, Space, space_from_dict
from tune_accent.paper.hashes import search_spec
from tune_accent.tuning.folder import Spec
from tune_accent.tuning.memo import FolderMemo

ENGINE, ASKING = "engine", "suggestions.csv"  # key of the spec's space in folders of other engines; seconds of every suggestion
LABELS = {"tpe": "TPE", "gp": "GP", "random": "random", "grid": "grid"}
WANDB = {"wandb-bayes": "W&B bayes", "wandb-random": "W&B random"}


def read_folder(root: Path) -> Campaign:
    """The search in `root`, as far as it has come.

    Raises:
        DataError: there is none, its spec was edited, or its tables and its memo do not agree.
    """
    spec = search_spec(root)
    try:
        space = space_from_dict({"run_cap": None, **spec.space}, str(root / "spec.yaml"))
        length, engine, seed = spec.experiment["training"]["epochs"], label(spec), seed_of(spec.experiment)
        identity = identity_of(spec.experiment, space.space.to_dict(), (space.metric, space.goal), spec.data, _environment(root))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"its spec makes no sense: {error}", str(root / "spec.yaml"), "bring the file back") from error
    trials = tuple(_trials(root, space))
    return Campaign(
        root.name, engine, seed, identity, space.metric, space.goal, length, space.min_iter, trials,
        tuple(_executions(root)), tuple(_asking(root)), _notes(spec, trials),
    )  # fmt: skip


def label(spec: Spec) -> str:
    """The engine of a search: sampler, early stopping, and order where it is not the default."""
    tuning, method = spec.experiment["tuning"], spec.space["method"]
    kind = spec.space.get(ENGINE)
    drawn = "random" if kind == "random" else tuning["sampler"] if method == "bayes" else method
    name = WANDB.get(str(kind)) or LABELS[drawn]
    early = "" if spec.space["min_iter"] is None else " + hyperband" if kind in WANDB else " + ASHA"
    return f"{name}{early}{'' if tuning['order'] == 'rounds' else ', async'}"


def seed_of(experiment: Mapping[str, Any]) -> str:
    """What pairs searches of different engines: the experiment's seed and the repeat."""
    return f"{experiment['seed']}/{experiment['training'].get('repeat', 0)}"


def _notes(spec: Spec, trials: tuple[TrialRecord, ...]) -> tuple[str, ...]:
    found = []
    if len(trials) < int(spec.space.get("run_cap") or 0) or any(trial.state == "RUNNING" for trial in trials):
        found.append("is not finished: it stands here as far as it has come.")
    if spec.space.get(ENGINE) in WANDB and spec.space["min_iter"] is not None:
        found.append(
            "is stopped by W&B's hyperband, whose thresholds include the run that is judged, and which judges a run by its best epoch."
        )
    return tuple(found)


def _environment(root: Path) -> Mapping[str, Any] | None:
    try:
        found = read_json(root / "environment.json")
    except FileNotFoundError:
        return None
    return found if isinstance(found, dict) else None


def _trials(root: Path, space: LoadedSpace) -> Iterator[TrialRecord]:
    memo, path = FolderMemo(root), root / "trials.csv"
    if not path.is_file():
        raise DataError("the search has no table of trials", str(path), "start the search; the same command continues it")
    with explained(path):
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    for row in rows:
        try:
            number, state, epochs, key = int(row["trial"]), row["state"], int(row["epochs"]), row["key"]
        except (KeyError, TypeError, ValueError) as error:
            raise _torn(path, f"a row makes no sense ({error})") from error
        reports = [] if state == "DUPLICATE" else memo.reports(key)[:epochs]
        draw = memo.suggestion(number)
        if draw is None or (state != "DUPLICATE" and len(reports) < epochs):
            raise _torn(path, f"trial {number} has more epochs here than its records hold")
        yield TrialRecord(number, params(space.space, draw, space.method), state, tuple(reports))


def params(space: Space, draw: Mapping[str, Any], method: str) -> dict[str, Any]:
    """A trial's searched parameters from its draw, rounded as the space says; a point of a grid as it is."""
    if method == "grid":
        return {parameter.name: draw[parameter.name] for parameter in space.searched}
    kinds = {parameter.name: parameter for parameter in space.searched}
    return {name: kind.snap(draw[name]) if isinstance(kind, Uniform) else draw[name] for name, kind in kinds.items()}


def _torn(path: Path, what: str) -> DataError:
    return DataError(what, str(path), "run the search's own command again: it writes the table anew from its records")


def _executions(root: Path) -> Iterator[Execution]:
    """Rows of `timing.csv`; a line that a power loss tore is left out."""
    for row in _rows(root / "timing.csv"):
        try:
            seconds, started = float(row["seconds"]), float(row["started"])
            found = Execution(int(row["trial"]), int(row["epoch"]), seconds, started + seconds, int(row["launch"]))
        except (KeyError, TypeError, ValueError):
            continue
        if math.isfinite(seconds) and math.isfinite(started):
            yield found


def _asking(root: Path) -> Iterator[float]:
    for row in _rows(root / ASKING):
        try:
            yield float(row["seconds"])
        except (KeyError, TypeError, ValueError):
            continue


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with explained(path):
        return list(csv.DictReader(path.read_text(encoding="utf-8", errors="replace").splitlines()))
