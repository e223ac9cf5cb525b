"""Optuna through ask and tell, so that what it is told is true.

A stopped trial is told PRUNED with its intermediate values, one that diverged or ran out of memory PRUNED without any (TPE ranks it last),
one that the machine lost FAIL (nothing is learnt). Every ask uses a fresh sampler seeded by (seed, trial, attempt): there is no sampler
state to save, and a replay that answers from recorded draws leaves the next ask unchanged.

A draw holds the sampler's own values. `params` rounds them to multiples of q where the space says so (as W&B does), and adds constants.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from tune_accent.base.errors import UserError
from tune_accent.config.parameters import Parameter
from tune_accent.config.space import Space
from tune_accent.tuning.core import Settings, State, Suggester
from tune_accent.tuning.draws import TOLD, WITHOUT_VALUES, distributions, params_of, seed_of
from tune_accent.tuning.gaussian import GaussianSuggester

Method = Literal["bayes", "random", "grid"]
SamplerName = Literal["tpe", "gp", "random"]


def make_suggester(
    space: Space, settings: Settings, *, method: Method, sampler: SamplerName = "tpe", startup_trials: int = 4
) -> Suggester:
    """The suggester of a search.

    Args:
        space: what is searched.
        settings: of the search; its seed is the sampler's.
        method: of the space file.
        sampler: what "bayes" means; of the experiment's `tuning.sampler`.
        startup_trials: first ones, drawn at random or (gp) spread over the space, before a model is made.

    Raises:
        UserError: a grid over a range without steps.
    """
    if method == "grid":
        return GridSuggester(space)
    if method == "random" or sampler == "random":
        return OptunaSuggester(space, settings, "random", startup_trials)
    if sampler == "gp":
        return GaussianSuggester(space, settings, startup_trials)
    return OptunaSuggester(space, settings, "tpe", startup_trials)


class OptunaSuggester:
    """Draws by Optuna's TPE or at random. Arguments as in `make_suggester`."""

    def __init__(self, space: Space, settings: Settings, sampler: Literal["tpe", "random"], startup_trials: int) -> None:
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
        return params_of(self._space, draw)

    def tell(self, number: int, state: State, values: Sequence[float]) -> None:
        """What became of trial `number`; of one that goes on TPE learns nothing: whatever it has reached, it ranks last."""
        if state == "RUNNING":
            return
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
        seed = seed_of(self._settings, number, attempt)
        if self._name == "tpe":
            return TPESampler(seed=seed, n_startup_trials=self._startup, multivariate=True, constant_liar=True)
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


def _axis(parameter: Parameter) -> tuple[Any, ...]:
    if parameter.grid is None:
        raise UserError(
            f"{parameter.name} is a range without steps, which no grid can cover",
            where="method: grid",
            fix="give `values`, or a distribution with q",
        )
    return parameter.grid
