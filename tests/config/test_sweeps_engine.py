"""One file, two engines: our space files are valid under W&B's schema, and each distribution means what W&B's own sampler takes it for."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from scipy.stats import ks_2samp

from tests.sweeps_engine import ask
from tune_accent.config.document import parse_document
from tune_accent.config.parameters import Uniform
from tune_accent.config.space import LoadedSpace, read_space
from tune_accent.tuning.core import Settings
from tune_accent.tuning.suggest import make_suggester

SPACES = sorted((Path(__file__).parents[2] / "search_spaces").glob("**/*.yaml"))
DRAWS = 400
VIOLATIONS = "from sweeps import schema_violations_from_proposed_config as check\nanswer = [check(config) for config in question]"
SAMPLES = f"""
import random, numpy, sweeps
random.seed(1)
numpy.random.seed(1)
config = sweeps.SweepConfig({{"method": "random", "parameters": question}})
runs = sweeps.next_runs(config, [], n={DRAWS})
answer = {{name: [getattr(run.config[name]["value"], "item", lambda: run.config[name]["value"])() for run in runs] for name in question}}
"""
GRID = """
import sweeps
def points(parameters):
    config, runs = sweeps.SweepConfig({"method": "grid", "parameters": parameters}), []
    while (run := sweeps.next_run(config, runs)) is not None:
        runs.append(run)
    return [{name: getattr(found["value"], "item", lambda: found["value"])() for name, found in run.config.items()} for run in runs]
answer = [points(parameters) for parameters in question]
"""
# name: (what the file says, a key that takes it). Edges: q that does not divide the range, bounds that are no multiples of it.
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "constant": ({"value": 0.25}, "leakage_weight"),
    "constant named": ({"distribution": "constant", "value": 8}, "lora_rank"),
    "categorical": ({"values": [2, 4, 8]}, "lora_rank"),
    "categorical booleans": ({"values": [True, False]}, "model.lora.code_predictor"),
    "categorical named": ({"distribution": "categorical", "values": [0, 0.5, 3]}, "leakage_weight"),
    "whole bounds": ({"min": 2, "max": 6}, "lora_rank"),
    "int_uniform": ({"distribution": "int_uniform", "min": 3, "max": 9}, "training.batch_size"),
    "broken bounds": ({"min": 0.1, "max": 0.9}, "leakage_weight"),
    "one whole bound": ({"min": 0, "max": 1.5}, "leakage_weight"),
    "uniform": ({"distribution": "uniform", "min": 1, "max": 4}, "leakage_weight"),
    "q_uniform": ({"distribution": "q_uniform", "min": 0.0, "max": 1.0, "q": 0.25}, "leakage_weight"),
    "q_uniform off the grid": ({"distribution": "q_uniform", "min": 0.1, "max": 1.0, "q": 0.3}, "leakage_weight"),
    "q_uniform whole": ({"distribution": "q_uniform", "min": 4, "max": 16, "q": 4}, "lora_rank"),
    "q without a bound": ({"distribution": "q_uniform", "min": 1.0, "max": 4.0}, "leakage_weight"),
    "log_uniform_values": ({"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1}, "lr"),
    "q_log_uniform_values": ({"distribution": "q_log_uniform_values", "min": 0.05, "max": 2.0, "q": 0.1}, "leakage_weight"),
    "q_log_uniform_values whole": ({"distribution": "q_log_uniform_values", "min": 1, "max": 32, "q": 1}, "lora_rank"),
}


@cache
def spaces() -> dict[str, tuple[LoadedSpace, str]]:
    """Each case as a space of its own (something must vary), and the name under which its value is found."""
    found = {}
    for case, (spec, name) in CASES.items():
        other = {"training.weight_decay": {"values": [0.0, 0.1]}}
        text = yaml.safe_dump({"method": "random", "parameters": {name: spec, **other}})
        space, problems = read_space(parse_document(text, "space.yaml"))
        assert space is not None and not problems, (case, problems)
        found[case] = space, name
    return found


def ours(space: LoadedSpace, name: str) -> list[Any]:
    """What our random search draws."""
    settings = Settings(run_cap=DRAWS, slots=4, epochs=9, min_iter=None, seed=3)
    suggester = make_suggester(space.space, settings, method="random")
    draws = [suggester.ask(number, 0) for number in range(DRAWS)]
    return [space.space.constants.get(name, suggester.params(draw).get(name)) for draw in draws if draw is not None]


@pytest.fixture(scope="module")
def theirs() -> dict[str, list[Any]]:
    """What W&B's random search draws."""
    found: dict[str, list[Any]] = ask(SAMPLES, {case.replace(" ", "_"): spec for case, (spec, _) in CASES.items()})
    return found


