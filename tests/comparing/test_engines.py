"""Other engines in the search's place: W&B's own `sweeps`, plain random search, and the same engine with other seeds."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import sweeps_engine as isolated
from tests.comparing.campaigns import ENVIRONMENT, results
from tests.tuning.simulated import SPACE, Clock, key_of, metrics_of
from tests.tuning.small_search import PREPARED
from tests.tuning.test_driver import InProcess, Simulated
from tune_accent.base.errors import MissingDependency
from tune_accent.comparing import engines, run
from tune_accent.comparing.engines import run_engine
from tune_accent.comparing.folder import read_folder
from tune_accent.comparing.record import Engine
from tune_accent.comparing.run import Request, run_comparison
from tune_accent.comparing.sweeps_engine import Hyperband, SweepsCore, SweepsSuggester, load_sweeps, sweep_config
from tune_accent.config.parameters import Categorical, Constant, Integer, Uniform
from tune_accent.config.space import Space
from tune_accent.tuning import driver, folder
from tune_accent.tuning.core import Settings
from tune_accent.tuning.memo import DictMemo


@pytest.fixture(scope="module")
def sweeps() -> Any:
    return load_sweeps(isolated.target())


def wandb_core(sweeps: Any, seed: int = 7, method: Any = "bayes", **changes: Any) -> SweepsCore:
    chosen = Settings(**{"run_cap": 10, "slots": 4, "epochs": 9, "min_iter": 3, "seed": seed, **changes})
    return SweepsCore(chosen, SweepsSuggester(sweeps, SPACE, chosen, method), key_of, DictMemo(), sweeps)


def trials_of(core: SweepsCore, workers: int = 3) -> list[Any]:
    assert Clock(core, workers, outcome=lambda grant: metrics_of(grant.params, grant.key, grant.epoch)).run()
    return [(trial.state, dict(trial.params), len(trial.reports)) for trial in core.trials]


def test_the_sweep_file_that_wandb_gets() -> None:
    space = Space(
        (
            Categorical("r", (2, 4)),
            Uniform("lr", 0.1, 1.0, log=True),
            Uniform("q", 0.0, 1.0, q=0.1),
            Integer("n", 1, 3),
            Constant("c", 5),
        )
    )
    config = sweep_config(space, Settings(5, 2, 9, 3), "bayes")
    assert config["parameters"] == {
        "r": {"values": [2, 4]},
        "lr": {"distribution": "log_uniform_values", "min": 0.1, "max": 1.0},
        "q": {"distribution": "q_uniform", "min": 0.0, "max": 1.0, "q": 0.1},
        "n": {"distribution": "int_uniform", "min": 1, "max": 3},
        "c": {"value": 5},
    }
    assert config["early_terminate"] == {"type": "hyperband", "min_iter": 3, "eta": 3.0}
    assert "early_terminate" not in sweep_config(space, Settings(5, 2, 9), "random")


@pytest.mark.parametrize("method", ["bayes", "random"])
def test_wandbs_engine_searches_and_its_seed_decides(sweeps: Any, method: str) -> None:
    before = (random.getstate(), np.random.get_state(legacy=False)["state"]["key"].tolist())
    found = trials_of(wandb_core(sweeps, method=method))
    assert len(found) == 10 and {state for state, *_ in found} == {"COMPLETE", "STOPPED"}
    assert all(epochs >= 3 for *_, epochs in found)
    assert trials_of(wandb_core(sweeps, method=method), workers=1) == found, "rounds, so the number of workers changes nothing"
    assert trials_of(wandb_core(sweeps, seed=8, method=method)) != found
    assert (random.getstate(), np.random.get_state(legacy=False)["state"]["key"].tolist()) == before
    json.dumps(found)  # no numpy types


def test_a_search_is_replayed_from_its_draws(sweeps: Any) -> None:
    core = wandb_core(sweeps)
    found = trials_of(core)
    again = wandb_core(sweeps)
    again.memo = core.memo
    again.advance()
    assert again.done and [(t.state, dict(t.params), len(t.reports)) for t in again.trials] == found


def test_a_repeated_suggestion_is_taken_once_and_not_asked_again(sweeps: Any) -> None:
    """Two points in all: at most two are trained, and W&B is not asked ten times for another."""
    space, chosen = (
        Space((Categorical("lora_rank", (2, 4)), Constant("lr", 0.005), Constant("leakage_weight", 1.0))),
        Settings(6, 2, 3),
    )
    core = SweepsCore(chosen, SweepsSuggester(sweeps, space, chosen, "random"), key_of, DictMemo(), sweeps)
    found = trials_of(core)
    assert [state for state, *_ in found].count("COMPLETE") <= 2 and [state for state, *_ in found].count("DUPLICATE") >= 4


def test_hyperband_judges_by_the_best_epoch_and_counts_the_run_itself(sweeps: Any) -> None:
    """Thresholds at epoch 1 are the int(n / 3)-th best of all n, the judged run among them; a good earlier epoch saves it later."""
    rule = Hyperband(sweeps, Settings(9, 3, 9, 1, 3.0))
    assert rule.levels == tuple(range(1, 9))
    assert [rule.decide(trial, 1, value) for trial, value in enumerate((0.5, 0.4, 0.3))] == ["go", "stop", "stop"]
    assert rule.decide(0, 2, 0.1) == "go", "its best epoch is still .5"
    assert Hyperband(sweeps, Settings(9, 3, 9)).decide(0, 1, 0.0) == "go"


def test_a_missing_engine_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sweeps", None)
    with pytest.raises(MissingDependency, match="pip install --no-deps --target"):
        load_sweeps(tmp_path)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, own_logger: Any, tmp_path: Path) -> Callable[[], int]:
    """A finished search in `results/lora`, data that are there, and workers in this process; epochs that were trained."""
    results(tmp_path / "a", monkeypatch, tmp_path / "results" / "lora", "bayes", run_cap=6)
    workers = InProcess(lambda spec: Simulated(spec["root"]))
    monkeypatch.setattr(engines, "ensure_prepared", lambda spec, show: PREPARED)
    monkeypatch.setattr(driver, "run_with_ray", workers)
    monkeypatch.setattr(folder, "environment", lambda: ENVIRONMENT)
    return lambda: workers.trained


@pytest.mark.parametrize("engine", ["own", "random", "wandb-bayes", "wandb-random"])
def test_an_engine_runs_in_its_own_folder_and_once(here: Callable[[], int], tmp_path: Path, engine: Engine) -> None:
    root = tmp_path / "results" / "lora"
    target = isolated.target() if engine.startswith("wandb") else tmp_path
    made = run_engine(root, engine, 1, target)
    found, first, trained = read_folder(made), read_folder(root), here()
    assert made.name == f"lora-{engine}-1" and len(found.trials) == 6 and found.seed == "5/1"
    assert trained == len(found.executed) == sum(len(trial.epochs) for trial in found.trials) > 0
    assert found.identity.hashes() == first.identity.hashes() and (found.engine == first.engine) == (engine == "own")
    assert len(found.asking) >= 6 and all(seconds >= 0 for seconds in found.asking)
    assert run_engine(root, engine, 1, target) == made and here() == trained, "the same command trains nothing again"
    assert {t.epochs[0]["score"] for t in found.trials if t.epochs}  # figures are there


def test_an_interrupted_engine_continues(here: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "results" / "lora"

    def interrupt(done: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(driver, "run_with_ray", InProcess(lambda spec: Simulated(spec["root"]), interrupt))
    with pytest.raises(KeyboardInterrupt):
        run_engine(root, "random", 0)
    assert "is not finished" in read_folder(root.parent / "lora-random-0").notes[0]
    workers = InProcess(lambda spec: Simulated(spec["root"]))
    monkeypatch.setattr(driver, "run_with_ray", workers)
    found = read_folder(run_engine(root, "random", 0))
    assert workers.trained == len(found.executed) - 3 and found.notes == ()


def test_repeats_are_paired_with_those_of_the_search_itself(
    here: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "write_report", lambda found, folder: None)
    root = tmp_path / "results" / "lora"
    found, _ = run_comparison(Request(root, ("engine:random",), repeats=2))
    seeds: Mapping[str, list[str | None]] = {
        engine: [one.seed for one in found.campaigns if one.engine == engine] for engine in found.engines
    }
    assert seeds == {"GP + ASHA": ["5/0", "5/1"], "random + ASHA": ["5/0", "5/1"]}
    assert found.differences[0].pairs == 2 and "too few" in found.conclusions[0]


def test_repeats_train_other_weights(here: Callable[[], int], tmp_path: Path) -> None:
    root = tmp_path / "results" / "lora"
    zero, one = (read_folder(run_engine(root, "random", repeat)) for repeat in (0, 1))
    assert [dict(t.params) for t in zero.trials] != [dict(t.params) for t in one.trials]
    assert replace(zero.identity) == replace(one.identity)
