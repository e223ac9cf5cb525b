"""The experiment file: every mistake with its line, all of them at once; overrides, resolving, hashing, writing back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tune_accent.base.errors import ConfigError
from tune_accent.config.keys import SHORT_NAMES, check_value, leaves, suggest
from tune_accent.config.load import dump_experiment, experiment_hash, load_experiment, resolve
from tune_accent.config.schema import Experiment

MINIMAL = "seed: 1\ndata:\n  root: data/x\n"
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a YAML file and give its path."""

    def _write(text: str) -> Path:
        path = tmp_path / "e.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return _write


@pytest.fixture
def experiment(write: Write) -> Experiment:
    return load_experiment(write(MINIMAL)).experiment


def faults(path: Path, **overrides: Any) -> dict[str, tuple[int | None, str, str | None]]:
    """Key → line, message, hint of everything that is wrong."""
    with pytest.raises(ConfigError) as caught:
        load_experiment(path, overrides)
    return {problem.key: (problem.line, problem.message, problem.hint) for problem in caught.value.problems}


def test_defaults_fill_what_the_file_leaves_out(write: Write) -> None:
    loaded = load_experiment(write(MINIMAL))
    assert loaded.experiment.seed == 1 and loaded.experiment.training.epochs == 9
    assert loaded.text == MINIMAL and loaded.path.name == "e.yaml"
    assert loaded.document.problem("data.root", "is not there").line == 3


def test_numbers_as_people_write_them(write: Write) -> None:
    training = load_experiment(write(MINIMAL + "training: {lr: 1e-3, clip: 2, heads_lr: 3.0e-3}\n")).experiment.training
    assert (training.lr, training.clip, training.heads_lr) == (0.001, 2.0, 0.003)
    assert isinstance(training.clip, float)


@pytest.mark.parametrize(
    ("lines", "key", "message", "hint"),
    [
        ("training: {lrr: 1}", "training.lrr", "unknown key", "did you mean `lr`?"),
        ("trainig: {lr: 1}", "trainig", "unknown key", "did you mean `training`?"),
        ("lora_rank: 8", "lora_rank", "unknown key", "it belongs at `model.lora.rank`"),
        ("z_dim: 8", "z_dim", "unknown key", "it belongs at `objective.z_dim`"),
        ("tuning: {qqq: 8}", "tuning.qqq", "unknown key", "the keys here are: slots"),
        ("training: {lr: -1}", "training.lr", "must be above 0, got -1", None),
        ("training: {lr: .nan}", "training.lr", "must be a finite number, got nan", None),
        ("training: {lr: .inf}", "training.lr", "must be a finite number, got inf", None),
        ("training: {lr: true}", "training.lr", "must be a number, got true", None),
        ("training: {lr: '1e-3'}", "training.lr", "must be a number, got '1e-3'", "remove the quotes"),
        ("training: {epochs: 9.0}", "training.epochs", "must be a whole number, got 9.0", "write 9"),
        ("training: {epochs: 0}", "training.epochs", "must be at least 1, got 0", None),
        ("training: {epochs: many}", "training.epochs", "must be a whole number, got 'many'", None),
        ("training: {deterministic: yes}", "training.deterministic", "must be true or false, got 'yes'", "write true or false"),
        ("training:", "training", "must be a section of `key: value` lines, got nothing (null)", "indent its keys"),
        ("training: [1]", "training", "must be a section of `key: value` lines, got a list of 1", None),
        ("name: 3", "name", "must be text, got 3", 'put it in quotes: "3"'),
        ("name: a b", "name", "must start with a letter or digit", None),
        ("tuning: {order: Rounds}", "tuning.order", "must be one of rounds, async; got 'Rounds'", "did you mean `rounds`?"),
        ("model: {lora: {target: q}}", "model.lora.target", "must be a list, [first, second], got 'q'", None),
        ("model: {lora: {target: [q, x]}}", "model.lora.target[1]", "must be one of q, k, v, o, gate, up, down; got 'x'", None),
        ("model: {lora: {alpha: 1, alpha_ratio: 2}}", "model.lora", "give alpha or alpha_ratio, not both", None),
        ("model: {layer: 5}", "model", "layer must be at most tiny.layers (4), got 5", None),
        ("model: {tiny: {hidden: 50}}", "model.tiny.hidden", "must be a multiple of 32, got 50", None),
        ("evaluation: {c_grid: []}", "evaluation.c_grid", "must not be empty", None),
        ("gate: {go: {leakage: 0.1}}", "gate.go.accent_f1", "this key is required", "add `accent_f1: ...` to `gate.go`"),
    ],
)
def test_one_mistake(write: Write, lines: str, key: str, message: str, hint: str | None) -> None:
    found = faults(write(MINIMAL + lines + "\n"))
    assert list(found) == [key]
    line, said, advice = found[key]
    assert line == 4 and said.startswith(message)
    assert (hint is None) or (advice is not None and advice.startswith(hint)) or (advice is not None and hint in advice)


