"""The common record of a search, whoever ran it: what was trained, in which order, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from tune_accent.base.files import sha256_json

Goal = Literal["maximize", "minimize"]
Engine = Literal["own", "random", "wandb-bayes", "wandb-random"]  # that can be run here
ENGINES: tuple[Engine, ...] = get_args(Engine)
FAILED = ("DIVERGED", "OOM", "CRASHED", "TIMEOUT")
PARTS = ("space", "metric", "data", "code")


@dataclass(frozen=True)
class Identity:
    """What must be equal for two searches to be comparable, as plain JSON values; None where it is not known.

    Attributes:
        space: the searched parameters, and what every trial has in common (model, objective, training).
        metric: name, goal, and how it is measured.
        data: hashes of manifest, splits, prepared cache and backbone.
        code: commit, uncommitted changes, versions that can change a figure.
    """

    space: Mapping[str, Any] | None = None
    metric: Mapping[str, Any] | None = None
    data: Mapping[str, Any] | None = None
    code: Mapping[str, Any] | None = None

    def part(self, name: str) -> Any:
        """One of `PARTS`, numbers in one spelling: W&B's server writes 1.0 as 1."""
        return plain(getattr(self, name))

    def hashes(self) -> dict[str, str | None]:
        """SHA-256 of every part that is known."""
        return {name: None if self.part(name) is None else sha256_json(self.part(name)) for name in PARTS}


@dataclass(frozen=True)
class TrialRecord:
    """One trial.

    Attributes:
        number: order of suggestion, from 0.
        params: searched parameters by name.
        state: as in `tune_accent.tuning.core.State`.
        epochs: the figures after epochs 1…n; none for a DUPLICATE that was not trained again.
    """

    number: int
    params: Mapping[str, Any]
    state: str
    epochs: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Execution:
    """One epoch that a worker trained, a repeated one too.

    Attributes:
        trial: number.
        epoch: from 1.
        seconds: of training and evaluation; None where unknown.
        ended: UNIX seconds; None where unknown.
        launch: of the search; the time between launches is no time of the search.
    """

    trial: int
    epoch: int
    seconds: float | None = None
    ended: float | None = None
    launch: int = 1


@dataclass(frozen=True)
class Campaign:
    """One search: an engine, once, with one seed.

    Attributes:
        name: where it came from.
        engine: label; campaigns of one engine are repeats of each other.
        seed: pairs it with campaigns of other engines; None where there is no such seed.
        identity: what it searched.
        metric, goal: what it searched for.
        length: epochs of a full trial.
        grace: epochs before early stopping judges; None: no early stopping.
        trials: by number.
        executed: in any order; epochs of `trials` that are missing here were trained at an unknown time.
        asking: seconds that each suggestion took; empty where not recorded.
        notes: what a reader must know of it.
    """

    name: str
    engine: str
    seed: str | None
    identity: Identity
    metric: str
    goal: Goal
    length: int
    grace: int | None
    trials: tuple[TrialRecord, ...]
    executed: tuple[Execution, ...] = ()
    asking: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def sign(self) -> int:
        """1 where more of the metric is better, else -1."""
        return 1 if self.goal == "maximize" else -1

    def final(self, trial: TrialRecord) -> float | None:
        """The metric after the last epoch, times `sign`; None unless the trial is COMPLETE and feasible: others are no result."""
        if trial.state != "COMPLETE" or not trial.epochs or not trial.epochs[-1].get("feasible", True):
            return None
        return self.sign * float(trial.epochs[-1][self.metric])


def plain(value: Any) -> Any:
    """JSON values with lists for tuples and whole numbers for floats without a fraction."""
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
