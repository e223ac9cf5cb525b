"""Which arms a paper run trains."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tests.paper.hand_made import PARAMS, TPE, asked, trial
from tests.tuning.simulated import Clock, make_core, metrics_of
from tests.tuning.small_search import SPACE, finished
from tune_accent.base.errors import UserError
from tune_accent.config.load import resolve
from tune_accent.config.schema import Tuning
from tune_accent.paper.plan import Plan, ablations, baselines, candidates, random_arm, ranked, with_values
from tune_accent.paper.results import WINNER, Arm
from tune_accent.tuning.core import Grant
from tune_accent.tuning.memo import DictMemo

WON = Arm(WINNER, "candidate", PARAMS, "trial 3", 3)


def names(plan: Plan) -> list[str]:
    return [arm.name for arm in plan.arms]


def test_the_ranking_begins_with_the_best_of_the_search(tmp_path: Path) -> None:
    for goal in ("name: score, goal: maximize", "name: val_loss, goal: minimize"):
        request = asked(tmp_path, SPACE.replace("name: score, goal: maximize", goal))
        core = finished(request)
        ranking = ranked(core.trials, request.space)
        assert ranking[0] is core.best() and {t.state for t in ranking} == {"COMPLETE"}


def test_feasible_first_then_the_last_epoch_then_the_number(tmp_path: Path) -> None:
    space = asked(tmp_path).space
    trials = [trial(0, 0.9, feasible=False), trial(1, 0.5), trial(2, 0.6), trial(3, 0.5), trial(4, 0.99, state="STOPPED")]
    trials.append(trial(5, 0.99, state="DUPLICATE"))
    for seed in range(10):
        shuffled = random.Random(seed).sample(trials, len(trials))
        assert [t.number for t in ranked(shuffled, space)] == [2, 1, 3, 0]


def test_candidates_are_the_best_feasible_trials_as_they_were(tmp_path: Path) -> None:
    space = asked(tmp_path).space
    trials = [trial(0, 0.9, feasible=False), trial(1, 0.5), trial(2, 0.6), trial(3, 0.4)]
    two = candidates(trials, space, 2)
    assert names(two) == ["candidate 2", "candidate 1"] and two.notes == () and [arm.trial for arm in two.arms] == [2, 1]
    assert two.arms[0].params == trials[2].params and two.arms[0].kind == "candidate" and "rank 1" in two.arms[0].note
    four = candidates(trials, space, 4)
    assert names(four) == ["candidate 2", "candidate 1", "candidate 3"] and "3 feasible" in four.notes[0]


def test_without_a_feasible_trial_the_best_others_stand_in_and_a_note_says_so(tmp_path: Path) -> None:
    space = asked(tmp_path).space
    plan = candidates([trial(0, 0.3, feasible=False), trial(1, 0.5, feasible=False)], space, 1)
    assert names(plan) == ["candidate 1"] and "no full-length trial kept every limit" in plan.notes[0]
    assert "infeasible" in plan.arms[0].note
    with pytest.raises(UserError, match="full length"):
        candidates([trial(0, 0.3, state="STOPPED")], space, 1)


@pytest.mark.parametrize("short", [True, False], ids=["short names", "dotted keys"])
def test_baselines_change_one_thing_each_whatever_the_search_calls_it(tmp_path: Path, short: bool) -> None:
    request = asked(tmp_path, values={"tuning.startup_trials": 2})
    params = PARAMS if short else {**PARAMS, "objective.leakage_weight": PARAMS["leakage_weight"]}
    if not short:
        del params["leakage_weight"]
    trials = [trial(0, 0.2), trial(1, 0.3), trial(2, 0.8), trial(3, 0.9)]
    plan = baselines(request.experiment, request.space, trials, Arm(WINNER, "candidate", params, "", 3))
    assert names(plan) == ["no_lora", "no_leakage", "shuffled_accents", "random_arm"] and plan.notes == ()
    own = resolve(request.experiment, params)
    changed = {arm.name: differing(own, resolve(request.experiment, arm.params)) for arm in plan.arms[:3]}
    assert changed == {
        "no_lora": {"model.lora.enabled": False},
        "no_leakage": {"objective.leakage_weight": 0.0},
        "shuffled_accents": {"training.shuffled_accents": True},
    }
    assert plan.arms[3].params == trials[1].params and plan.arms[3].trial == 1 and "2 trials" in plan.arms[3].note


def differing(one: Any, other: Any, prefix: str = "") -> dict[str, Any]:
    """Keys of `other` that are not as in `one`."""
    found: dict[str, Any] = {}
    for name, value in other:
        before = getattr(one, name)
        if hasattr(value, "model_dump") and type(value) is type(before):
            found |= differing(before, value, f"{prefix}{name}.")
        elif value != before:
            found[prefix + name] = value
    return found


def test_a_baseline_that_is_the_winner_is_left_out(tmp_path: Path) -> None:
    request = asked(tmp_path, values={"tuning.startup_trials": 4})
    trials = [trial(0, 0.2), trial(1, 0.9, leakage_weight=0.0)]
    plan = baselines(request.experiment, request.space, trials, Arm(WINNER, "candidate", trials[1].params, "", 1))
    assert names(plan) == ["no_lora", "shuffled_accents"]
    assert plan.notes == tuple(
        f"{name} is left out: it is the same configuration as winner" for name in ("no_leakage", "random_arm")
    )


def test_only_the_baselines_of_the_config(tmp_path: Path) -> None:
    request = asked(tmp_path, values={"paper.baselines": ["no_leakage"], "paper.ablations": []})
    assert names(baselines(request.experiment, request.space, [trial(0, 0.2)], WON)) == ["no_leakage"]
    assert ablations(request.experiment, WON) == Plan(())


@pytest.mark.parametrize(
    ("method", "sampler", "word"),
    [("random", "tpe", "random search"), ("grid", "tpe", "a grid"), ("bayes", "random", "random search")],
)
def test_a_search_that_does_not_learn_has_no_random_arm_apart(tmp_path: Path, method: str, sampler: str, word: str) -> None:
    text = TPE.replace("method: bayes", f"method: {method}")
    if method == "grid":
        text = text.replace("{distribution: log_uniform_values, min: 0.001, max: 0.02}", "{values: [0.001, 0.002]}")
    request = asked(tmp_path, text, {"tuning.sampler": sampler})
    plan = random_arm(request.experiment, request.space, [trial(0, 0.5)])
    assert plan.arms == () and f"the whole search is {word}" in plan.notes[0]


def test_the_first_trials_of_tpe_are_drawn_at_random() -> None:
    """Whatever became of the trials before them, they are the same; later ones are not."""

    def draws(sign: float) -> list[Any]:
        def outcome(grant: Grant) -> dict[str, Any]:
            metrics = metrics_of(grant.params, grant.key, grant.epoch)
            return {**metrics, "score": sign * metrics["score"]}

        core = make_core(DictMemo(), run_cap=24)
        assert Clock(core, 2, outcome=outcome).run()
        return [dict(trial.draw) for trial in core.trials]

    good, bad, startup = draws(1.0), draws(-1.0), Tuning().startup_trials
    assert good[:startup] == bad[:startup] and good != bad


def test_random_trials_of_which_none_ran_its_full_length(tmp_path: Path) -> None:
    request = asked(tmp_path, values={"tuning.startup_trials": 1})
    plan = random_arm(request.experiment, request.space, [trial(0, 0.5, state="STOPPED"), trial(1, 0.5)])
    assert plan.arms == () and "none of the first 1 trials" in plan.notes[0]


def test_ablations_change_one_thing_each(tmp_path: Path) -> None:
    request = asked(tmp_path, values={"objective.trunk_gradient": 0.1, "objective.z_dim": 32})
    plan = ablations(request.experiment, WON)
    own = resolve(request.experiment, PARAMS)
    assert {arm.name: differing(own, resolve(request.experiment, arm.params)) for arm in plan.arms} == {
        "unconditional": {"objective.conditional": False},
        "alignment_only": {"objective.adversary": 0.0},
        "trunk_gradient=0": {"objective.trunk_gradient": 0.0},
        "trunk_gradient=1": {"objective.trunk_gradient": 1.0},
        "z_dim=8": {"objective.z_dim": 8},
        "z_dim=128": {"objective.z_dim": 128},
    }
    assert plan.notes == () and {arm.kind for arm in plan.arms} == {"ablation"}


def test_an_ablation_that_is_another_arm_is_left_out(tmp_path: Path) -> None:
    request = asked(
        tmp_path, values={"paper.ablations": ["alignment_only", "z_dim"], "paper.z_dims": [8, 8, 16], "objective.adversary": 0.0}
    )
    known = Arm("mine", "baseline", {**PARAMS, "objective.z_dim": 16}, "")
    plan = ablations(request.experiment, WON, [known])
    assert names(plan) == ["z_dim=8"]
    assert [note.split()[-1] for note in plan.notes] == ["winner", "mine"]


def test_parts_of_a_leakage_term_that_weighs_nothing_are_no_ablations(tmp_path: Path) -> None:
    request = asked(tmp_path)
    alone = Arm(WINNER, "candidate", {**PARAMS, "leakage_weight": 0}, "trial 3", 3)
    plan = ablations(request.experiment, alone)
    assert not {"unconditional", "alignment_only"} & set(names(plan))
    assert {note.split()[0] for note in plan.notes} == {"unconditional", "alignment_only"}


def test_values_replace_what_has_another_name() -> None:
    assert with_values({"lr": 1.0, "a": 2}, {"training.lr": 3.0}) == {"a": 2, "training.lr": 3.0}
    assert with_values({"training.lr": 1.0}, {"lr": 3.0}) == {"lr": 3.0}
