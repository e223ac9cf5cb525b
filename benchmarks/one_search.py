"""One search in a process of its own, as `benchmarks.search_cost` starts it.

python -m benchmarks.one_search '<Arm as JSON>' RESULTS_FOLDER

Leaves in the folder what a search leaves, and `trials.json`: state and epochs of every trial.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from ray import tune

from benchmarks.arms import Arm
from benchmarks.orders import WholeBatches, simulated_core
from tests.tuning.simulated import make_simulated
from tune_accent.base.entry import guarded
from tune_accent.base.files import write_json
from tune_accent.config.check import load_search
from tune_accent.tuning import driver, ray_adapter
from tune_accent.tuning.core import Core, Settings
from tune_accent.tuning.memo import FolderMemo
from tune_accent.tuning.relay import EpochDone, Event
from tune_accent.tuning.results import append_timing


def run(arm: Arm, root: Path) -> Core:
    """Run it with its results in `root`; its core."""
    with _changes(arm):
        return _simulated(arm, root) if arm.kind == "simulated" else _demo(arm, root)


@contextmanager
def _changes(arm: Arm) -> Iterator[None]:
    """What the search itself does not offer: new workers for each trial, and whole batches."""
    config = tune.TuneConfig

    def with_new_actors(**options: Any) -> Any:
        return config(**{**options, "reuse_actors": False})

    with ExitStack() as stack:
        if not arm.reuse:
            stack.enter_context(mock.patch.object(tune, "TuneConfig", with_new_actors))
        if arm.order == "batches":
            stack.enter_context(mock.patch.object(driver, "Core", WholeBatches))
        yield


def _simulated(arm: Arm, root: Path) -> Core:
    settings = Settings(arm.trials, arm.slots, arm.epochs, arm.min_iter)
    core = simulated_core(arm.order, settings, FolderMemo(root))

    def on_event(event: Event) -> None:
        if isinstance(event, EpochDone):
            append_timing(root, {"launch": 1, **vars(event)})

    ray_adapter.run_with_ray(
        core,
        make_simulated,
        {"root": str(root), "seconds": arm.seconds},
        workers=arm.workers,
        resources={"cpu": 1.0, "gpu": 0.0},
        scratch=root / "scratch",
        on_event=on_event,
    )
    return core


def _demo(arm: Arm, root: Path) -> Core:
    order = "async" if arm.order == "async" else "rounds"
    changes = {
        "training.epochs": arm.epochs,
        "tuning.slots": arm.slots,
        "tuning.workers": arm.workers,
        "tuning.order": order,
    }
    space, loaded = load_search(arm.space, arm.config, changes)
    outcome = driver.run_search(driver.Request(loaded.experiment, space, arm.trials, root))
    if outcome.stopped:
        raise KeyboardInterrupt
    return outcome.core


def main() -> None:
    """Run the arm that the command line describes."""
    root = Path(sys.argv[2])
    with guarded():
        core = run(Arm(**json.loads(sys.argv[1])), root)
    write_json(root / "trials.json", [[trial.state, len(trial.reports)] for trial in core.trials])


if __name__ == "__main__":
    main()