def test_every_space_file_is_valid_for_w_and_b() -> None:
    assert SPACES
    files = [yaml.safe_load(path.read_text()) for path in SPACES]
    found = ask(VIOLATIONS, [*files, *({**file, "unknown": 1} for file in files)])
    assert len(found) == 2 * len(files) and found[: len(files)] == [[] for _ in SPACES]
    assert all(found[len(files) :]), "the schema refuses what it does not know"


@pytest.mark.parametrize("case", CASES)
def test_a_distribution_is_w_and_b_s(case: str, theirs: dict[str, list[Any]]) -> None:
    space, name = spaces()[case]
    mine, other = ours(space, name), theirs[case.replace(" ", "_")]
    assert len(mine) == len(other) == DRAWS
    (parameter,) = [parameter for parameter in space.space.parameters if parameter.name == name]
    if isinstance(parameter, Uniform) and parameter.q is None:
        assert min(mine) >= parameter.low and max(mine) <= parameter.high
        assert min(other) >= parameter.low and max(other) <= parameter.high
    else:
        assert {round(value, 9) for value in mine} == {round(value, 9) for value in other}, "the same values, both edges included"
    if not isinstance(mine[0], bool) and len(set(mine)) > 1:
        assert ks_2samp(mine, other).pvalue > 1e-3, "drawn equally often"


GRIDS: dict[str, tuple[float, float, float | None]] = {
    "max is a step": (0.0, 1.0, 0.5),
    "no multiples": (0.1, 1.0, 0.3),
    "max by rounding": (0.1, 0.4, 0.1),
    "no max": (0.0, 0.3, 0.1),
    "whole": (4, 16, 4),
    "q is 1": (1, 4, None),
    "max is no step": (0.05, 2.0, 0.1),
}


def grid(low: float, high: float, q: float | None) -> dict[str, Any]:
    """The parameters of a grid."""
    return {
        "lora_rank": {"values": [2, 4]},
        "leakage_weight": {"distribution": "q_uniform", "min": low, "max": high, **({} if q is None else {"q": q})},
        "training.batch_size": {"min": 8, "max": 10},
    }


@pytest.fixture(scope="module")
def their_grids() -> dict[str, list[dict[str, Any]]]:
    """The points that W&B's grid search takes."""
    return dict(zip(GRIDS, ask(GRID, [grid(*spec) for spec in GRIDS.values()]), strict=True))


@pytest.mark.parametrize("case", GRIDS)
def test_a_grid_has_the_same_points_in_both(case: str, their_grids: dict[str, list[dict[str, Any]]]) -> None:
    """W&B's grid over q_uniform is half-open (`numpy.arange`), and its points are not rounded to multiples of q; ours are the same, to the bit."""
    parameters, other = grid(*GRIDS[case]), their_grids[case]
    space, problems = read_space(parse_document(yaml.safe_dump({"method": "grid", "parameters": parameters}), "space.yaml"))
    assert space is not None and not problems and space.space.grid_size is not None
    suggester = make_suggester(space.space, Settings(999, slots=4, epochs=9, min_iter=None, seed=3), method="grid")
    mine = []
    for number in range(space.space.grid_size):
        draw = suggester.ask(number, 0)
        assert draw is not None
        suggester.accept(number, draw)
        mine.append(suggester.params(draw))
    assert suggester.ask(len(mine), 0) is None
    assert len(mine) == len(other) > 6
    assert {tuple(point[name] for name in parameters) for point in mine} == {
        tuple(point[name] for name in parameters) for point in other
    }
