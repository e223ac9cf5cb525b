"""Whatever the bytes: a result or a `ConfigError` that names the file, never another exception."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tune_accent.base.errors import ConfigError
from tune_accent.config.document import parse_document
from tune_accent.config.keys import leaves
from tune_accent.config.load import load_experiment, resolve
from tune_accent.config.schema import Experiment
from tune_accent.config.space import load_space, read_space

REPOSITORY = Path(__file__).parents[2]
DEMO, LORA = ((REPOSITORY / name).read_bytes() for name in ("configs/demo.yaml", "search_spaces/lora.yaml"))
PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([10**400, 10**39, 1e308, 5e-324])
)
NESTED = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=8
)
WORDS = [
    "value",
    "values",
    "min",
    "max",
    "q",
    "distribution",
    "parameters",
    "lr",
    "lora_rank",
    "config",
    "uniform",
    "q_uniform",
    "int_uniform",
]
WORDS += [
    "log_uniform_values",
    "q_log_uniform_values",
    "log_uniform",
    "categorical",
    "constant",
    "a: b",
    "&a",
    "*a",
    "!!int",
    "[",
    "{",
    "\n  ",
]
KEYED = st.dictionaries(st.sampled_from(WORDS[:6]), NESTED | st.sampled_from(WORDS), max_size=4)


@st.composite
def mutated(draw: st.DrawFn, source: bytes) -> bytes:
    """The file with a piece cut out, doubled, or replaced by bytes or by a word of the grammar."""
    data = source
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 60)))
        word = st.sampled_from([word.encode() for word in WORDS])
        data = data[:start] + draw(st.binary(max_size=6) | word | st.just(data[start:end] * 2)) + data[end:]
    return data


def survives(read: Any, file: Path, data: bytes) -> None:
    """Reading gives a result or a `ConfigError` in which every problem has a file and a message."""
    file.write_bytes(data)
    try:
        read(file)
    except ConfigError as error:
        assert error.problems and all(problem.file and problem.message for problem in error.problems)
        str(error).encode()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.binary(max_size=200) | mutated(DEMO))
def test_any_bytes_as_an_experiment(tmp_path_factory: Any, data: bytes) -> None:
    survives(load_experiment, tmp_path_factory.getbasetemp() / "garbage.yaml", data)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.binary(max_size=200) | mutated(LORA))
def test_any_bytes_as_a_space(tmp_path_factory: Any, data: bytes) -> None:
    survives(load_space, tmp_path_factory.getbasetemp() / "garbage.yaml", data)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(spec=KEYED | NESTED, name=st.sampled_from(["lr", "lora_rank", "config", "training.precision", "model.lora.dropout", "x"]))
def test_any_parameter(spec: Any, name: str) -> None:
    text = yaml.safe_dump(
        {"method": "grid", "parameters": {name: spec, "objective.z_dim": {"values": [8, 16]}}}, allow_unicode=True
    )
    try:
        space, problems = read_space(parse_document(text, "s.yaml"))
    except ConfigError as error:
        space, problems = None, list(error.problems)
    assert (space is None) == bool(problems)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(key=st.sampled_from(sorted(leaves())), value=NESTED)
def test_any_value_for_any_key(key: str, value: Any) -> None:
    experiment = Experiment.model_validate({"seed": 0, "data": {"root": "x"}})
    try:
        assert isinstance(resolve(experiment, {key: value}), Experiment)
    except ConfigError as error:
        assert error.problems
