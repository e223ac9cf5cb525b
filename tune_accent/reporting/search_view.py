"""A search as its pages and figures need it: plain records, whoever read them from where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tune_accent.config.schema import Experiment
from tune_accent.reporting.page import Page
from tune_accent.tracking.tracker import TrackedTrial

FAILED = ("DIVERGED", "OOM", "CRASHED", "TIMEOUT")


@dataclass(frozen=True)
class TrialView:
    """One trial; a `TrackedTrial`.

    Attributes:
        number: order of suggestion, from 0.
        key: equal for trials that train the same.
        params: by name, as text.
        state: RUNNING until it has ended.
        reports: the figures after epochs 1…n.
        note: why it failed, or which trial it repeats.
    """

    number: int
    key: str
    params: Mapping[str, str]
    state: str
    reports: tuple[Mapping[str, Any], ...]
    note: str = ""


@dataclass(frozen=True)
class SearchView:
    """A search and what lies beside it.

    Attributes:
        name: of the results folder.
        experiment: that the trials' parameters are put into.
        metric, goal: what was searched for.
        run_cap: trials that were asked for.
        trials: by number.
        best: content of `best.json`; None where no trial has run its full length.
        identity: hash of everything the search is a function of.
        comparison: the page of a comparison.
        paper: whether there is a paper run.
        offline_runs: whether there are runs for `wandb sync`.
    """

    name: str
    experiment: Experiment
    metric: str
    goal: str
    run_cap: int
    trials: tuple[TrialView, ...]
    best: Mapping[str, Any] | None
    identity: str
    comparison: Page | None = None
    paper: bool = False
    offline_runs: bool = False

    @property
    def finished(self) -> bool:
        """Whether every trial has ended and none is to come: a search that was stopped leaves trials in its slots."""
        return bool(self.trials) and all(trial.state != "RUNNING" for trial in self.trials)


def states(trials: Sequence[TrackedTrial]) -> str:
    """How many trials are in each state, in words."""
    counts = Counter(trial.state.lower() for trial in trials)
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
