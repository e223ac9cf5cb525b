"""A whole search of simulated trials with the driver's own tracking; Ray's place is taken by this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import small_experiment
from tests.tuning.small_search import PREPARED, request
from tests.tuning.test_driver import InProcess, Simulated
from tune_accent.base.files import write_json
from tune_accent.config.schema import Tracking
from tune_accent.tuning import driver
from tune_accent.tuning.driver import Outcome, Request, run_search

KEY = "5ec2e75ec2e75ec2e75ec2e75ec2e75ec2e7cafe"  # 40 characters, as W&B's keys had


def tracked_request(folder: Path, mode: str = "offline", **changes: Any) -> Request:
    """A search in `folder`, tracked by W&B."""
    folder.mkdir(parents=True, exist_ok=True)
    tracking = Tracking.model_validate({"wandb": {"mode": mode, "project": "small", "tags": ["a", "b"], **changes}})
    return request(folder, experiment=small_experiment(folder / "data").model_copy(update={"tracking": tracking}))


def launch(asked: Request, patch: pytest.MonkeyPatch, before: Callable[[int], None] = lambda done: None) -> Outcome:
    """One launch; `before` is called before each epoch with the number of those that were trained."""
    patch.setattr(driver, "ensure_prepared", lambda spec, show: PREPARED)
    patch.setattr(driver, "export_study", lambda core, space, path: write_json(path, len(core.trials)))
    patch.setattr(driver, "run_with_ray", InProcess(lambda spec: Simulated(spec["root"]), before))
    return run_search(asked)


def recorded(root: Path) -> list[dict[str, Any]]:
    """The lines of epochs.jsonl."""
    return [json.loads(line) for line in (root / "epochs.jsonl").read_text().splitlines()]
