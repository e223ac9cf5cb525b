"""The report of a search, from its results folder alone: no data, no backbone, no sampler.

    write_search_report(Path("ray_results/lora"))

Writes `report/index.html`, equal for equal folders, and its figures into `tensorboard/search/` where there is a `tensorboard/`. It is made of the
tables (`trials.csv`, `epochs.jsonl`, `best.json`, all derived from the memo), so it is right where they are; `rerun --verify` checks them.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tune_accent.base.errors import DataError
from tune_accent.base.files import read_json, write_text
from tune_accent.base.storage import explained
from tune_accent.config.schema import Experiment
from tune_accent.reporting.figures import Picture
from tune_accent.reporting.page import Page, to_html
from tune_accent.reporting.search_figures import search_figures
from tune_accent.reporting.search_page import search_page
from tune_accent.reporting.search_view import FAILED, SearchView, TrialView
from tune_accent.reporting.stored_page import stored_page
from tune_accent.tracking.tensorboard import write_figures
from tune_accent.tuning.folder import read_spec
from tune_accent.tuning.memo import FolderMemo
from tune_accent.tuning.results import FIGURES

PLACE = "report/index.html"
AGAIN = "run the search's own command again: it writes the tables anew from its records"


def write_search_report(root: Path) -> Path:
    """Make the report of the search in `root`, as far as it has come; where it is.

    Raises:
        DataError: there is no search, or a table of it makes no sense. StorageError: the disk refuses.
    """
    view = read_view(root)
    pictures = search_figures(view)
    write_text(root / PLACE, to_html(search_page(view, pictures)))
    if (root / "tensorboard").is_dir():
        write_figures(root / "tensorboard" / "search", _png(pictures))
    return root / PLACE


def figures_of(root: Path) -> dict[str, bytes]:
    """The figures of that report: PNG files by name. Raises as `write_search_report`."""
    return _png(search_figures(read_view(root)))


def _png(pictures: Mapping[str, Picture]) -> dict[str, bytes]:
    return {name: picture.png for name, picture in pictures.items()}


def read_view(root: Path) -> SearchView:
    """The search in `root` as its tables tell it.

    Raises:
        DataError: there is none, or a table makes no sense.
    """
    spec = read_spec(root)
    if spec is None:
        what = "no such folder" if not root.is_dir() else "it holds no search, or its spec.yaml cannot be read"
        raise DataError(what, str(root), "give the results folder of a search, such as ray_results/lora")
    try:
        experiment, space = Experiment.model_validate(dict(spec.experiment)), spec.space
        metric, goal, run_cap = str(space["metric"]), str(space["goal"]), int(space["run_cap"])
    except (ValidationError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"another version of tune_accent wrote this spec: {error}", str(root / "spec.yaml")) from error
    return SearchView(
        root.absolute().name, experiment, metric, goal, run_cap, tuple(_trials(root)), _best(root), spec.sha256(),
        _comparison(root), (root / "paper" / "report.html").is_file(), any(root.glob("wandb/offline-run-*")),
    )  # fmt: skip


def _trials(root: Path) -> Iterator[TrialView]:
    path, memo, first = root / "trials.csv", FolderMemo(root), dict[str, int]()
    reports = _reports(root / "epochs.jsonl")
    with explained(path):
        rows = list(csv.DictReader(path.read_text(encoding="utf-8", errors="replace").splitlines())) if path.is_file() else []
    for row in rows:
        try:
            number, state, key, epochs = int(row["trial"]), row["state"], row["key"], int(row["epochs"])
            own = reports.get(number, ())
            if len(own) != epochs:
                raise ValueError(f"trial {number} has {len(own)} epochs in epochs.jsonl")
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"a row makes no sense: {error}", str(path), AGAIN) from error
        params = {name: text or "" for name, text in row.items() if name not in (*FIGURES, "trial", "state", "epochs", "key")}
        yield TrialView(number, key, params, state, own, _note(memo, key, state, first.setdefault(key, number)))


def _note(memo: FolderMemo, key: str, state: str, first: int) -> str:
    """Why a trial failed, or which one it repeats."""
    if state == "DUPLICATE":
        return f"repeats trial {first}"
    failure = memo.failure(key) if state in FAILED else None
    return "" if failure is None else f"epoch {failure.epoch}: {failure.message}"


def _reports(path: Path) -> dict[int, tuple[Mapping[str, Any], ...]]:
    """Trial → its figures after epochs 1…n."""
    with explained(path):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    found: dict[int, tuple[Mapping[str, Any], ...]] = {}
    for place, line in enumerate(lines, 1):
        try:
            report = json.loads(line)
            before = found.get(report["trial"], ())
            if report["epoch"] != len(before) + 1:
                raise ValueError(f"epoch {report['epoch']} comes after {len(before)}")
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise DataError(f"line {place} makes no sense: {error}", str(path), AGAIN) from error
        found[report["trial"]] = (*before, report)
    return found


def _best(root: Path) -> Mapping[str, Any] | None:
    try:
        found = read_json(root / "best.json")
    except FileNotFoundError:
        return None
    if not isinstance(found, dict) or not {"trial", "rule", "params", "metrics", "verdict", "multiplicity"} <= set(found):
        raise DataError("it is no record of a best trial", str(root / "best.json"), AGAIN)
    return found


def _comparison(root: Path) -> Page | None:
    try:
        return stored_page(root / "comparison" / "page.json")
    except FileNotFoundError:
        return None
