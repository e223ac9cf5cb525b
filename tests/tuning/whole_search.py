"""A whole search without speech and without Ray: the real driver, core, memo, worker program and results, with epochs that are hashes.

An epoch's figures follow from the checkpoint before it, so that a search which continued from anything else shows it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support import small_experiment
from tests.tuning.light import lighten, remember_texts
from tests.tuning.simulated import table
from tests.tuning.small_search import PREPARED, SPACE, report, request
from tests.tuning.test_driver import InProcess
from tune_accent.base.checksums import check_folder, write_checksums
from tune_accent.base.files import read_json, sha256_json, write_bytes, write_folder, write_json
from tune_accent.config.schema import Experiment, Tracking
from tune_accent.config.space import Space
from tune_accent.tuning import driver, folder
from tune_accent.tuning.core import Core
from tune_accent.tuning.driver import Outcome, Request, run_search
from tune_accent.tuning.memo import FolderMemo
from tune_accent.tuning.study import export_study

EPOCHS = 3


@dataclass
class HashTrial:
    """A trial whose weights are a hash of everything that was done to it."""

    weights: str
    epoch: int = 0


@dataclass
class HashReport:
    """As `EpochReport`."""

    epoch: int
    metrics: Mapping[str, Any]
    trial: HashTrial
    seconds: float = 0.5
    peak_mb: float = 1.0
    allocated_mb: float = 1.0


class HashRun(Iterator[HashReport]):
    """As `TrialRun`: from the start, or from a checkpoint that is checked."""

    def __init__(self, spec: Experiment, data: object, checkpoint: Path | None = None) -> None:
        self.weight, self.trial = spec.objective.leakage_weight, HashTrial(sha256_json(spec.model_dump(mode="json")))
        if checkpoint is not None:
            check_folder(checkpoint)
            self.trial = HashTrial(**read_json(checkpoint / "state.json"))

    def __next__(self) -> HashReport:
        if self.trial.epoch == EPOCHS:
            raise StopIteration
        self.trial.epoch += 1
        self.trial.weights = sha256_json([self.trial.weights, self.trial.epoch])
        figures = report({"leakage_weight": self.weight}, self.trial.weights, self.trial.epoch)
        return HashReport(self.trial.epoch, {**figures, "ended": self.trial.epoch == EPOCHS}, self.trial)

    def close(self) -> None:
        """Nothing is held."""


def save_hash(target: Path, trial: HashTrial) -> None:
    """As `save_checkpoint`: the same files, in the same manner."""

    def fill(empty: Path) -> None:
        for name in ("adapter/adapter_model.safetensors", "heads.safetensors"):
            write_json(empty / name, trial.weights)
        write_json(empty / "state.json", vars(trial))
        write_checksums(empty)

    write_folder(target, fill)


def remember_study(patch: pytest.MonkeyPatch) -> None:
    """A study that was exported before is written again, not built again: that takes most of a launch's time, and no step on the disk."""
    known: dict[str, bytes] = {}

    def written(core: Core, space: Space, path: Path) -> None:
        if path.is_file() or table(core) not in known:
            export_study(core, space, path)
            known[table(core)] = path.read_bytes()
        else:
            write_bytes(path, known[table(core)])

    patch.setattr(driver, "export_study", written)


class Search:
    """A search of three trials in `root`, to be launched as often as one likes.

    Attributes:
        trained: epochs that were trained, over all launches.
    """

    def __init__(self, root: Path, patch: pytest.MonkeyPatch, run_cap: int = 3) -> None:
        from tune_accent.tuning import program

        self.patch, self.trained = patch, 0
        experiment = small_experiment(Path("data/small")).model_copy(update={"tracking": Tracking(tensorboard=False)})
        (root.parent / "asked").mkdir(parents=True, exist_ok=True)
        self.request: Request = request(root.parent / "asked", SPACE, experiment, root=root, run_cap=run_cap)
        patch.setattr(driver, "ensure_prepared", lambda spec, show: PREPARED)
        patch.setattr(driver, "write_search_report", lambda root: None)  # derived, and drawn for a second
        patch.setattr(folder, "environment", lambda: {"tune_accent": "0", "python": "3", "packages": {}})
        patch.setattr(program, "train", HashRun)
        patch.setattr(program, "save_checkpoint", save_hash)
        lighten(patch)
        remember_texts(patch)
        self._program = program.SpeechProgram

    @property
    def root(self) -> Path:
        """The results folder."""
        return self.request.root

    def launch(self) -> Outcome:
        """One launch; whatever ends it passes."""
        data = cast("Any", SimpleNamespace(device=SimpleNamespace(type="cpu")))
        workers = InProcess(lambda spec: self._program(self.request.experiment, data, FolderMemo(Path(spec["root"]))))
        self.patch.setattr(driver, "run_with_ray", workers)
        try:
            return run_search(self.request)
        finally:
            self.trained += workers.trained

    def result(self) -> dict[str, str]:
        """Everything that must be equal for equal searches: tables, best, and the memo with the checkpoints that are needed to go on."""
        names = ["trials.csv", "epochs.jsonl", "best.json", "spec.sha256", "best", "suggestions", "trials"]
        files = [path for name in names for path in [self.root / name, *(self.root / name).rglob("*")] if path.is_file()]
        return {str(path.relative_to(self.root)): path.read_text() for path in files if "/0001/" not in str(path)}

    def torn(self) -> list[str]:
        """Files and folders under their own names that are not whole; temporary ones (hidden) do not count."""
        found = [str(path) for path in self._visible("trials/*/[0-9]*") if path.is_dir() and not _is(path, check_folder)]
        found += [str(path) for path in self._visible("best") if not _is(path, check_folder)]
        found += [
            str(path)
            for pattern in ("trials/*/*.json", "suggestions/*.json", "*.json")
            for path in self._visible(pattern)
            if not _is(path, _signed)
        ]
        found += [
            str(path) for path in self._visible("*.csv") if path.name == "trials.csv" and not path.read_text().endswith("\n")
        ]
        return found

    def leftovers(self) -> list[Path]:
        """Temporary files."""
        return list(self.root.rglob(".*.tmp"))

    def _visible(self, pattern: str) -> list[Path]:
        return [path for path in sorted(self.root.glob(pattern)) if not path.name.startswith(".")]


def _signed(path: Path) -> None:
    """JSON, and the memo's checksum where there is one."""
    content = json.loads(path.read_text())
    if "sha256" in content and content.pop("sha256") != sha256_json(content):
        raise ValueError(path)


def _is(path: Path, check: Callable[[Path], None]) -> bool:
    try:
        check(path)
    except Exception:
        return False
    return True
