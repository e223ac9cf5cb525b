"""Optuna through ask and tell, so that what it is told is true.

A stopped trial is told PRUNED with its intermediate values, one that diverged or ran out of memory PRUNED without any (TPE ranks it last),
one that the machine lost FAIL (nothing is learnt). Every ask uses a fresh sampler seeded by (seed, trial, attempt): there is no sampler
state to save, and a replay that answers from recorded draws leaves the next ask unchanged.

A draw holds the sampler's own values. `params` rounds them to multiples of q where the space says so (as W&B does), and adds constants.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from tune_accent.base.errors import UserError
from tune_accent.base.files import sha256_json, write_bytes
from tune_accent.config.parameters import Categorical, Constant, Integer, Parameter, Uniform
from tune_accent.config.space import Space
from tune_accent.tuning.core import Core, Settings, State, Suggester, Trial

Method = Literal["bayes", "random", "grid"]
SamplerName = Literal["tpe", "gp", "random"]
TOLD: dict[State, TrialState] = {
    "COMPLETE": TrialState.COMPLETE,
    "STOPPED": TrialState.PRUNED,
    "DIVERGED": TrialState.PRUNED,
    "OOM": TrialState.PRUNED,
    "CRASHED": TrialState.FAIL,
    "TIMEOUT": TrialState.FAIL,
    "DUPLICATE": TrialState.FAIL,
}
WITHOUT_VALUES = ("DIVERGED", "OOM", "DUPLICATE")
LIMITS = ("accent_f1", "speaker_leakage", "text_drop", "val_loss", "feasible")  # kept as user attributes of the study's trials


def make_suggester(
    space: Space, settings: Settings, *, method: Method, sampler: SamplerName = "tpe", startup_trials: int = 8
) -> Suggester:
    """The suggester of a search.

    Args:
        space: what is searched.
        settings: of the search; its seed is the sampler's.
        method: of the space file.
        sampler: what "bayes" means; of the experiment's `tuning.sampler`.
        startup_trials: random ones before a model is made.

    Raises:
        UserError: GP with early termination, or a grid over a range without steps.
    """
    if method == "grid":
        return GridSuggester(space)
    name: SamplerName = sampler if method == "bayes" else "random"
    if name == "gp" and settings.min_iter is not None:
        raise UserError(
            "the GP sampler learns nothing from trials that were stopped early",
            where="tuning.sampler",
            fix="use sampler: tpe, or take early_terminate out of the space file",
        )
    return OptunaSuggester(space, settings, name, startup_trials)


class OptunaSuggester:
    """Draws by an Optuna sampler. Arguments as in `make_suggester`."""

    def __init__(self, space: Space, settings: Settings, sampler: SamplerName, startup_trials: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space, self._settings, self._name, self._startup = space, settings, sampler, startup_trials
        self._distributions = distributions(space)
        self._study = optuna.create_study(direction=settings.goal, sampler=RandomSampler(seed=0))
        self._asked: dict[int, optuna.Trial] = {}

    def ask(self, number: int, attempt: int) -> dict[str, Any] | None:
        """A draw for trial `number`; never exhausted. A later attempt takes the place of the one before."""
        if number in self._asked:
            self._study.tell(self._asked[number], state=TrialState.FAIL)
        return self._ask(number, self._sampler(number, attempt))

    def accept(self, number: int, draw: Mapping[str, Any]) -> None:
        """Trial `number` has this draw already: nothing is computed."""
        self._ask(number, _Recorded(draw))

    def params(self, draw: Mapping[str, Any]) -> dict[str, Any]:
        """The trial's parameters, in the order of the space."""
        return {parameter.name: _value(parameter, draw) for parameter in self._space.parameters}

    def tell(self, number: int, state: State, values: Sequence[float]) -> None:
        """Trial `number` has ended; `values` are its metric after epochs 1…n."""
        trial = self._asked.pop(number)
        if state not in WITHOUT_VALUES:
            for epoch, value in enumerate(values, 1):
                trial.report(value, epoch)
        self._study.tell(trial, values[-1] if state == "COMPLETE" else None, state=TOLD[state])

    def _ask(self, number: int, sampler: BaseSampler) -> dict[str, Any]:
        self._study.sampler = sampler
        trial = self._asked[number] = self._study.ask(self._distributions)
        return dict(trial.params)

    def _sampler(self, number: int, attempt: int) -> BaseSampler:
        seed = int(np.random.SeedSequence((self._settings.seed, number, attempt)).generate_state(1)[0])
        if self._name == "tpe":
            return TPESampler(seed=seed, n_startup_trials=self._startup, multivariate=True, constant_liar=True)
        if self._name == "gp":
            return GPSampler(seed=seed, n_startup_trials=self._startup)
        return RandomSampler(seed=seed)


