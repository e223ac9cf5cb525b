"""What a paper run trains: candidates of the search, baselines and ablations of the winner. Pure functions of the search's records.

Every arm is a full set of parameters for `resolve`; what is not changed is the winner's (LoRA, learning rate, budget). Seeds are put in later.
An arm that would train what another one trains is left out, and a note says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tune_accent.base.errors import UserError
from tune_accent.config.keys import full_key
from tune_accent.config.load import experiment_hash, resolve
from tune_accent.config.schema import Baseline, Experiment
from tune_accent.config.space import LoadedSpace
from tune_accent.paper.results import Arm, Kind
from tune_accent.tuning.core import Trial

REPEAT = "training.repeat"
SIMPLE: Mapping[Baseline, tuple[str, Any, str]] = {
    "no_lora": ("model.lora.enabled", False, "the same heads on the frozen backbone"),
    "no_leakage": ("objective.leakage_weight", 0.0, "nothing is done against speaker leakage"),
    "shuffled_accents": ("training.shuffled_accents", True, "accents dealt out to the training speakers at random"),
}


@dataclass(frozen=True)
class Plan:
    """Arms, and in words what was left out or stands in for something else."""

    arms: tuple[Arm, ...]
    notes: tuple[str, ...] = ()


def ranked(trials: Iterable[Trial], space: LoadedSpace) -> tuple[Trial, ...]:
    """The full-length trials by the rule of the search, best first: feasible ones before others, then the metric of the last epoch, then the number."""
    sign = -1.0 if space.goal == "maximize" else 1.0
    full = [trial for trial in trials if trial.state == "COMPLETE"]
    return tuple(
        sorted(full, key=lambda trial: (not feasible(trial), sign * float(trial.reports[-1][space.metric]), trial.number))
    )


def feasible(trial: Trial) -> bool:
    """Whether the last epoch of a trial kept every limit of the score."""
    return bool(trial.reports[-1].get("feasible", True))


def candidates(trials: Iterable[Trial], space: LoadedSpace, count: int) -> Plan:
    """The best `count` feasible trials of a search, or as many as there are; the best infeasible ones where there is none.

    Raises:
        UserError: no trial has run its full length.
    """
    ranking = ranked(trials, space)
    if not ranking:
        raise UserError("no trial of this search has run its full length", fix="continue the search, or raise --trials")
    kept = [trial for trial in ranking if feasible(trial)]
    arms = tuple(_candidate(trial, ranking.index(trial) + 1, space) for trial in (kept or ranking)[:count])
    if not kept:
        return Plan(arms, ("no full-length trial kept every limit of the score: the candidates are the best of the others",))
    if len(kept) < count:
        return Plan(arms, (f"{len(kept)} feasible full-length trials instead of {count} candidates: the search has no more",))
    return Plan(arms)


def baselines(experiment: Experiment, space: LoadedSpace, trials: Iterable[Trial], winner: Arm) -> Plan:
    """The arms of `paper.baselines`.

    Args:
        experiment: of the search.
        space: of the search.
        trials: of the search.
        winner: the arm that was selected.
    """
    arms, notes = list[Arm](), list[str]()
    for name in dict.fromkeys(experiment.paper.baselines):
        if name == "random_arm":
            found = random_arm(experiment, space, trials)
            arms += found.arms
            notes += found.notes
        else:
            key, value, words = SIMPLE[name]
            arms.append(_changed(winner, name, "baseline", {key: value}, words))
    distinct = _distinct(experiment, (winner,), arms)
    return Plan(distinct.arms, (*notes, *distinct.notes))


def random_arm(experiment: Experiment, space: LoadedSpace, trials: Iterable[Trial]) -> Plan:
    """The best of the trials that the sampler drew before it had learnt anything, where it learns at all.

    The first `tuning.startup_trials` trials are that, whatever became of them: random ones, and with the Gaussian process spread over the space, which
    is random search of lower variance. (TPE draws at random until that many have ended, so some of its next ones may be, too; they are not counted.)
    """
    tuning = experiment.tuning
    if space.method != "bayes" or tuning.sampler == "random":
        drawn = "a grid" if space.method == "grid" else "random search"
        return Plan((), (f"random_arm is left out: the whole search is {drawn}",))
    first = [trial for trial in trials if trial.number < tuning.startup_trials]
    ranking = ranked(first, space)
    if not ranking:
        return Plan((), (f"random_arm is left out: none of the first {tuning.startup_trials} trials ran its full length",))
    best = ranking[0]
    words = f"best of the {len(first)} trials that were drawn without a model: trial {best.number} of the search"
    return Plan((Arm("random_arm", "baseline", dict(best.params), words, best.number),))


def ablations(experiment: Experiment, winner: Arm, others: Sequence[Arm] = ()) -> Plan:
    """The arms of `paper.ablations`; `wrong_accent` is none: it is measured on the winner.

    Args:
        experiment: of the search.
        winner: the arm that was selected.
        others: arms that are trained already, with which an ablation may coincide.
    """
    own = resolve(experiment, winner.params).objective
    made: Mapping[str, Callable[[], list[Arm]]] = {
        "unconditional": lambda: [
            _ablation(winner, "unconditional", "conditional", False, "leakage is fought across accents, not within each of them")
        ],
        "alignment_only": lambda: [_ablation(winner, "alignment_only", "adversary", 0.0, "mean alignment without the adversary")],
        "trunk_gradient": lambda: _series(
            winner, "trunk_gradient", own.trunk_gradient, experiment.paper.trunk_gradients, "gradient of z that enters the trunk"
        ),
        "z_dim": lambda: _series(winner, "z_dim", own.z_dim, experiment.paper.z_dims, "dimensions of z"),
        "wrong_accent": lambda: [],
    }
    arms = [arm for name in dict.fromkeys(experiment.paper.ablations) for arm in made[name]()]
    return _distinct(experiment, (winner, *others), arms)


def with_values(params: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`params` with `values` in place of what they name, by whichever of its names (`lr` is `training.lr`)."""
    changed = {full_key(name) for name in values}
    return {**{name: value for name, value in params.items() if full_key(name) not in changed}, **values}


