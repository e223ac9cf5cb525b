"""The checkpoints of one run in a folder that a person can read, and from which the same command continues.

    run.json                         what is trained and the hashes of its data, with their SHA-256: another run is refused
    <experiment>_epoch<N>_loss<L>/   the full state after an epoch (checkpoint.py); L is the validation loss
    latest, best                     relative links: the last epoch; the one of the best score, of equal ones the earliest

A checkpoint is whole or absent, and names its own epoch and the best one so far: the newest that is whole decides where the run stands, and the
links follow from it. So a kill between any two steps on the disk leaves a folder that `open_kept` puts in order. `checkpoints.keep` newest epochs
stay, beside `best`. Does *not* cover two processes in one folder: hold `folder_lock`.
"""

from __future__ import annotations

import logging
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_accent.base.checksums import check_folder
from tune_accent.base.differences import differences
from tune_accent.base.errors import DataError, SearchChanged
from tune_accent.base.files import read_json, remove, remove_torn, sha256_json, write_json, write_link
from tune_accent.config.schema import Experiment
from tune_accent.training.preparation import PreparedRecord

if TYPE_CHECKING:
    from tune_accent.training.trainer import EpochReport

logger = logging.getLogger(__name__)
RUN, LATEST, BEST = "run.json", "latest", "best"
DECIDING = ("name", "seed", "data", "model", "objective", "training", "evaluation", "score")  # sections that make it this run
CHECKPOINT = re.compile(r"[^.].*_epoch(\d+)_loss[^_]*")
WAYS_OUT = "--out NEW trains into a new folder; or move this one away"


@dataclass(frozen=True)
class Kept:
    """An opened folder of checkpoints.

    Attributes:
        root: the folder.
        spec: what is trained.
    """

    root: Path
    spec: Experiment

    def latest(self) -> Path | None:
        """The checkpoint to continue from; None before the first epoch."""
        epochs = _epochs(self.root)
        return epochs[max(epochs)] if epochs else None

    def finished(self) -> bool:
        """Whether the run is at its end, by epochs or by patience."""
        latest, training = self.latest(), self.spec.training
        if latest is None:
            return False
        state = _state(latest)
        return state["epoch"] >= training.epochs or (training.patience is not None and state["stale_epochs"] >= training.patience)

    def save(self, report: EpochReport) -> Path:
        """Keep the epoch of `report`, and forget those that `checkpoints.keep` leaves out; where it lies now."""
        from tune_accent.training.checkpoint import save_checkpoint

        folder = self.root / f"{self.spec.name}_epoch{report.epoch}_loss{report.metrics['val_loss']:.4f}"
        save_checkpoint(folder, report.trial)
        self.settle()
        return folder

    def settle(self) -> None:
        """Let the links follow from the newest checkpoint, then remove what is not kept; harmless when repeated."""
        epochs = _epochs(self.root)
        if not epochs:
            remove(self.root / LATEST)
            remove(self.root / BEST)
            return
        last = max(epochs)
        best = last - _state(epochs[last])["stale_epochs"]
        _link(self.root / LATEST, epochs[last])
        _link(self.root / BEST, epochs.get(best))
        newest = sorted(epochs)[-(self.spec.checkpoints.keep or len(epochs)) :]
        for epoch in sorted(set(epochs) - {best, *newest}):
            remove(epochs[epoch])


def open_kept(root: Path, spec: Experiment, data: PreparedRecord) -> Kept:
    """Claim a folder for the checkpoints of `spec`, or put it in order to continue. The caller holds its lock.

    A newest checkpoint that is damaged is removed with a warning: the run continues from the one before.

    Raises:
        SearchChanged: it holds another run, or something else; the message lists what differs.
    """
    _claim(root, spec, data)
    remove_torn(root)
    kept = Kept(root, spec)
    while (latest := kept.latest()) is not None:
        try:
            check_folder(latest)
            break
        except DataError as error:
            logger.warning("%s; it is removed, and its epoch is trained again", error)
            remove(latest)
    kept.settle()
    return kept


def _claim(root: Path, spec: Experiment, data: PreparedRecord) -> None:
    run = spec.model_dump(mode="json", include=set(DECIDING))
    run["data"]["source"].pop("workers", None)
    what = {"experiment": run, "hashes": asdict(data)}
    now = {**what, "sha256": sha256_json(what)}
    if (root / RUN).is_file():
        before = read_json(root / RUN)
        if before != now:
            lines = differences(before, now) if isinstance(before, dict) else []
            message = "\n".join(["this folder holds the checkpoints of another run; it was → it is now:", *lines])
            raise SearchChanged(message, str(root), WAYS_OUT)
        return
    strangers = sorted(path.name for path in root.iterdir() if not path.name.startswith(".")) if root.is_dir() else []
    if strangers:
        message = f"this folder holds {strangers[0]}, but no {RUN}: nothing says whose checkpoints it would get"
        raise SearchChanged(message, str(root), WAYS_OUT)
    write_json(root / RUN, now)


def _epochs(root: Path) -> dict[int, Path]:
    """The checkpoints of `root` by epoch."""
    found = ((CHECKPOINT.fullmatch(path.name), path) for path in sorted(root.iterdir()) if not path.is_symlink())
    return {int(match[1]): path for match, path in found if match and path.is_dir()}


def _state(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = read_json(folder / "state.json")
    return state


def _link(link: Path, target: Path | None) -> None:
    if target is None:
        remove(link)
    elif not link.is_symlink() or str(link.readlink()) != target.name:
        write_link(link, target.name)