class GridSuggester:
    """Every point of the grid once, the last parameter fastest."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._axes = {parameter.name: _axis(parameter) for parameter in space.searched}
        self._next = 0

    def ask(self, number: int, attempt: int) -> dict[str, Any] | None:
        """The next point; None after the last."""
        if self._next >= math.prod(len(axis) for axis in self._axes.values()):
            return None
        self._next += 1
        return self._point(self._next - 1)

    def accept(self, number: int, draw: Mapping[str, Any]) -> None:
        """Trial `number` has this point already: go on behind it."""
        index = 0
        for name, axis in self._axes.items():
            index = index * len(axis) + axis.index(draw[name])
        self._next = max(self._next, index + 1)

    def params(self, draw: Mapping[str, Any]) -> dict[str, Any]:
        """The trial's parameters: grid values are rounded already."""
        return {**draw, **self._space.constants}

    def tell(self, number: int, state: State, values: Sequence[float]) -> None:
        """Nothing is learnt."""

    def _point(self, index: int) -> dict[str, Any]:
        draw: dict[str, Any] = {}
        for name, axis in reversed(self._axes.items()):
            index, place = divmod(index, len(axis))
            draw[name] = axis[place]
        return dict(reversed(draw.items()))


class _Recorded(BaseSampler):
    """The sampler of a replay: what was drawn before."""

    def __init__(self, draw: Mapping[str, Any]) -> None:
        self._draw = draw

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        return {}

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution) -> Any:
        return self._draw[param_name]


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Optuna's view of the searched parameters; multiples of q are drawn from the range itself and rounded afterwards."""
    return {parameter.name: _distribution(parameter) for parameter in space.searched}


def export_study(core: Core, space: Space, path: Path) -> None:
    """Write `core`'s trials as an Optuna study (SQLite), for optuna-dashboard: derived from the records, never read back.

    Costs about 9 ms a trial, so nothing is done where `path` holds these very trials already: their checksum is in its header (`user_version`).
    User attributes: state, key, and the last epoch's single limits.
    """
    kinds = distributions(space)
    trials = [_exported(core, trial, kinds) for trial in core.trials]
    stamp = _stamp(core, trials)
    if _stamped(path) == stamp:
        return
    storage = optuna.storages.RDBStorage("sqlite://")  # in memory: a full disk is then ours to explain
    try:
        study = optuna.create_study(storage=storage, study_name="tune_accent", direction=core.settings.goal)
        study.add_trials(trials)
        database = storage.engine.raw_connection().driver_connection
        assert isinstance(database, sqlite3.Connection)
        database.execute(f"PRAGMA user_version = {stamp}")
        write_bytes(path, database.serialize())
    finally:
        storage.scoped_session.remove()
        storage.engine.dispose()


def _stamp(core: Core, trials: Sequence[FrozenTrial]) -> int:
    """31 bits that change with anything that is exported."""
    told = [[t.state.name, t.values, t.params, t.intermediate_values, t.user_attrs] for t in trials]
    return int(sha256_json([core.settings.goal, told])[:8], 16) >> 1


def _stamped(path: Path) -> int | None:
    """The `user_version` of an SQLite file: bytes 60 to 63 of its header."""
    if not path.is_file():
        return None
    with path.open("rb") as stream:
        return int.from_bytes(stream.read(64)[60:], "big")


def _exported(core: Core, trial: Trial, kinds: dict[str, BaseDistribution]) -> FrozenTrial:
    told = TOLD.get(trial.state, TrialState.RUNNING)
    values = [] if trial.state in WITHOUT_VALUES else [core.value(metrics) for metrics in trial.reports]
    last = trial.reports[-1] if trial.reports else {}
    return optuna.trial.create_trial(
        state=told,
        value=values[-1] if values and told in (TrialState.COMPLETE, TrialState.PRUNED) else None,
        params=dict(trial.draw),
        distributions=kinds,
        intermediate_values=dict(enumerate(values, 1)),
        user_attrs={"state": trial.state, "key": trial.key, **{name: last[name] for name in LIMITS if name in last}},
    )


def _distribution(parameter: Parameter) -> BaseDistribution:
    if isinstance(parameter, Uniform):
        return FloatDistribution(parameter.low, parameter.high, log=parameter.log)
    if isinstance(parameter, Integer):
        return IntDistribution(parameter.low, parameter.high)
    assert isinstance(parameter, Categorical)
    return CategoricalDistribution(parameter.values)


def _value(parameter: Parameter, draw: Mapping[str, Any]) -> Any:
    if isinstance(parameter, Constant):
        return parameter.value
    value = draw[parameter.name]
    return parameter.snap(value) if isinstance(parameter, Uniform) else value


def _axis(parameter: Parameter) -> tuple[Any, ...]:
    if parameter.grid is None:
        raise UserError(
            f"{parameter.name} is a range without steps, which no grid can cover",
            where="method: grid",
            fix="give `values`, or a distribution with q",
        )
    return parameter.grid