def _candidate(trial: Trial, rank: int, space: LoadedSpace) -> Arm:
    score = float(trial.reports[-1][space.metric])
    note = f"rank {rank} in the search, {space.metric} {score:.3f} there" + ("" if feasible(trial) else ", infeasible")
    return Arm(f"candidate {trial.number}", "candidate", dict(trial.params), note, trial.number)


def _changed(winner: Arm, name: str, kind: Kind, values: Mapping[str, Any], note: str) -> Arm:
    return Arm(name, kind, with_values(winner.params, values), note)


def _ablation(winner: Arm, name: str, key: str, value: Any, note: str) -> Arm:
    return _changed(winner, name, "ablation", {f"objective.{key}": value}, note)


def _series(winner: Arm, key: str, own: float, values: Iterable[float], words: str) -> list[Arm]:
    """An arm for each of `values` but the winner's own."""
    return [
        _ablation(winner, f"{key}={_short(value)}", key, value, f"{words}: {_short(value)} instead of {_short(own)}")
        for value in dict.fromkeys(values)
        if value != own
    ]


def _short(value: float) -> str:
    """Exact, so that different values have different names: 0.1, 1, 128."""
    return repr(value).removesuffix(".0")


def _distinct(experiment: Experiment, known: Sequence[Arm], arms: Iterable[Arm]) -> Plan:
    """Those of `arms` that would train something else than `known` and than those before them."""
    names = {_identity(experiment, arm): arm.name for arm in reversed(known)}
    kept, notes = list[Arm](), list[str]()
    for arm in arms:
        same = names.setdefault(_identity(experiment, arm), arm.name)
        if same == arm.name:
            kept.append(arm)
        else:
            notes.append(f"{arm.name} is left out: it is the same configuration as {same}")
    return Plan(tuple(kept), tuple(notes))


def _identity(experiment: Experiment, arm: Arm) -> str:
    """What an arm trains, whatever its seed: at a leakage weight of 0 the parts of the leakage term change nothing that is measured."""
    spec = resolve(experiment, with_values(arm.params, {REPEAT: 0}), arm.name)
    if spec.objective.leakage_weight == 0:
        spec = resolve(spec, {"objective.conditional": True, "objective.adversary": 0.0, "objective.alignment": 0.0})
    return experiment_hash(spec)
