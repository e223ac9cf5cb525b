"""Optuna is told the truth, deterministically, and the study that is exported says the same."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from tests.tuning.simulated import SPACE, Clock, key_of, make_core, metrics_of
from tune_accent.config.space import Categorical, Constant, Integer, Space, Uniform
from tune_accent.tuning.core import Grant, Settings, State
from tune_accent.tuning.memo import DictMemo, Failure
from tune_accent.tuning.study import export_study
from tune_accent.tuning.suggest import OptunaSuggester, make_suggester

SETTINGS = Settings(run_cap=50, slots=4, epochs=9, min_iter=3, seed=7)
MIXED = Space(
    (
        Integer("training.batch_size", 4, 32),
        Uniform("lr", 1e-4, 1e-2, log=True),
        Uniform("leakage_weight", 0.0, 1.0, q=0.25),
        Categorical("training.deterministic", (True, False)),
        Constant("lora_rank", 8),
    )
)


def tpe(space: Space = SPACE, startup: int = 4) -> OptunaSuggester:
    return OptunaSuggester(space, SETTINGS, "tpe", startup)


@pytest.mark.parametrize(("sampler", "trials"), [("tpe", 40), ("gp", 12)])
def test_values_lie_in_the_space_and_are_plain(sampler: Any, trials: int) -> None:
    suggester = make_suggester(MIXED, SETTINGS, method="bayes", sampler=sampler, startup_trials=4)
    for number in range(trials):
        draw = suggester.ask(number, 0)
        assert draw is not None
        params = suggester.params(draw)
        assert {name: type(value) for name, value in params.items()} == {
            "training.batch_size": int,
            "lr": float,
            "leakage_weight": float,
            "training.deterministic": bool,
            "lora_rank": int,
        }
        assert 4 <= params["training.batch_size"] <= 32 and 1e-4 <= params["lr"] <= 1e-2 and params["lora_rank"] == 8
        assert params["leakage_weight"] in (0.0, 0.25, 0.5, 0.75, 1.0)
        suggester.tell(number, "COMPLETE", [params["lr"]])


def test_a_log_range_with_q_reaches_zero_and_the_sampler_keeps_its_own_value() -> None:
    suggester = OptunaSuggester(SPACE, SETTINGS, "random", 4)
    draws = [suggester.ask(number, 0) or {} for number in range(60)]
    weights = [suggester.params(draw)["leakage_weight"] for draw in draws]
    assert 0.0 in weights and all(math.isclose(weight, round(weight, 1)) for weight in weights)
    assert all(0.03 <= draw["leakage_weight"] <= 10 for draw in draws)


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp"])
def test_a_replay_from_recorded_draws_leaves_the_next_ask_unchanged(sampler: Any) -> None:
    live, replayed = (make_suggester(SPACE, SETTINGS, method="bayes", sampler=sampler, startup_trials=4) for _ in range(2))
    states: list[State] = ["COMPLETE", "STOPPED", "DIVERGED", "OOM", "CRASHED", "STOPPED"]
    for number in range(18):
        draw = live.ask(number, 0)
        if number % 5 == 0:
            draw = live.ask(number, 1)  # a duplicate was refused
        assert draw is not None
        replayed.accept(number, draw)
        if number >= 3:  # three are always running
            ended, state = number - 3, states[number % 6]
            values = [draw["lr"] * 10 + number % 7, number / 20]
            live.tell(ended, state, values)
            replayed.tell(ended, state, values)
    assert live.ask(18, 0) == replayed.ask(18, 0)


def test_attempts_and_seeds_draw_differently_and_repeatably() -> None:
    first, second = tpe(), tpe()
    assert first.ask(0, 0) == second.ask(0, 0)
    assert first.ask(0, 1) == second.ask(0, 1) != tpe().ask(0, 0)
    other = OptunaSuggester(SPACE, Settings(50, 4, 9, seed=8), "tpe", 4)
    assert other.ask(0, 0) != tpe().ask(0, 0)


def test_what_optuna_is_told() -> None:
    suggester = tpe()
    told: dict[State, TrialState] = {
        "COMPLETE": TrialState.COMPLETE,
        "STOPPED": TrialState.PRUNED,
        "DIVERGED": TrialState.PRUNED,
        "OOM": TrialState.PRUNED,
        "CRASHED": TrialState.FAIL,
        "TIMEOUT": TrialState.FAIL,
    }
    for number, state in enumerate(told):
        suggester.ask(number, 0)
        suggester.tell(number, state, [0.1, 0.2, 0.3])
    trials = suggester._study.trials
    assert [trial.state for trial in trials] == list(told.values())
    assert [trial.value for trial in trials[:4]] == [0.3, 0.3, None, None]
    assert trials[1].intermediate_values == {1: 0.1, 2: 0.2, 3: 0.3} and not trials[2].intermediate_values


def test_tpe_learns_where_random_does_not() -> None:
    def mean_score(method: str) -> float:
        core = make_core(DictMemo(), method=method, run_cap=60, min_iter=None, epochs=2)
        Clock(core, 4).run()
        return sum(core.value(trial.reports[-1]) for trial in core.trials[30:]) / 30

    assert mean_score("bayes") > mean_score("random") + 0.02


def test_the_exported_study_says_what_happened(tmp_path: Path) -> None:
    def outcome(grant: Grant) -> Any:
        if grant.trial == 2:
            return Failure("DIVERGED", 1, "nan")
        return metrics_of(grant.params, grant.key, grant.epoch)

    core = make_core(DictMemo())
    Clock(core, 3, outcome=outcome).run()
    export_study(core, SPACE, tmp_path / "optuna.db")
    export_study(core, SPACE, tmp_path / "optuna.db")
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'optuna.db'}")
    try:
        trials = optuna.load_study(study_name=None, storage=storage).trials
    finally:
        storage.engine.dispose()
    assert [trial.user_attrs["state"] for trial in trials] == [trial.state for trial in core.trials]
    assert TrialState.RUNNING not in {trial.state for trial in trials}
    for ours, theirs in zip(core.trials, trials, strict=True):
        assert theirs.params == ours.draw and theirs.user_attrs["key"] == ours.key == key_of(ours.params)
        if ours.reports:
            assert theirs.value == core.value(ours.reports[-1])
            assert theirs.user_attrs["speaker_leakage"] == ours.reports[-1]["speaker_leakage"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["optuna.db"]
