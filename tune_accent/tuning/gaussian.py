"""Suggestions of a Gaussian process (Optuna's `GPSampler`) that also learns from trials that were stopped early.

The process knows whole trials only, and with early stopping few are. So every trial, running ones too, counts with the value that it is expected to
have at full length: its last one plus, for each epoch that it lacks, the mean gain of the trials that went through that epoch. Trials that diverged or
ran out of memory count as the worst; those that have not reported yet, and those that the machine lost, as places that are taken. The first trials are
spread over the space. Each suggestion makes its model anew from what was told, seeded by (seed, trial, attempt): there is no state to save, and replays
leave it unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GPSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from tune_accent.base.log import only_errors_of
from tune_accent.config.space import Space
from tune_accent.tuning.core import Settings, State
from tune_accent.tuning.draws import WITHOUT_VALUES, distributions, params_of, seed_of, spread

LOST: tuple[State, ...] = ("CRASHED", "TIMEOUT")  # by the machine: their place is taken, their value unknown


class GaussianSuggester:
    """Draws by a Gaussian process over what trials are expected to reach at full length.

    Args:
        space: what is searched.
        settings: of the search; its seed is the sampler's.
        startup_trials: the first ones are spread over the space by a scrambled Sobol sequence, evenly where they are a power of two. Every later
            attempt at one that repeated an earlier trial is drawn at random.
    """

    def __init__(self, space: Space, settings: Settings, startup_trials: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space, self._settings, self._startup = space, settings, startup_trials
        self._distributions = distributions(space)
        self._draws: dict[int, dict[str, Any]] = {}
        self._told: dict[int, tuple[State, tuple[float, ...]]] = {}

    def ask(self, number: int, attempt: int) -> dict[str, Any] | None:
        """A draw for trial `number`; never exhausted. A later attempt takes the place of the one before."""
        self._draws.pop(number, None)
        if number < self._startup and not attempt:
            self._draws[number] = spread(self._distributions, seed_of(self._settings, 0, 0), number)
            return dict(self._draws[number])
        study = optuna.create_study(direction=self._settings.goal, sampler=self._sampler(number, attempt))
        with only_errors_of("optuna"), _one_thread():  # it warns where greenlet is not installed: a matter of milliseconds
            if isinstance(study.sampler, GPSampler):
                study.add_trials(list(self._trials()))
            self._draws[number] = dict(study.ask(self._distributions).params)
        return dict(self._draws[number])

    def accept(self, number: int, draw: Mapping[str, Any]) -> None:
        """Trial `number` has this draw already: nothing is computed."""
        self._draws[number] = dict(draw)

    def params(self, draw: Mapping[str, Any]) -> dict[str, Any]:
        """The trial's parameters, in the order of the space."""
        return params_of(self._space, draw)

    def tell(self, number: int, state: State, values: Sequence[float]) -> None:
        """What became of trial `number`; `values` are its metric after epochs 1…n."""
        self._told[number] = (state, () if state in WITHOUT_VALUES else tuple(values))

    def _sampler(self, number: int, attempt: int) -> BaseSampler:
        seed = seed_of(self._settings, number, attempt)
        if attempt:
            return RandomSampler(seed=seed)
        return GPSampler(seed=seed, n_startup_trials=1)

    def _trials(self) -> Iterator[FrozenTrial]:
        learnt = {number: told for number, told in sorted(self._told.items()) if told[0] not in (*LOST, "DUPLICATE")}
        values = full_length([values for _, values in learnt.values()], self._settings.goal)
        for number, value in zip(learnt if values else (), values, strict=True):
            yield create_trial(value=value, params=self._draws[number], distributions=self._distributions)
        for number, draw in sorted(self._draws.items()):
            if number not in self._told or self._told[number][0] in LOST:
                yield create_trial(state=TrialState.RUNNING, params=draw, distributions=self._distributions)


def full_length(curves: Sequence[Sequence[float]], goal: str = "maximize") -> list[float]:
    """What each trial is expected to reach at the length of the longest.

    Args:
        curves: the metric of each trial after epochs 1…n; empty for one that counts as the worst.
        goal: "maximize" or "minimize".

    Returns:
        One value per curve; none where no curve has a value.
    """
    known = [curve for curve in curves if curve]
    if not known:
        return []
    longest = max(map(len, known))
    gains = [[curve[epoch] - curve[epoch - 1] for curve in known if len(curve) > epoch] for epoch in range(1, longest)]
    missing = np.concatenate([np.cumsum([float(np.mean(gain)) for gain in gains][::-1])[::-1], [0.0]])
    reached = [curve[-1] + float(missing[len(curve) - 1]) for curve in known]
    worst = min(reached) if goal == "maximize" else max(reached)
    found = iter(reached)
    return [next(found) if curve else worst for curve in curves]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in one order, whatever this machine's number of cores."""
    import torch
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(threads)
