"""The space file: W&B's grammar, what it means here, and every refusal with its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tune_accent.base.errors import ConfigError
from tune_accent.config.document import parse_document
from tune_accent.config.space import (
    Categorical,
    Constant,
    Integer,
    LoadedSpace,
    Parameter,
    Uniform,
    load_space,
    read_space,
    space_from_dict,
)

HEAD = "method: random\nparameters:\n"
LR = "  lr: {min: 0.1, max: 0.2}\n"
Write = Callable[[str], Path]


def space_of(text: str) -> LoadedSpace:
    """The space of a text that has no problems."""
    space, problems = read_space(parse_document(text, "s.yaml"))
    assert space is not None, [str(problem) for problem in problems]
    return space


def one(line: str) -> Parameter:
    """The parameter of one line."""
    return space_of(f"{HEAD}  {line}\n").space.parameters[0]


def faults(text: str) -> list[tuple[int | None, str, str, str | None]]:
    """Line, key, message and hint of everything that is wrong."""
    space, problems = read_space(parse_document(text, "s.yaml"))
    assert space is None
    return [(problem.line, problem.key, problem.message, problem.hint) for problem in problems]


@pytest.mark.parametrize(
    ("line", "parameter"),
    [
        ("lora_rank: {values: [2, 4, 8]}", Categorical("lora_rank", (2, 4, 8))),
        ("leakage_weight: {values: [0, 0.1, 3]}", Categorical("leakage_weight", (0.0, 0.1, 3.0))),
        ("training.precision: {values: [fp32, bf16]}", Categorical("training.precision", ("fp32", "bf16"))),
        ("model.lora.code_predictor: {values: [true, false]}", Categorical("model.lora.code_predictor", (True, False))),
        ("training.patience: {values: [null, 3]}", Categorical("training.patience", (None, 3))),
        ("lora_rank: {min: 2, max: 32}", Integer("lora_rank", 2, 32)),
        ("lora_rank: {distribution: int_uniform, min: 2, max: 32}", Integer("lora_rank", 2, 32)),
        ("lr: {min: 1e-4, max: 1}", Uniform("lr", 1e-4, 1.0)),
        ("lr: {distribution: uniform, min: 1, max: 2}", Uniform("lr", 1.0, 2.0)),
        ("lr: {distribution: log_uniform_values, min: 1e-4, max: 1e-2}", Uniform("lr", 1e-4, 1e-2, log=True)),
        ("leakage_weight: {distribution: q_uniform, min: 0, max: 3}", Uniform("leakage_weight", 0.0, 3.0, q=1.0)),
        ("leakage_weight: {distribution: q_uniform, min: 0, max: 3, q: 0.5}", Uniform("leakage_weight", 0.0, 3.0, q=0.5)),
        ("lora_rank: {distribution: q_log_uniform_values, min: 2, max: 64, q: 2}", Uniform("lora_rank", 2, 64, log=True, q=2)),
    ],
)
def test_distributions(line: str, parameter: Parameter) -> None:
    read = one(line)
    assert read == parameter
    assert [type(value) for value in read.edges] == [type(value) for value in parameter.edges]


def test_constants_do_not_vary() -> None:
    space = space_of(
        HEAD + "  training.batch_size: {value: 6}\n  objective.z_dim: {distribution: constant, value: 16}\n" + LR
    ).space
    assert space.constants == {"training.batch_size": 6, "objective.z_dim": 16}
    assert [parameter.name for parameter in space.searched] == ["lr"]
    assert isinstance(space.parameters[0], Constant)


def test_q_rounds_as_wandb_does() -> None:
    parameter = Uniform("x", 0.0, 1.0, q=0.25)
    assert [parameter.snap(value) for value in (0.1, 0.125, 0.13, 0.375, 0.9)] == [0.0, 0.0, 0.25, 0.5, 1.0]
    assert Uniform("x", 0.0, 1.0).snap(0.123) == 0.123


def test_settings() -> None:
    text = (
        "name: my sweep\nmethod: bayes\nmetric: {name: accent_f1, goal: maximize}\nrun_cap: 7\n"
        "early_terminate: {type: hyperband, min_iter: 2, eta: 4, strict: true}\nproject: p\nentity: e\ndescription: d\n"
        "parameters:\n  config: {value: configs/x.yaml}\n"
    )
    space = space_of(text + LR)
    assert (space.method, space.metric, space.goal, space.run_cap, space.name) == (
        "bayes",
        "accent_f1",
        "maximize",
        7,
        "my sweep",
    )
    assert (space.min_iter, space.eta, space.max_iter, space.config_path) == (2, 4, None, "configs/x.yaml")
    assert [parameter.name for parameter in space.space.parameters] == ["lr"], "config is no parameter"
    assert [note.key for note in space.notes] == ["early_terminate.strict"]


def test_what_is_left_out() -> None:
    space = space_of(HEAD + LR)
    assert (space.metric, space.goal, space.run_cap, space.min_iter, space.eta, space.config_path, space.name) == (
        *("score", "maximize", None, None, 3, None, None),
    )


def test_rungs_counted_down_from_max_iter() -> None:
    space = space_of("early_terminate: {type: hyperband, max_iter: 18, s: 2}\n" + HEAD + LR)
    assert (space.min_iter, space.eta, space.max_iter) == (2, 3, 18)
    found = faults("early_terminate: {type: hyperband, max_iter: 10, s: 2}\n" + HEAD + LR)
    assert found[0][1:3] == ("early_terminate.s", "max_iter 10 cannot be divided by eta 3 2 times")


def test_a_grid_is_counted() -> None:
    head = "method: grid\nparameters:\n  lora_rank: {values: [2, 4]}\n"
    line = "  leakage_weight: {distribution: q_uniform, min: 0, max: 0.3, q: 0.1}\n  training.batch_size: {min: 4, max: 6}\n"
    found = space_of(head + line).space
    assert found.grid_size == 2 * 3 * 3 and found.parameters[1].grid == (0.0, 0.1, 0.2), "max is no point of it, as in W&B"
    assert Uniform("lr", 0.5, 0.5, q=0.1).grid == (0.5,)
    wrong = faults(head + LR)
    assert wrong[0][:3] == (4, "parameters.lr", "`method: grid` needs values that can be counted")
    assert faults(head + "  training.batch_size: {min: 1, max: 999999999}\n")[0][1] == "parameters.training.batch_size"


@pytest.mark.parametrize(
    ("line", "key", "message", "hint"),
    [
        ("lr: {min: 2, max: 1}", "lr.min", "must not be above max (1), got 2", None),
        ("lora_rank: {values: []}", "lora_rank.values", "must be a list with at least one value, got a list of 0", None),
        ("lora_rank: {values: 3}", "lora_rank.values", "must be a list with at least one value, got 3", None),
        ("lora_rank: {values: [2, 4, 2]}", "lora_rank.values[2]", "2 is given twice", None),
        ("leakage_weight: {values: [1, 1.0]}", "leakage_weight.values[1]", "1.0 is given twice", None),
        ("lora_rank: {values: [2, [4]]}", "lora_rank.values[1]", "must be a single value, got a list of 1", None),
        ("lora_rank: {values: [2, 0]}", "lora_rank.values[1]", "must be at least 1, got 0 (this is model.lora.rank)", None),
        ("lora_rank: {values: ['8']}", "lora_rank.values[0]", "must be a whole number, got '8'", None),
        ("lr: {value: 1, values: [1]}", "lr", "has both `value` and `values`", None),
        ("lr: {value: 1, min: 1}", "lr.min", "has no place in `constant`", "constant takes value"),
        ("lr: {min: 0.1}", "lr", "needs `max` (uniform)", None),
        ("lr: {min: .nan, max: 1}", "lr.min", "must be a finite number, got nan", None),
        ("lr: {min: 0.1, max: .inf}", "lr.max", "must be a finite number, got inf", None),
        ("lr: {min: true, max: 3}", "lr.min", "must be a", None),
        ("lr: {min: '0.1', max: 3}", "lr.min", "must be a finite number, got '0.1'", None),
        ("lr: {min: 0.0, max: 1.0}", "lr.min", "must be above 0, got 0.0 (this is training.lr)", None),
        (
            "lr: {distribution: log_uniform, min: -9.2, max: -2.3}",
            "lr.distribution",
            "`log_uniform` takes exponents",
            "min: 0.000101",
        ),
        (
            "lr: {distribution: q_log_uniform, min: 1, max: 2}",
            "lr.distribution",
            "`q_log_uniform` takes exponents",
            "q_log_uniform_values",
        ),
        (
            "lr: {distribution: log_uniform_values, min: 0, max: 1}",
            "lr.min",
            "must be above 0 on a log scale, got 0",
            "values: [0, ",
        ),
        ("lr: {distribution: log_uniform_values, min: -1, max: 1}", "lr.min", "must be above 0 on a log scale, got -1", None),
        ("lr: {distribution: normal, mu: 0, sigma: 1}", "lr.distribution", "`normal` is W&B's, but not supported", None),
        (
            "lr: {distribution: unifrom, min: 0, max: 1}",
            "lr.distribution",
            "unknown distribution 'unifrom'",
            "did you mean `uniform`?",
        ),
        ("lr: {distribution: uniform, min: 1, max: 2, q: 1}", "lr.q", "has no place in `uniform`", None),
        ("lr: {distribution: uniform, min: 1, mx: 2}", "lr", "needs `max` (uniform)", None),
        ("lr: {distribution: q_uniform, min: 1, max: 2, q: 0}", "lr.q", "must be above 0, got 0", None),
        ("lr: {distribution: q_uniform, min: 0.4, max: 2, q: 1}", "lr.min", "must be above 0, got 0.0", None),
        ("lr: {distribution: q_uniform, min: 1, max: 2, q: 1e-300}", "lr.q", "must not be that small", None),
        ("lr: {distribution: int_uniform, min: 0.5, max: 2}", "lr.min", "must be a whole number, got 0.5", "uniform"),
        ("lora_rank: {min: 2.0, max: 8.0}", "lora_rank", "`model.lora.rank` takes whole numbers only", None),
        ("lora_rank: {min: 0, max: 8}", "lora_rank.min", "must be at least 1, got 0", None),
        ("model.lora.dropout: {min: 0.0, max: 1.0}", "model.lora.dropout.max", "must be below 1, got 1.0", None),
        ("lr: {vlaues: [1]}", "lr", "says nothing to search", "did you mean `values`?"),
        ("lr: {}", "lr", "says nothing to search", None),
        ("lr: 0.1", "lr", "must be a section with `value`, `values`, or `min` and `max`, got 0.1", "write `value: ...`"),
        ("lr: [0.1]", "lr", "must be a section", "write `values: [...]`"),
        ("training: {parameters: {lr: {value: 1}}}", "training", "the experiment has no such key", None),
        ("lr: {parameters: {a: {value: 1}}}", "lr.parameters", "nested parameters are not supported", "dotted name"),
        ("lr: {values: [1], probabilities: [1]}", "lr.probabilities", "has no place in `categorical`", None),
        ("learning_rate: {min: 0.1, max: 1.0}", "learning_rate", "the experiment has no such key", "did you mean `lr`?"),
        ("training.batchsize: {values: [1]}", "training.batchsize", "the experiment has no such key", "`training.batch_size`"),
        ("training.epochs: {values: [1, 2]}", "training.epochs", "cannot be searched: it is the length of a full trial", None),
        ("training.sub_frames: {values: [1, 2]}", "training.sub_frames", "cannot be searched: it is part of the method", None),
        ("seed: {values: [1, 2]}", "seed", "cannot be searched", None),
        ("score.leakage_limit: {min: 0.1, max: 0.2}", "score.leakage_limit", "cannot be searched", None),
        ("model.backbone: {values: [a, b]}", "model.backbone", "cannot be searched", None),
        ("config: {values: [a.yaml, b.yaml]}", "config", "must name one experiment file", None),
        ("config: {value: 3}", "config", "must name one experiment file", None),
        ("config: x.yaml", "config", "must name one experiment file", "write `config: {value:"),
    ],
)
def test_one_bad_parameter(line: str, key: str, message: str, hint: str | None) -> None:
    found = faults(f"{HEAD}  training.batch_size: {{values: [4, 8]}}\n  {line}\n")
    at, where, said, advice = found[0]
    assert (at, where) == (4, f"parameters.{key}") and said.startswith(message)
    assert hint is None or (advice is not None and hint in advice)


@pytest.mark.parametrize(
    ("line", "key", "message", "hint"),
    [
        ("run_cap: 0", "run_cap", "must be a whole number of at least 1, got 0", None),
        ("run_cap: 2.5", "run_cap", "must be a whole number of at least 1, got 2.5", None),
        ("run_cap: true", "run_cap", "must be a whole number of at least 1, got true", None),
        ("runcap: 5", "runcap", "unknown key", "did you mean `run_cap`?"),
        ("seed: 5", "seed", "unknown key", None),
        ("metrics: []", "metrics", "several metrics are not supported", None),
        ("metric: score", "metric", "must be a section with `name` and `goal`, got 'score'", None),
        ("metric: {name: score}", "metric", "needs a `goal`", "add `goal: maximize`"),
        ("metric: {name: score, goal: minimize}", "metric.goal", "must be maximize for score, got 'minimize'", None),
        ("metric: {name: accent_f, goal: maximize}", "metric.name", "trials report no metric 'accent_f'", "`accent_f1`"),
        ("metric: {name: val_loss, goal: minimize, target: 1}", "metric.target", "is not supported", None),
        ("early_terminate: {type: envelope}", "early_terminate", "must have `type: hyperband`, got 'envelope'", None),
        ("early_terminate:", "early_terminate", "must have `type: hyperband`", None),
        ("early_terminate: {type: hyperband}", "early_terminate", "needs `min_iter`", None),
        (
            "early_terminate: {type: hyperband, min_iter: 0}",
            "early_terminate.min_iter",
            "must be a whole number of at least 1",
            None,
        ),
        (
            "early_terminate: {type: hyperband, min_iter: 1, eta: 1}",
            "early_terminate.eta",
            "must be a whole number of at least 2",
            None,
        ),
        ("early_terminate: {type: hyperband, min_iter: 1, s: 2}", "early_terminate", "has `min_iter` beside `s`", None),
        (
            "early_terminate: {type: hyperband, min_iter: 1, etaa: 2}",
            "early_terminate.etaa",
            "unknown key",
            "did you mean `eta`?",
        ),
        ("program: train.py", "program", "must be tune_accent/trial.py, got 'train.py'", None),
        ("command: [python, train.py, '${args}']", "command", "must start `python -m tune_accent.trial`", None),
        ("command: [python, -m, tune_accent.trial]", "command", "must pass the parameters on with `${args}`", None),
        ("command: python -m tune_accent.trial", "command", "must start", "one word per item"),
        ("name: 3", "name", "must be text, got 3", None),
    ],
)
def test_one_bad_setting(line: str, key: str, message: str, hint: str | None) -> None:
    at, where, said, advice = faults(f"{line}\n{HEAD}{LR}")[0]
    assert (at, where) == (1, key) and said.startswith(message)
    assert hint is None or (advice is not None and hint in advice)


@pytest.mark.parametrize("method", ["baies", "custom", 3, "null"])
def test_a_bad_method(method: object) -> None:
    at, key, message, _ = faults(f"method: {method}\nparameters:\n{LR}")[0]
    assert (at, key) == (1, "method") and message.startswith("must be one of bayes, random, grid; got")


@pytest.mark.parametrize("rest", ["", "parameters:\n", "parameters: {}\n", "parameters: [1]\n", "parameters: {lr: {value: 1}}\n"])
def test_nothing_to_search(rest: str) -> None:
    assert [key for _, key, _, _ in faults("method: random\n" + rest)] == ["parameters"]


@pytest.mark.parametrize(
    "command",
    ["['${env}', python, -m, tune_accent.trial, '${args}']", "['${env}', '${interpreter}', '${program}', '${args}']"],
)
def test_commands_that_start_our_trial(command: str) -> None:
    assert space_of(f"program: tune_accent/trial.py\ncommand: {command}\n{HEAD}{LR}")


@pytest.mark.parametrize(
    "pair", [("lr", "training.lr"), ("lora_alpha", "lora_alpha_ratio"), ("lora_alpha", "model.lora.alpha_ratio")]
)
def test_one_key_under_two_names(pair: tuple[str, str]) -> None:
    found = faults(HEAD + "".join(f"  {name}: {{min: 0.1, max: 0.2}}\n" for name in pair))
    assert [(line, message) for line, _, message, _ in found] == [(4, f"sets the same as `{pair[0]}`")]


def test_all_problems_at_once(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "method: baies\nrun_cap: 0\nfoo: 1\nparameters:\n  lr: {min: 3, max: 1}\n  lr: {value: 1}\n  lora_rank: {values: []}\n  rnk: 3\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_space(path)
    assert [problem.line for problem in caught.value.problems] == [1, 2, 3, 5, 6, 7, 8]
    assert str(caught.value).startswith(
        f"{path}:1: method: must be one of bayes, random, grid; got 'baies'\n  → did you mean `bayes`?"
    )


def test_notes_on_what_wandb_reads_otherwise() -> None:
    space = space_of(HEAD + "  lr: {min: 1e-3, max: 0.2}\n  leakage_weight: {min: 0, max: 3}\n")
    assert sorted((note.line, note.key) for note in space.notes) == [(3, "parameters.lr.min"), (4, "parameters.leakage_weight")]
    assert space_of(HEAD + LR).notes == ()


def test_the_dictionary_names_what_decides_the_trials() -> None:
    one, two = space_of(HEAD + LR), space_of("run_cap: 5\n" + HEAD + LR)
    assert one.to_dict() == two.to_dict(), "the number of trials is no part of it"
    assert one.to_dict() != space_of(HEAD + LR.replace("0.2", "0.3")).to_dict()
    assert one.to_dict()["parameters"]["lr"] == {
        "kind": "uniform",
        "name": "lr",
        "low": 0.1,
        "high": 0.2,
        "log": False,
        "q": None,
    }


@pytest.mark.parametrize("path", sorted(Path("search_spaces").rglob("*.yaml")), ids=str)
def test_a_space_comes_back_from_the_record_of_it(path: Path) -> None:
    space = load_space(path)
    plain = yaml.safe_load(yaml.safe_dump({"run_cap": space.run_cap, **space.to_dict()}, sort_keys=False))
    back = space_from_dict(plain, "spec.yaml")
    assert back.space == space.space
    assert back.to_dict() == space.to_dict()
    assert back.run_cap == space.run_cap
