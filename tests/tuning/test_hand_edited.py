"""A results folder that was edited by hand, or made by another version: refused with the reason, or made whole again; never silently different."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import small_experiment
from tests.tuning.simulated import Clock
from tests.tuning.small_search import PREPARED, SPACE, core_of, report, request
from tune_accent.base.errors import SearchChanged
from tune_accent.config.load import resolve
from tune_accent.tuning import driver, folder
from tune_accent.tuning.driver import Request, make_core, make_spec, run_search
from tune_accent.tuning.folder import Spec, open_folder, read_spec
from tune_accent.tuning.memo import FolderMemo
from tune_accent.tuning.results import trials_csv, write_tables

REORDERED = SPACE.replace("  lora_rank: {values: [2, 4]}\n", "") + "  lora_rank: {values: [2, 4]}\n"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Request:
    """A finished search of simulated trials; read only."""
    made = request(tmp_path_factory.mktemp("original"), experiment=small_experiment(Path("data")))
    open_folder(made.root, make_spec(made, PREPARED), accept_environment=False)
    core = core_of(made, FolderMemo(made.root))
    assert Clock(core, 2, outcome=lambda grant: report(grant.params, grant.key, grant.epoch)).run()
    write_tables(made.root, made.experiment, made.space.space, core.trials)
    return made


@pytest.fixture
def asked(original: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_logger: logging.Logger) -> Request:
    """A copy of it, without checkpoints and study."""
    monkeypatch.setattr(driver, "ensure_prepared", lambda spec, show: PREPARED)
    monkeypatch.setattr(driver, "export_study", lambda core, space, path: None)
    monkeypatch.setattr(driver, "write_best", lambda *_: None)
    monkeypatch.setattr(driver, "_best_is_lost", lambda *_: False)
    own_logger.propagate = True
    shutil.copytree(original.root, tmp_path / "results")
    return replace(original, root=tmp_path / "results")


def opened(asked: Request, **changes: Any) -> None:
    """Open the folder as the request would, with a spec of which `changes` replace fields."""
    open_folder(asked.root, replace(make_spec(asked, PREPARED), **changes), accept_environment=False)


def refusal(asked: Request, **changes: Any) -> str:
    """Why the folder is refused; nothing in it changes."""
    before = {path: path.read_bytes() for path in asked.root.rglob("*") if path.is_file()}
    with pytest.raises(SearchChanged) as refused:
        opened(asked, **changes)
    assert {path: path.read_bytes() for path in asked.root.rglob("*") if path.is_file()} == before
    assert "--name" in str(refused.value) and "--fresh" in str(refused.value) and str(asked.root) in str(refused.value)
    return str(refused.value)


def test_parameters_in_another_order_are_another_search(asked: Request) -> None:
    """Samplers draw, and grids count, in the order of the file."""
    other = replace(asked, space=request(asked.root.parent, REORDERED).space)
    text = refusal(asked, space={"run_cap": 5, **other.space.to_dict()})
    assert 'space.order: ["lora_rank","lora_alpha_ratio"' in text and text.count("\n    ") == 1, "one line"
    opened(asked)


@pytest.mark.parametrize(
    ("space", "line"),
    [
        (SPACE.replace("values: [2, 4]", "values: [4, 2]"), "space.parameters.lora_rank.values: [2,4] → [4,2]"),
        (SPACE + "  training.clip: {value: 2.0}\n", "space.parameters.training.clip.value: absent → 2.0"),
        (SPACE.replace("eta: 3", "eta: 2"), "space.eta: 3 → 2"),
        (SPACE.replace("method: random", "method: bayes"), 'space.method: "random" → "bayes"'),
        (SPACE.replace("maximize", "minimize").replace("name: score", "name: val_loss"), 'space.goal: "maximize" → "minimize"'),
        (SPACE.replace("early_terminate: {type: hyperband, min_iter: 1, eta: 3}\n", ""), "space.min_iter: 1 → null"),
    ],
)
def test_any_other_change_of_the_space_is_shown(asked: Request, space: str, line: str) -> None:
    changed = request(asked.root.parent, space).space
    assert f"    {line}\n" in refusal(asked, space={"run_cap": 5, **changed.to_dict()})


def test_a_constant_is_part_of_the_experiment_too(asked: Request) -> None:
    changed = resolve(asked.experiment, {"training.clip": 2.0}).model_dump(mode="json")
    assert "    training.clip: 1.0 → 2.0\n" in refusal(asked, experiment=changed)


@pytest.mark.parametrize("name", list(vars(PREPARED)))
def test_changed_data_are_named(asked: Request, name: str) -> None:
    was = vars(PREPARED)[name]
    assert f'    data.{name}: "{was}" → "x"\n' in refusal(asked, data={**vars(PREPARED), name: "x"})


def test_the_name_of_the_space_file_and_comments_are_free(asked: Request) -> None:
    renamed = request(asked.root.parent, SPACE.replace("name: small", "name: other") + "# a comment\n")
    assert make_spec(replace(asked, space=renamed.space), PREPARED).sha256() == make_spec(asked, PREPARED).sha256()


@pytest.mark.parametrize("made_by", [0, 1, None, "x"])
def test_a_folder_of_another_version_is_refused_by_name(asked: Request, made_by: Any) -> None:
    old = replace(make_spec(asked, PREPARED), protocol=made_by)
    (asked.root / "spec.yaml").write_text(old.text())
    (asked.root / "spec.sha256").write_text(old.sha256())
    (asked.root / "environment.json").write_text(json.dumps({"tune_accent": "0.0.7"}))
    text = refusal(asked)
    assert "made by another version of tune_accent (0.0.7): the same trials would give other figures" in text
    assert f"    protocol: {json.dumps(made_by)} → {folder.PROTOCOL_VERSION}\n" in text
    (asked.root / "environment.json").unlink()
    assert "another version of tune_accent: the same" in refusal(asked)


def test_a_key_that_a_version_added_is_shown(asked: Request) -> None:
    experiment = asked.experiment.model_dump(mode="json")
    experiment["training"].pop("clip")
    old = replace(make_spec(asked, PREPARED), experiment=experiment)
    (asked.root / "spec.yaml").write_text(old.text())
    (asked.root / "spec.sha256").write_text(old.sha256())
    assert "    training.clip: absent → 1.0\n" in refusal(asked)


def edit_spec(root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    whole = yaml.safe_load((root / "spec.yaml").read_text())
    change(whole)
    (root / "spec.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))


def test_an_edited_spec_yaml_is_written_anew_with_a_warning(asked: Request, caplog: pytest.LogCaptureFixture) -> None:
    before = (asked.root / "spec.yaml").read_bytes()
    edit_spec(asked.root, lambda whole: whole["experiment"]["training"].update(lr=0.5))
    opened(asked)
    assert "spec.yaml or spec.sha256 is missing or was edited" in caplog.text
    assert (asked.root / "spec.yaml").read_bytes() == before


def test_editing_the_spec_does_not_let_another_search_in(asked: Request) -> None:
    """As long as the hash is left alone; then the diff says that it can not be trusted."""
    changed = resolve(asked.experiment, {"training.lr": 0.5}).model_dump(mode="json")
    edit_spec(asked.root, lambda whole: whole["experiment"]["training"].update(lr=0.5))
    assert "they no longer match" in refusal(asked, experiment=changed)


@pytest.mark.parametrize("text", [b"0" * 64, b"\xff\xfe\x00", b"x\n" * 1000])
def test_an_edited_hash_is_refused(asked: Request, text: bytes) -> None:
    (asked.root / "spec.sha256").write_bytes(text)
    assert "spec.sha256 was: they no longer match" in refusal(asked)


@pytest.mark.parametrize("text", [None, b"", b" \n"])
def test_a_lost_hash_is_made_again_from_the_spec(asked: Request, text: bytes | None, caplog: pytest.LogCaptureFixture) -> None:
    file = asked.root / "spec.sha256"
    before = file.read_bytes()
    file.unlink() if text is None else file.write_bytes(text)
    assert "training.clip" in refusal(asked, experiment=resolve(asked.experiment, {"training.clip": 2.0}).model_dump(mode="json"))
    opened(asked)
    assert file.read_bytes() == before and "missing or was edited" in caplog.text


def test_trials_without_any_identity_are_refused(asked: Request) -> None:
    (asked.root / "spec.sha256").unlink()
    (asked.root / "spec.yaml").unlink()
    assert "holds trials, but nothing says of which search" in refusal(asked)


def recorded(asked: Request) -> str:
    spec = read_spec(asked.root)
    assert spec is not None
    return spec.sha256()


BOMB = "a: &a [x, x]\n" + "".join(f"b{i}: &b{i} [*{'a' if i == 0 else f'b{i - 1}'}, *a]\n" for i in range(60))


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 3000, BOMB, "x: !!python/object:os.system y", "a: 1\n" * 300_000, "experiment: 3\n", "\0", "- 1"]
)
def test_a_spec_that_is_no_spec_is_not_read(asked: Request, text: str) -> None:
    (asked.root / "spec.yaml").write_text(text)
    assert read_spec(asked.root) is None
    assert "spec.yaml cannot be read" in refusal(asked, data={**vars(PREPARED), "request": "x"})
    opened(asked)
    assert recorded(asked) == make_spec(asked, PREPARED).sha256()


def test_a_spec_is_read_back_as_it_was_written(asked: Request) -> None:
    spec = make_spec(asked, PREPARED)
    assert "&" not in spec.text() and "*" not in spec.text(), "no aliases"
    assert recorded(asked) == spec.sha256()
    odd = Spec({**spec.experiment, "seed": 10**15}, {**spec.space, "x": "1e-3", "y": 1e-5, "z": "010"}, spec.data)
    (asked.root / "spec.yaml").write_text(odd.text())
    assert recorded(asked) == odd.sha256()


@pytest.mark.parametrize("text", [None, "", "[]", "{}", "null", '{"python": 3}', '{"python": "3", "packages": []}'])
def test_a_lost_environment_needs_consent(asked: Request, text: str | None) -> None:
    file = asked.root / "environment.json"
    file.unlink() if text is None else file.write_text(text)
    told = refusal(asked)
    assert (
        "environment.json is missing or was edited" in told and "--accept-environment" in told and "bring the file back" in told
    )
    open_folder(asked.root, make_spec(asked, PREPARED), accept_environment=True)
    opened(asked)
    assert json.loads(file.read_text())["continued_from"] == [None]


def table(asked: Request) -> str:
    core = make_core(asked, make_spec(asked, PREPARED))
    return trials_csv(asked.experiment, asked.space.space, core.trials) if core.done else "unfinished"


@pytest.mark.parametrize("name", ["trials.csv", "epochs.jsonl"])
@pytest.mark.parametrize("content", [b"", b"\xff\x00garbage", b"trial,state\n0,COMPLETE\n", None])
def test_edited_tables_are_written_anew(asked: Request, name: str, content: bytes | None) -> None:
    file = asked.root / name
    before = file.read_bytes()
    file.unlink() if content is None else file.write_bytes(content)
    run_search(asked)
    assert file.read_bytes() == before


def edited(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def better(content: dict[str, Any]) -> None:
    """What somebody would want to change."""
    content.setdefault("metrics", content.get("draw", {})).update(score=9.0, lora_rank=4, lr=0.01)


def test_an_edited_epoch_is_not_believed(asked: Request, caplog: pytest.LogCaptureFixture) -> None:
    before = table(asked)
    longest = max(core_of_folder(asked), key=len)
    memo, key = FolderMemo(asked.root), longest[0]
    file = memo.trial_folder(key) / "0001.json"
    edited(file, better)
    assert memo.reports(key) == [] and f"{file} is damaged" in caplog.text
    core = make_core(asked, make_spec(asked, PREPARED))
    assert Clock(core, 1, outcome=lambda grant: report(grant.params, grant.key, grant.epoch)).run()
    assert table(asked) == before


def core_of_folder(asked: Request) -> list[tuple[str, int]]:
    return [(trial.key, len(trial.reports)) for trial in make_core(asked, make_spec(asked, PREPARED)).trials]


@pytest.mark.parametrize("number", [0, 3, 4])
def test_an_edited_suggestion_is_asked_again(asked: Request, number: int, caplog: pytest.LogCaptureFixture) -> None:
    before, file = table(asked), asked.root / "suggestions" / f"{number:05d}.json"
    whole = file.read_bytes()
    edited(file, better)
    assert table(asked) == before and f"{file} is damaged" in caplog.text
    assert file.read_bytes() == whole, "the sampler gives the same draw again"


def test_suggestions_that_change_places_are_not_believed(asked: Request) -> None:
    before, files = table(asked), [asked.root / "suggestions" / f"0000{number}.json" for number in (1, 2)]
    one, other = (file.read_bytes() for file in files)
    files[0].write_bytes(other)
    files[1].write_bytes(one)
    assert table(asked) == before and [file.read_bytes() for file in files] == [one, other]


def test_a_failure_that_was_put_there_is_not_believed(asked: Request) -> None:
    before = table(asked)
    key = core_of_folder(asked)[0][0]
    failure: Mapping[str, Any] = {"state": "OOM", "epoch": 1, "message": "x"}
    (FolderMemo(asked.root).trial_folder(key) / "failure.json").write_text(
        json.dumps({"key": key, "failure": failure, "sha256": "0"})
    )
    assert table(asked) == before
