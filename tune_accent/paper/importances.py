"""How much each searched parameter mattered, by PED-ANOVA (Watanabe et al. 2023) and fANOVA (Hutter et al. 2014), over full-length trials alone.

A stopped trial's value is of an earlier epoch: it would count the length of a trial as an effect of its settings.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tune_accent.base.seeds import derive_seed
from tune_accent.config.space import Space
from tune_accent.tuning.core import Trial

Goal = Literal["maximize", "minimize"]
FEWEST = 10  # full-length trials: below, PED-ANOVA would compare the best two with the rest, and fANOVA's trees hardly split
SETTLED = 50  # from here on PED-ANOVA has the five best trials that it wants


@dataclass(frozen=True)
class Importances:
    """Shares that sum to 1, by method and parameter.

    Attributes:
        trials: full-length trials behind them.
        shares: "fANOVA" and "PED-ANOVA" → parameter → share; empty where there are none.
        reason: why there are none.
    """

    trials: int
    shares: Mapping[str, Mapping[str, float]]
    reason: str | None = None


def importances(space: Space, trials: Sequence[Trial], seed: int, metric: str = "score", goal: Goal = "maximize") -> Importances:
    """Importances of the searched parameters for the metric of the last epoch.

    Args:
        space: of the search.
        trials: of the search; those that did not run their full length are left out.
        seed: of the experiment; fANOVA's forest is seeded from it.
        metric, goal: of the search.
    """
    full = [trial for trial in trials if trial.state == "COMPLETE"]
    values = {float(trial.reports[-1][metric]) for trial in full}
    if len(full) < FEWEST:
        return Importances(len(full), {}, f"{len(full)} full-length trials are too few: at least {FEWEST} are needed.")
    if len(values) < 2 or not space.searched:
        return Importances(len(full), {}, f"All full-length trials have the same {metric}: nothing can matter.")
    return Importances(len(full), _evaluated(space, full, seed, metric, goal))


def _evaluated(space: Space, full: Sequence[Trial], seed: int, metric: str, goal: Goal) -> dict[str, dict[str, float]]:
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances

    from tune_accent.tuning.draws import distributions

    kinds = distributions(space)
    made = [
        optuna.trial.create_trial(value=float(trial.reports[-1][metric]), params=dict(trial.draw), distributions=kinds)
        for trial in full
    ]
    forest = derive_seed(seed, "importances") % 2**32
    evaluators = {"fANOVA": FanovaImportanceEvaluator(seed=forest), "PED-ANOVA": PedAnovaImportanceEvaluator()}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(direction=goal)
        study.add_trials(made)
        return {
            name: {parameter.name: float(found[parameter.name]) for parameter in space.searched}
            for name, evaluator in evaluators.items()
            for found in [get_param_importances(study, evaluator=evaluator)]
        }
