"""The trackers of a search: what the config asks for, told of the core's trials."""

from __future__ import annotations

from pathlib import Path

from tune_accent.base.checksums import check_folder
from tune_accent.base.errors import DataError
from tune_accent.base.files import read_json
from tune_accent.config.schema import Experiment
from tune_accent.tracking.tensorboard import TensorBoard
from tune_accent.tracking.timing import timings
from tune_accent.tracking.tracker import Several, Tracker
from tune_accent.tracking.wandb import Tracked, track_search
from tune_accent.tuning.core import Core, Trial
from tune_accent.tuning.folder import read_spec
from tune_accent.tuning.search_report import figures_of


def search_tracker(experiment: Experiment, root: Path, core: Core) -> Tracker:
    """What follows `core`, which has replayed what the results folder `root` knows.

    Of a search that is done W&B is told what it does not have yet: the launch that ended it may have been killed.
    """
    trackers: list[Tracker] = []
    if experiment.tracking.tensorboard and not core.done:
        trackers.append(_tensorboard(root, core))
    if experiment.tracking.wandb.mode != "off":
        trackers.append(track_search(_tracked(experiment, root, core)))
    return Several(trackers)


def _tensorboard(root: Path, core: Core) -> TensorBoard:
    timing = timings(root)
    known = {
        trial.number: [{**report, **timing.get((trial.number, epoch), {})} for epoch, report in enumerate(trial.reports, 1)]
        for trial in core.trials
    }
    return TensorBoard(root / "tensorboard", known, lambda number: core.trials[number].params)


def _tracked(experiment: Experiment, root: Path, core: Core) -> Tracked:
    spec = read_spec(root)
    assert spec is not None, "open_folder has written it"
    about = {"space": spec.space, "data": spec.data, "protocol": spec.protocol}

    def best() -> tuple[Trial, Path] | None:
        found = core.best() if core.done else None
        return None if found is None or not _is_written(root, found) else (found, root / "best")

    return Tracked(experiment, root, spec.sha256(), about, lambda: core.trials, best, lambda: figures_of(root))


def _is_written(root: Path, best: Trial) -> bool:
    """Whether `best/` is there and whole, and is this trial's: a launch that fails at its end leaves the one before, or none."""
    try:
        check_folder(root / "best")
        told = read_json(root / "best.json")
        return (told["key"], told["epoch"]) == (best.key, len(best.reports))
    except (DataError, FileNotFoundError, KeyError, TypeError):
        return False
