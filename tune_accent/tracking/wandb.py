"""Weights & Biases: one run per trial, grouped by search, continued and never doubled when the search continues.

A run's id follows from the search's identity and the trial's key, so every launch finds it again. An offline run is written whole by the last launch
that trained its trial; an online one is resumed. A trial that repeats another (DUPLICATE) is that other's run.
"""

from __future__ import annotations

import logging
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tune_accent.base.errors import DataError, StorageError
from tune_accent.base.files import read_json, sha256_json
from tune_accent.config.schema import Experiment
from tune_accent.tracking.provenance import environment
from tune_accent.tracking.timing import SHOWN, timings
from tune_accent.tracking.tracker import TrackedTrial, logged
from tune_accent.tracking.wandb_link import Link
from tune_accent.tracking.wandb_process import LEDGER, Hello, read_ledger

log = logging.getLogger(__name__)
TRIAL_PATIENCE = 25.0  # seconds: an agent kills a trial 30 s after it has asked it to end
FAILED = ("DIVERGED", "OOM", "CRASHED", "TIMEOUT")  # states of trials whose run W&B shows as failed


@dataclass(frozen=True)
class Tracked:
    """The search that is tracked.

    Attributes:
        experiment: that the trials' parameters are put into.
        root: the results folder; offline runs are below `root/wandb`.
        identity: hash of everything the search is a function of.
        about: entries of every run's configuration: space, hashes of the data, protocol.
        trials: every trial so far, by number.
        best: the best trial of a finished search and the folder of its adapter, with card and base; None before they are written.
        figures: of the search: PNG files by name; asked for once it is finished.
    """

    experiment: Experiment
    root: Path
    identity: str
    about: Mapping[str, Any]
    trials: Callable[[], Sequence[TrackedTrial]]
    best: Callable[[], tuple[TrackedTrial, Path] | None]
    figures: Callable[[], Mapping[str, bytes]]


