"""Space and experiment together; the shipped files; what the command line imports before it can say that a file is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tune_accent.base.errors import ConfigError
from tune_accent.config.check import load_search
from tune_accent.config.load import dump_experiment, load_experiment, resolve
from tune_accent.config.space import load_space

REPOSITORY = Path(__file__).parents[2]
CONFIGS = sorted((REPOSITORY / "configs").rglob("*.y*ml"))
SPACES = sorted((REPOSITORY / "search_spaces").rglob("*.y*ml"))
EXPERIMENT = "seed: 1\ndata:\n  root: data/x\n"
SPACE = "method: bayes\nparameters:\n  config: {value: e.yaml}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with an experiment and a space that fit."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "e.yaml").write_text(EXPERIMENT)
    (tmp_path / "s.yaml").write_text(SPACE + "  lr: {min: 0.1, max: 0.2}\n")
    return tmp_path


def faults(config: str | None = None, **overrides: Any) -> list[tuple[str, int | None, str]]:
    """File, line and key of everything that is wrong with `s.yaml` and its experiment."""
    with pytest.raises(ConfigError) as caught:
        load_search("s.yaml", config, overrides)
    return [(problem.file, problem.line, problem.key) for problem in caught.value.problems]


def test_the_shipped_files_are_found() -> None:
    assert {path.name for path in CONFIGS} >= {"demo.yaml"} and {path.name for path in SPACES} >= {"lora.yaml"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_experiment_loads_and_writes_back(path: Path, tmp_path: Path) -> None:
    loaded = load_experiment(path)
    assert loaded.experiment.tuning.slots >= 2
    (tmp_path / "again.yaml").write_text(dump_experiment(loaded.experiment))
    assert load_experiment(tmp_path / "again.yaml").experiment == loaded.experiment


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.name)
def test_every_shipped_space_loads_with_its_experiment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    space, _ = load_search(path)
    assert space.notes == (), "W&B reads the file as we do"
    assert space.document.data == yaml.safe_load(space.text)
    assert space.run_cap is not None and space.document.data["command"][-1] == "${args}"


def test_the_demo_searches_what_the_design_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    space, loaded = load_search("search_spaces/lora.yaml")
    assert [parameter.name for parameter in space.space.searched] == ["lora_rank", "lora_alpha_ratio", "lr", "leakage_weight"]
    assert 0.0 in space.space.parameters[3].edges, "λ = 0 belongs to the space"
    assert space.min_iter == 3 and loaded.experiment.training.epochs == 9


def test_overrides_and_config_reach_the_experiment(folder: Path) -> None:
    (folder / "other.yaml").write_text(EXPERIMENT.replace("seed: 1", "seed: 2"))
    _, loaded = load_search("s.yaml", "other.yaml", {"training.epochs": 4})
    assert (loaded.experiment.seed, loaded.experiment.training.epochs) == (2, 4)


def test_constants_of_the_space_are_in_the_experiment(folder: Path) -> None:
    (folder / "s.yaml").write_text(SPACE + "  lr: {min: 0.1, max: 0.2}\n  training.batch_size: {value: 6}\n")
    assert load_search("s.yaml")[1].experiment.training.batch_size == 6


def test_problems_of_both_files_at_once(folder: Path) -> None:
    (folder / "e.yaml").write_text(EXPERIMENT + "sed: 1\n")
    (folder / "s.yaml").write_text(SPACE + "  lr: {min: 3, max: 1}\n")
    assert faults(rank=3) == [("s.yaml", 4, "parameters.lr.min"), ("e.yaml", 4, "sed"), ("command line", None, "rank")]


def test_a_config_that_is_not_there_is_the_space_files_problem(folder: Path) -> None:
    (folder / "s.yaml").write_text(SPACE.replace("e.yaml", "ee.yaml") + "  lr: {min: 0.1, max: 0.2}\n")
    with pytest.raises(
        ConfigError, match=r"s.yaml:3: parameters.config.value: there is no file ee.yaml\n  → did you mean e.yaml\?"
    ):
        load_search("s.yaml")
    assert faults("none.yaml") == [("none.yaml", None, "")]


@pytest.mark.parametrize(
    ("early", "where"),
    [
        ("{type: hyperband, min_iter: 9}", ("s.yaml", 1, "early_terminate.min_iter")),
        ("{type: hyperband, max_iter: 27, s: 2}", ("s.yaml", 1, "early_terminate.max_iter")),
    ],
)
def test_early_termination_fits_the_experiment(folder: Path, early: str, where: tuple[str, int, str]) -> None:
    (folder / "e.yaml").write_text(EXPERIMENT)
    (folder / "s.yaml").write_text(f"early_terminate: {early}\n{SPACE}  lr: {{min: 0.1, max: 0.2}}\n")
    assert faults() == [where]


def test_every_edge_fits_the_experiment(folder: Path) -> None:
    (folder / "e.yaml").write_text(EXPERIMENT + "model: {tiny: {layers: 3}}\n")
    (folder / "s.yaml").write_text(SPACE + "  model.layer: {values: [1, 3, 4]}\n  lr: {min: 0.1, max: 0.2}\n")
    with pytest.raises(ConfigError, match=r"s.yaml:4: parameters.model.layer: 4 breaks model of e.yaml: layer must be at most"):
        load_search("s.yaml")


def test_every_edge_of_the_demo_can_be_resolved() -> None:
    space, loaded = load_space(SPACES[0]), load_experiment(CONFIGS[0])
    for parameter in space.space.parameters:
        for edge in parameter.edges:
            assert resolve(loaded.experiment, {parameter.name: edge}) is not None


def test_reading_a_search_imports_nothing_heavy() -> None:
    code = (
        "import sys, json\nfrom tune_accent.config.check import load_search\nload_search('search_spaces/lora.yaml')\n"
        "print(json.dumps([m for m in ('torch', 'ray', 'wandb', 'optuna', 'pandas', 'sklearn', 'scipy', 'transformers') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