@pytest.mark.parametrize(
    ("data", "key", "message"),
    [
        ("{root: x, source: {kind: dmo}}", "data.source", "`kind` must be one of demo, prepared, csv, coraa-mupe; got 'dmo'"),
        ("{root: x, source: {speakers: 5}}", "data.source", "must say its `kind`"),
        ("{root: x, source: {kind: demo, speakers: 2}}", "data.source.speakers", "must be at least 3, got 2"),
        ("{root: x, source: {kind: demo, speekers: 5}}", "data.source.speekers", "unknown key"),
        ("{root: x, codec: {name: qwen, codewords: 5}}", "data.codec.codewords", "unknown key"),
        ("{root: x, splits: {held_fold: 3}}", "data.splits", "held_fold must be below folds (3), got 3"),
        ("{}", "data.root", "this key is required"),
    ],
)
def test_a_mistake_in_data(write: Write, data: str, key: str, message: str) -> None:
    found = faults(write(f"seed: 0\ndata: {data}\n"))
    assert list(found) == [key]
    assert found[key][0] == 2 and found[key][1].startswith(message)


def test_all_mistakes_at_once_in_the_order_of_the_file(write: Write) -> None:
    path = write("data:\n  root: 3\ntraining:\n  lr: x\n  lr: 1\n  epochs: -1\nmodell: {}\nscore: !!map {}\n")
    with pytest.raises(ConfigError) as caught:
        load_experiment(path, {"lora_rnk": 3, "lr": -1})
    file = str(path)
    assert [(problem.file, problem.line, problem.key) for problem in caught.value.problems] == [
        (file, None, "seed"),
        (file, 2, "data.root"),
        (file, 4, "training.lr"),
        (file, 5, "training.lr"),
        (file, 6, "training.epochs"),
        (file, 7, "modell"),
        (file, 8, "score"),
        ("command line", None, "lora_rnk"),
        ("command line", None, "lr"),
    ]
    assert f"{file}:6: training.epochs: must be at least 1, got -1" in str(caught.value)
    assert caught.value.exit_code == 2


def test_overrides_by_short_and_dotted_name(write: Write) -> None:
    found = load_experiment(write(MINIMAL), {"lora_rank": 16, "training.batch_size": 4, "lr": 1}).experiment
    assert (found.model.lora.rank, found.training.batch_size, found.training.lr) == (16, 4, 1.0)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lora_rank", 0, "must be at least 1, got 0"),
        ("lora_rank", 2.5, "must be a whole number, got 2.5"),
        ("lr", "fast", "must be a number, got 'fast'"),
        ("training", 3, "no such key in the experiment"),
        ("nonsense", 3, "no such key in the experiment"),
        ("data.source.texts", 99, "must be at most 40, got 99"),
    ],
)
def test_bad_overrides(write: Write, name: str, value: Any, message: str) -> None:
    assert faults(write(MINIMAL), **{name: value})[name] == (None, message, faults(write(MINIMAL), **{name: value})[name][2])


