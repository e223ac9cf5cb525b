"""What is recorded about the machine, what two records say about a difference, and the hashes that are taken first."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.tuning.small_search import PREPARED, request
from tune_accent.base.errors import DataError, SearchChanged
from tune_accent.base.files import write_text
from tune_accent.config.load import resolve
from tune_accent.config.schema import Experiment, Training
from tune_accent.paper import hashes
from tune_accent.paper.environment import NOTHING_DIFFERS, likely_cause, paper_environment, torch_state, what_changed
from tune_accent.paper.hashes import hashes_before
from tune_accent.paper.leaves import changed
from tune_accent.tuning.driver import make_spec

GPU = {"name": "NVIDIA RTX 4090", "memory": "24564 MiB", "driver": "550.54"}
RECORD: dict[str, Any] = {
    "tune_accent": "1.0",
    "python": "3.11.7",
    "packages": {"torch": "2.13.0", "numpy": "2.4.6", "rich": "14"},
    "git": {"commit": "a" * 40, "dirty": False},
    "platform": "Linux",
    "processor": "EPYC",
    "gpus": [GPU],
    "torch": {"cuda": "12.4", "cudnn": 90100, "threads": 1},
}


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({}, NOTHING_DIFFERS),
        ({"gpus": [{**GPU, "name": "NVIDIA H200"}]}, "other GPU: NVIDIA RTX 4090 → NVIDIA H200"),
        ({"gpus": []}, "other GPU: NVIDIA RTX 4090 → none; other driver: 550.54 → none"),
        ({"gpus": [{**GPU, "driver": "560.1"}]}, "other driver: 550.54 → 560.1"),
        ({"torch": {**RECORD["torch"], "cuda": "12.6"}}, "other CUDA: 12.4 → 12.6"),
        ({"torch": {**RECORD["torch"], "cudnn": None}}, "other cuDNN: 90100 → None"),
        ({"torch": {**RECORD["torch"], "threads": 2}}, "other threads of a trial: 1 → 2"),
        ({"packages": {"torch": "2.14.0", "numpy": "2.4.6", "rich": "15"}}, "other torch: 2.13.0 → 2.14.0"),
        ({"processor": "Xeon"}, "other processor: EPYC → Xeon"),
        ({"git": {"commit": "b" * 40, "dirty": False}}, f"other commit: {'a' * 40} → {'b' * 40}"),
        ({"git": {"commit": "a" * 40, "dirty": True, "diff_sha256": "c"}}, "other uncommitted changes: none → c"),
        ({"torch": {}}, NOTHING_DIFFERS),
    ],
)
def test_the_likely_cause_is_what_differs(change: dict[str, Any], cause: str) -> None:
    assert likely_cause(RECORD, {**RECORD, **change}) == cause


def test_a_search_that_was_continued_with_other_versions_says_so() -> None:
    assert "continued with other versions" in likely_cause({**RECORD, "continued_from": [{}]}, RECORD)


def test_the_environment_of_a_paper_run_is_plain_json_and_names_every_switch() -> None:
    record = json.loads(json.dumps(paper_environment(Training()), allow_nan=False))
    state = record["torch"]
    assert {"packages", "git", "gpus", "processor", "threads"} <= set(record) and state["threads"] == 1
    assert state["deterministic_algorithms"] and state["cudnn_deterministic"] and not state["cudnn_benchmark"]
    assert state["tf32"] == {"matmul": False, "cudnn": False} and state["cublas_workspace"] == ":4096:8"
    assert state["attention"] == {"math": True, "flash": False, "mem_efficient": False, "cudnn": False}
    assert likely_cause(record, {**record, "torch": torch_state()}) == NOTHING_DIFFERS


def test_no_variable_of_the_environment_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "s3cret-0123456789")
    assert "s3cret" not in json.dumps(paper_environment(Training()))


def test_changed_settings_are_told_by_key() -> None:
    assert what_changed({"training": {"lr": 0.1}}, {"training": {"lr": 0.1}}) is None
    assert what_changed({"training": {"lr": 0.1, "c": [1, 2]}}, {"training": {"lr": 0.2, "c": [1, 3]}}) == (
        "other settings: training.c[1]: 2 → 3, training.lr: 0.1 → 0.2"
    )
    assert list(changed({"a": []}, {"a": {}, "b": None})) == [("a", "[]", "{}"), ("b", "nothing", "null")]


@pytest.fixture
def folder(tmp_path: Path) -> tuple[Path, Experiment]:
    """The spec of a search in its folder."""
    asked = request(tmp_path)
    spec = make_spec(asked, PREPARED)
    write_text(asked.root / "spec.yaml", spec.text())
    write_text(asked.root / "spec.sha256", spec.sha256() + "\n")
    return asked.root, asked.experiment


def test_hashes_are_those_of_the_search(folder: tuple[Path, Experiment], monkeypatch: pytest.MonkeyPatch) -> None:
    root, experiment = folder
    monkeypatch.setattr(hashes, "git_state", lambda path: {"commit": "f" * 40, "dirty": True, "diff_sha256": "d"})
    found = hashes_before(resolve(experiment, {"paper.seeds": 5, "tuning.workers": 1}), root, PREPARED)
    assert found == {
        "spec": (root / "spec.sha256").read_text().strip(),
        **{"manifest": "m", "splits": "s", "cache": "c", "backbone": "b"},
        **{"code": "f" * 40, "code_changes": "d"},
    }
    monkeypatch.setattr(hashes, "git_state", lambda path: None)
    assert hashes_before(experiment, root, PREPARED)["code"].startswith("tune_accent ")


@pytest.mark.parametrize("name", ["request", "manifest", "splits", "cache", "backbone"])
def test_other_data_than_the_search_had_are_refused_by_name(folder: tuple[Path, Experiment], name: str) -> None:
    root, experiment = folder
    with pytest.raises(SearchChanged, match=f"not the ones of the search.*\n    {name}: .* → other"):
        hashes_before(experiment, root, replace(PREPARED, **{name: "other"}))


def test_a_folder_without_a_search_is_refused(tmp_path: Path, folder: tuple[Path, Experiment]) -> None:
    with pytest.raises(DataError, match="no such folder"):
        hashes_before(folder[1], tmp_path / "nowhere", PREPARED)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no search"):
        hashes_before(folder[1], tmp_path / "empty", PREPARED)


def test_another_experiment_or_an_edited_spec_is_refused(folder: tuple[Path, Experiment]) -> None:
    root, experiment = folder
    with pytest.raises(SearchChanged, match=r"training\.clip: 1\.0 → 2\.0"):
        hashes_before(resolve(experiment, {"training.clip": 2.0}), root, PREPARED)
    (root / "spec.yaml").write_text((root / "spec.yaml").read_text().replace("clip: 1.0", "clip: 2.0"))
    with pytest.raises(DataError, match="was edited"):
        hashes_before(experiment, root, PREPARED)
