"""What a results folder is an answer to, and who may continue it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml

import tune_accent
from tests.support import small_experiment
from tune_accent.base.errors import SearchChanged
from tune_accent.base.files import read_json, set_aside, write_json
from tune_accent.config.load import resolve
from tune_accent.config.schema import Experiment
from tune_accent.config.space import Categorical, Space, Uniform
from tune_accent.tuning import folder
from tune_accent.tuning.folder import Spec, open_folder, trial_key

DATA = {"request": "0", "manifest": "a", "splits": "b", "cache": "c", "backbone": "d"}
SPACE = {
    "run_cap": 16,
    "method": "bayes",
    "parameters": Space((Categorical("lora_rank", (2, 4)), Uniform("lr", 1e-5, 1e-2, log=True))).to_dict(),
}


def experiment(changes: Mapping[str, Any] = MappingProxyType({})) -> Experiment:
    """The small experiment with other values, by dotted key."""
    return resolve(small_experiment(Path("data/small")), changes)


def spec(
    changes: Mapping[str, Any] = MappingProxyType({}), space: Mapping[str, Any] = SPACE, data: Mapping[str, str] = DATA
) -> Spec:
    return Spec(experiment(changes).model_dump(mode="json"), space, data)


FREE: list[dict[str, Any]] = [
    {"tuning.workers": 7},
    {"tuning.resources.gpu": 1.0},
    {"tuning.address": "head:6379"},
    {"tuning.max_failures": 9},
    {"tuning.epoch_timeout_s": 5.0},
    {"data.source.workers": 1},
    {"tracking.tensorboard": False},
    {"name": "other"},
]
DECIDING: list[dict[str, Any]] = [
    {"seed": 6},
    {"training.lr": 0.01},
    {"tuning.slots": 3},
    {"tuning.startup_trials": 3},
    {"gate.min_speakers": 3},
    {"data.loudness_lufs": None},
]


@pytest.mark.parametrize("change", FREE, ids=str)
def test_what_does_not_decide_is_no_part_of_a_search(change: dict[str, Any]) -> None:
    assert spec(change).sha256() == spec().sha256()


@pytest.mark.parametrize("change", DECIDING, ids=str)
def test_what_decides_makes_another_search(change: dict[str, Any]) -> None:
    assert spec(change).sha256() != spec().sha256()


def test_the_number_of_trials_is_free_and_space_and_data_are_not() -> None:
    assert spec(space={**SPACE, "run_cap": 99}).sha256() == spec().sha256()
    assert spec(space={**SPACE, "method": "random"}).sha256() != spec().sha256()
    assert spec(data={**DATA, "splits": "x"}).sha256() != spec().sha256()


def test_the_key_of_a_trial_is_what_it_trains() -> None:
    def key(changes: Mapping[str, Any] = MappingProxyType({}), data: Mapping[str, str] = DATA) -> str:
        return trial_key(experiment(changes).model_dump(mode="json"), data)

    assert len(key()) == 20 and set(key()) <= set("0123456789abcdef")
    for change in (*FREE, {"tuning.slots": 3}, {"gate.min_speakers": 3}):
        assert key(change) == key(), "number of workers, name, slots and gate leave the figures of a trial alone"
    same = [
        key({"lora_rank": 8, "lora_alpha": 16.0}),
        key({"lora_alpha": 16.0, "lora_rank": 8}),
        key({"model.lora.alpha": 16.0, "model.lora.rank": 8}),
    ]
    assert len(set(same)) == 1
    deciding: list[dict[str, Any]] = [{}, {"lora_rank": 8}, {"lr": 0.01}, {"seed": 6}, {"score.leakage_limit": 0.5}]
    others = [*(key(change) for change in deciding), key(data={**DATA, "backbone": "x"})]
    assert len(set(others)) == len(others)


def test_a_new_folder_says_what_it_answers(tmp_path: Path) -> None:
    root = tmp_path / "lora"
    open_folder(root, spec(), accept_environment=False)
    assert sorted(path.name for path in root.iterdir()) == ["environment.json", "spec.sha256", "spec.yaml"]
    told = yaml.safe_load((root / "spec.yaml").read_text())
    assert Experiment.model_validate(told["experiment"]) == experiment() and told["data"] == DATA
    assert Spec(told["experiment"], told["space"], told["data"]).sha256() == (root / "spec.sha256").read_text().strip()


def test_the_same_search_may_continue_with_more_trials_and_other_workers(tmp_path: Path) -> None:
    open_folder(tmp_path, spec(), accept_environment=False)
    recorded = (tmp_path / "environment.json").read_bytes()
    open_folder(tmp_path, spec({"tuning.workers": 2}, {**SPACE, "run_cap": 32}), accept_environment=False)
    assert yaml.safe_load((tmp_path / "spec.yaml").read_text())["space"]["run_cap"] == 32
    assert (tmp_path / "environment.json").read_bytes() == recorded


def test_another_search_is_refused_with_what_changed(tmp_path: Path) -> None:
    open_folder(tmp_path, spec(), accept_environment=False)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    parameters = Space((Categorical("lora_rank", (2, 4)), Uniform("lr", 1e-4, 1e-2, log=True))).to_dict()
    with pytest.raises(SearchChanged) as refused:
        changed = spec(
            {"training.epochs": 4, "model.language": "english"}, {**SPACE, "parameters": parameters}, {**DATA, "manifest": "x"}
        )
        open_folder(tmp_path, changed, accept_environment=True)
    assert refused.value.where == str(tmp_path)
    assert refused.value.what.splitlines() == [
        "this folder holds another search; it was → it is now:",
        '    model.language: null → "english"',
        "    training.epochs: 3 → 4",
        "    space.parameters.lr.low: 1e-05 → 0.0001",
        '    data.manifest: "a" → "x"',
    ]
    assert "--name" in str(refused.value) and "--fresh" in str(refused.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_refusal_stays_short(tmp_path: Path) -> None:
    open_folder(tmp_path, spec(), accept_environment=False)
    parameters = {f"training.k{number}": {"low": 0} for number in range(30)}
    with pytest.raises(SearchChanged, match=r"… and \d+ more") as refused:
        open_folder(tmp_path, spec(space={**SPACE, "parameters": parameters}), accept_environment=False)
    assert len(str(refused.value).splitlines()) == 23


@pytest.mark.parametrize("text", ["", "{", "experiment: 3\nspace: 4\ndata: 5\n", "experiment: {}\nspace: {}\ndata: {}\n", None])
def test_a_damaged_spec_is_refused_in_words(tmp_path: Path, text: str | None) -> None:
    open_folder(tmp_path, spec(), accept_environment=False)
    path = tmp_path / "spec.yaml"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(SearchChanged, match=r"spec\.yaml cannot be read"):
        open_folder(tmp_path, spec({"seed": 6}), accept_environment=False)
    open_folder(tmp_path, spec(), accept_environment=False)  # the hash tells that it is this search: the text is written anew
    assert yaml.safe_load(path.read_text())["data"] == DATA


def test_an_edited_spec_is_told_apart(tmp_path: Path) -> None:
    open_folder(tmp_path, spec(), accept_environment=False)
    (tmp_path / "spec.sha256").write_text("0" * 64)
    with pytest.raises(SearchChanged, match=r"spec\.yaml was edited"):
        open_folder(tmp_path, spec(), accept_environment=False)


def test_other_versions_are_refused_unless_accepted_and_then_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_folder(tmp_path, spec(), accept_environment=False)
    first = read_json(tmp_path / "environment.json")
    versions = {**first["packages"], "torch": "99.1", "rich": "0.1"}
    monkeypatch.setattr(folder, "environment", lambda: {**first, "packages": versions})
    with pytest.raises(SearchChanged) as refused:
        open_folder(tmp_path, spec(), accept_environment=False)
    text = str(refused.value)
    assert f"torch {first['packages']['torch']} → 99.1" in text and "rich" not in text
    assert "--accept-environment" in text and "--fresh" in text
    assert read_json(tmp_path / "environment.json") == first
    open_folder(tmp_path, spec(), accept_environment=True)
    open_folder(tmp_path, spec(), accept_environment=False)  # once accepted, these are the folder's versions
    record = read_json(tmp_path / "environment.json")
    assert record["packages"]["torch"] == "99.1"
    assert [earlier["torch"] for earlier in record["continued_from"]] == [first["packages"]["torch"]]


def test_another_version_of_the_program_is_one_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_folder(tmp_path, spec(), accept_environment=False)
    own = tune_accent.__version__
    monkeypatch.setattr(tune_accent, "__version__", "99.0.0")
    with pytest.raises(SearchChanged) as refused:
        open_folder(tmp_path, spec(), accept_environment=False)
    assert refused.value.what == f"other versions than the ones this search began with: tune_accent {own} → 99.0.0"
    assert "--accept-environment" in str(refused.value) and "--fresh" in str(refused.value)
    for accept in (True, False):
        open_folder(tmp_path, spec(), accept_environment=accept)
    record = read_json(tmp_path / "environment.json")
    assert record["tune_accent"] == "99.0.0" and [earlier["tune_accent"] for earlier in record["continued_from"]] == [own]


def test_a_version_that_a_file_names_does_not_act_on_the_terminal(tmp_path: Path) -> None:
    open_folder(tmp_path, spec(), accept_environment=False)
    record = read_json(tmp_path / "environment.json")
    write_json(tmp_path / "environment.json", {**record, "tune_accent": "\x1b[2J" + 999 * "á"})
    with pytest.raises(SearchChanged) as refused:
        open_folder(tmp_path, spec(), accept_environment=False)
    assert "\x1b" not in str(refused.value) and r"\x1b[2Jáá" in str(refused.value) and "á" * 40 not in str(refused.value)


def test_setting_aside_deletes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "lora"
    assert set_aside(root) is None
    for number in (1, 2):
        root.mkdir()
        (root / "x").write_text(str(number))
        assert set_aside(root) == tmp_path / f"lora.old-{number}"
    assert [(tmp_path / f"lora.old-{number}" / "x").read_text() for number in (1, 2)] == ["1", "2"] and not root.exists()