def test_one_key_under_two_names_is_refused(experiment: Experiment) -> None:
    with pytest.raises(ConfigError, match=r"`training.lr` is given twice"):
        resolve(experiment, {"lr": 0.1, "training.lr": 0.2})


def test_resolve_sets_every_short_name(experiment: Experiment) -> None:
    found = resolve(experiment, {"lora_rank": 4, "lora_alpha_ratio": 4, "lr": 0.1, "leakage_weight": 0})
    assert found.model.lora.scaled_alpha == 16.0
    assert found.training.lr == 0.1 and found.objective.leakage_weight == 0.0
    assert set(SHORT_NAMES.values()) <= set(leaves())


def test_a_searched_alpha_replaces_the_ratio_of_the_file(write: Write) -> None:
    file = load_experiment(write(MINIMAL + "model: {lora: {alpha_ratio: 4}}\n")).experiment
    lora = resolve(file, {"lora_alpha": 5}).model.lora
    assert (lora.alpha, lora.alpha_ratio) == (5.0, None)
    lora = resolve(resolve(file, {"lora_alpha": 5}), {"lora_alpha_ratio": 1}).model.lora
    assert (lora.alpha, lora.alpha_ratio) == (None, 1.0)
    with pytest.raises(ConfigError, match="not both"):
        resolve(file, {"lora_alpha": 5, "lora_alpha_ratio": 1})


def test_resolve_checks_values_together(experiment: Experiment) -> None:
    with pytest.raises(ConfigError, match=r"parameters: data.splits: held_fold must be below folds"):
        resolve(experiment, {"data.splits.held_fold": 7})


def test_equal_values_hash_equally_however_they_are_written(experiment: Experiment) -> None:
    one = resolve(experiment, {"lora_rank": 8.0, "lr": 1})
    two = resolve(experiment, {"model.lora.rank": 8, "training.lr": 1.0})
    assert one == two and experiment_hash(one) == experiment_hash(two)
    assert experiment_hash(one) != experiment_hash(experiment)


def test_tracking_is_no_part_of_the_hash_and_everything_else_is(experiment: Experiment) -> None:
    assert experiment_hash(experiment) == experiment_hash(load_like(experiment, tracking={"tensorboard": False}))
    for key, value in {"seed": 2, "tuning.slots": 5, "data.root": "y", "score.leakage_limit": 0.5}.items():
        assert experiment_hash(resolve(experiment, {key: value})) != experiment_hash(experiment), key


def load_like(experiment: Experiment, **sections: Any) -> Experiment:
    """The experiment with whole sections replaced."""
    return Experiment.model_validate({**experiment.model_dump(), **sections})


def test_what_is_written_is_read_back_equal(write: Write) -> None:
    text = MINIMAL + "model: {language: '1e-3', backbone: 'off'}\ntraining: {lr: 1.0e-7, heads_lr: 0.1234567890123456789}\n"
    original = load_experiment(write(text)).experiment
    assert original.model.language == "1e-3"
    written = dump_experiment(original)
    assert load_experiment(write(written)).experiment == original
    assert dump_experiment(load_experiment(write(written)).experiment) == written


def test_check_value_gives_the_experiments_own_type() -> None:
    assert [type(check_value("training.lr", value)) for value in (1, 1.0)] == [float, float]
    assert type(check_value("model.lora.rank", 8.0)) is int
    assert check_value("model.lora.alpha", None) is None
    with pytest.raises(ValidationError):
        check_value("model.lora.rank", 8.5)


@pytest.mark.parametrize(
    ("word", "meant"),
    [("learning_rate", "lr"), ("rank", "lora_rank"), ("z_dim", "objective.z_dim"), ("lora_rnk", "lora_rank"), ("xyzzy", None)],
)
def test_suggestions(word: str, meant: str | None) -> None:
    assert suggest(word) == meant
