"""Draws of a sampler: Optuna's view of a space, the seed of each, and the parameters that a draw stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from tune_accent.config.parameters import Categorical, Constant, Integer, Parameter, Uniform
from tune_accent.config.space import Space
from tune_accent.tuning.core import Settings, State

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


def seed_of(settings: Settings, number: int, attempt: int) -> int:
    """The seed of one suggestion."""
    return int(np.random.SeedSequence((settings.seed, number, attempt)).generate_state(1)[0])


def params_of(space: Space, draw: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a trial with this draw, in the order of the space."""
    return {parameter.name: _value(parameter, draw) for parameter in space.parameters}


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Optuna's view of the searched parameters; multiples of q are drawn from the range itself and rounded afterwards."""
    return {parameter.name: _distribution(parameter) for parameter in space.searched}


def spread(space: Mapping[str, BaseDistribution], seed: int, number: int) -> dict[str, Any]:
    """Point `number` of a scrambled Sobol sequence (Owen 1998) over a space: any 2^m first points have equally many in each half of every range."""
    from scipy.stats.qmc import Sobol

    if not space:
        return {}
    point = Sobol(len(space), scramble=True, rng=seed).random_base2(number.bit_length())[number]
    return {name: _at(distribution, float(share)) for (name, distribution), share in zip(space.items(), point, strict=True)}


def _at(distribution: BaseDistribution, share: float) -> Any:
    """The value that has this share, in [0, 1), of its distribution below it."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(share * len(distribution.choices))]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if isinstance(distribution, IntDistribution):
        return distribution.low + int(share * (distribution.high - distribution.low + 1))
    if not distribution.log:
        return distribution.low + share * (distribution.high - distribution.low)
    value = distribution.low * (distribution.high / distribution.low) ** share
    return min(max(value, distribution.low), distribution.high)


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