class Wandb:
    """Tells W&B every epoch of a search; what goes wrong there is logged once, and stays there.

    Args:
        search: what is tracked. Trials that ended in earlier launches and are not in the ledger yet are sent first.
        link: to the process of the client.
    """

    def __init__(self, search: Tracked, link: Link) -> None:
        self._search, self._link = search, link
        self._timing = timings(search.root)
        self._ledger = read_ledger(search.root / "wandb" / LEDGER)
        self._sent: dict[int, int] = {}  # trials whose run is open, and how many epochs it has
        self._done: set[int] = set()
        self._end_those_that_ended()

    def epoch(self, trial: int, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Send the figures of one finished epoch, after those of its trial that W&B does not have yet."""
        self._catch_up(self._search.trials()[trial], epoch - 1)
        self._link.send({"do": "epoch", "id": self._id(trial), "epoch": epoch, "row": logged(metrics)})
        self._sent[trial] = epoch
        self._timing[trial, epoch] = {name: metrics[name] for name in SHOWN if name in metrics}
        self._end_those_that_ended()

    def close(self) -> None:
        """End the runs, send the best adapter and the figures of a finished search, and let the client finish within its time."""
        self._end_those_that_ended()
        self._send_best()
        self._link.close()

    def _end_those_that_ended(self) -> None:
        for trial in self._search.trials():
            if trial.state != "RUNNING" and trial.number not in self._done:
                self._done.add(trial.number)
                if trial.state != "DUPLICATE" and not self._is_known(trial):
                    self._catch_up(trial, len(trial.reports))
                    self._end(trial)

    def _is_known(self, trial: TrackedTrial) -> bool:
        """Whether an earlier launch has sent the whole of this trial."""
        id = self._id(trial.number)
        entry = self._ledger.get(id, {})
        there = self._search.experiment.tracking.wandb.mode == "online" or any(
            self._search.root.glob(f"wandb/offline-run-*-{id}")
        )
        return there and (entry.get("epochs"), entry.get("state")) == (len(trial.reports), trial.state)

    def _catch_up(self, trial: TrackedTrial, epochs: int) -> None:
        """Let the trial's run be open and have its first `epochs` epochs."""
        id, sent = self._id(trial.number), self._sent.get(trial.number)
        rows = [self._row(trial, epoch) for epoch in range((sent or 0) + 1, epochs + 1)]
        if sent is None:
            about = {"trial": trial.number, "key": trial.key}
            name, params = f"trial {trial.number:04d}", dict(trial.params)
            self._link.send({"do": "run", "id": id, "name": name, "config": about, "params": params, "rows": rows})
        for epoch, row in enumerate([] if sent is None else rows, (sent or 0) + 1):
            self._link.send({"do": "epoch", "id": id, "epoch": epoch, "row": row})
        self._sent[trial.number] = max(epochs, sent or 0)

    def _end(self, trial: TrackedTrial) -> None:
        del self._sent[trial.number]
        self._link.send({"do": "end", "id": self._id(trial.number), "state": trial.state, "failed": trial.state in FAILED})

    def _send_best(self) -> None:
        best = self._search.best()
        if best is None:
            return
        trial, adapter = best
        table = [[one.key, one.state, len(one.reports)] for one in self._search.trials()]
        id, version = self._id(trial.number), sha256_json([trial.key, table])
        if self._ledger.get(id, {}).get("best") == version:
            return
        self._catch_up(trial, len(trial.reports))
        name = f"adapter-{self._search.identity[:12]}"
        figures = {tag: b64encode(png).decode() for tag, png in self._search.figures().items()}
        self._link.send({"do": "best", "id": id, "name": name, "folder": str(adapter), "figures": figures, "version": version})
        self._end(trial)

    def _row(self, trial: TrackedTrial, epoch: int) -> dict[str, Any]:
        return logged({**trial.reports[epoch - 1], **self._timing.get((trial.number, epoch), {})})

    def _id(self, number: int) -> str:
        return run_id(self._search.identity, self._search.trials()[number].key)


def run_id(identity: str, key: str) -> str:
    """A run's id in W&B: 16 hexadecimal digits of search and trial."""
    return sha256_json({"search": identity, "trial": key})[:16]


def track_search(search: Tracked) -> Wandb:
    """The tracker of a search whose `tracking.wandb.mode` is offline or online."""
    return Wandb(search, Link(vars(search_hello(search))))


def search_hello(search: Tracked) -> Hello:
    """What the runs of a search share; the environment is that of the results folder."""
    try:
        made = read_json(search.root / "environment.json")
    except (DataError, StorageError, FileNotFoundError):
        made = environment()
    hello = _hello(search.experiment, search.about, made)
    group = group_name(search.experiment, search.root.name, search.identity)
    return replace(hello, folder=str(search.root.resolve()), group=group)


def group_name(experiment: Experiment, name: str, identity: str) -> str:
    """The group of a search's runs: the config's, or the results folder's name and the search's hash."""
    return experiment.tracking.wandb.group or f"{name}-{identity[:8]}"


class WandbTrial:
    """Tells W&B every epoch of one configuration that is trained alone, as `python -m tune_accent.trial` does.

    Args:
        experiment: with its parameters in it.
        data: hashes of the data.
        key: of the trial, and the run's id, but under a sweep: that names its runs itself.
        folder: where an offline run goes, below `wandb/`; None: where the environment says, else the current folder.
        sweep: whether a sweep's agent started this process: the environment then says where the run belongs, and how it is kept.
    """

    def __init__(self, experiment: Experiment, data: Mapping[str, str], key: str, folder: Path | None, sweep: bool) -> None:
        hello = replace(_hello(experiment, {"data": dict(data)}, environment()), whole=False)
        hello = replace(hello, folder=None if folder is None else str(folder.resolve()))
        if sweep:
            hello = replace(hello, mode=None, project=None, entity=None, group=None, folder=None, sweep=True)
        self._key, self._link, self._ended = key, Link(vars(hello), TRIAL_PATIENCE), False
        run = {"do": "run", "id": key, "name": experiment.name, "config": {"key": key}, "params": {}, "rows": []}
        self._link.send(run)

    def epoch(self, trial: int, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Send the figures of one finished epoch."""
        self._link.send({"do": "epoch", "id": self._key, "epoch": epoch, "row": logged(metrics)})
        if metrics["ended"]:
            self._end("COMPLETE")

    def stopped(self) -> None:
        """The sweep has stopped the run early: no failure."""
        self._end("STOPPED")

    def close(self) -> None:
        """Let the client finish within its time; a run that neither ended nor was stopped is marked as failed."""
        self._link.close()

    def _end(self, state: str) -> None:
        if not self._ended:
            self._ended = True
            self._link.send({"do": "end", "id": self._key, "state": state, "failed": False})


def _hello(experiment: Experiment, about: Mapping[str, Any], made: Mapping[str, Any]) -> Hello:
    settings, git = experiment.tracking.wandb, made.get("git") or {}
    short = {**made, "git": {name: value for name, value in git.items() if name != "diff"}}
    config = {**about, "environment": short, "git_commit": git.get("commit")}
    mode = None if settings.mode == "off" else settings.mode
    shared = settings.project, settings.entity, settings.group, settings.tags
    return Hello(mode, None, *shared, experiment.model_dump_json(), config)
