"""From the two files of a search to the core's settings and its suggester."""

from __future__ import annotations

from tune_accent.config.schema import Experiment
from tune_accent.config.space import LoadedSpace
from tune_accent.tuning.core import Settings, Suggester
from tune_accent.tuning.suggest import make_suggester


def search_settings(experiment: Experiment, space: LoadedSpace, run_cap: int) -> Settings:
    """What the core needs to know of a search."""
    return Settings(
        run_cap=run_cap,
        slots=experiment.tuning.slots,
        epochs=experiment.training.epochs,
        min_iter=space.min_iter,
        eta=space.eta,
        order=experiment.tuning.order,
        seed=experiment.seed,
        metric=space.metric,
        goal=space.goal,
    )


def search_suggester(experiment: Experiment, space: LoadedSpace, settings: Settings) -> Suggester:
    """The sampler that the files ask for."""
    tuning = experiment.tuning
    return make_suggester(
        space.space, settings, method=space.method, sampler=tuning.sampler, startup_trials=tuning.startup_trials
    )
