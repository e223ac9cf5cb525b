"""The YAML reader: what it reads, what it refuses, and where it says so."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from tune_accent.base.errors import ConfigError
from tune_accent.config.compose import MAX_DEPTH, MAX_PROBLEMS, MAX_VALUES, parse_value
from tune_accent.config.document import Document, parse_document, read_document


def problems(document: Document) -> list[tuple[int | None, str, str]]:
    """Line, key and message of every problem."""
    return [(problem.line, problem.key, problem.message) for problem in document.problems]


def refused(text: str) -> str:
    """The message of a file that cannot be read at all."""
    with pytest.raises(ConfigError) as caught:
        parse_document(text, "f.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        ("-2.5e-4", -2.5e-4),
        ("3.", 3.0),
        (".5", 0.5),
        ("-.inf", -math.inf),
        ("1_000", 1000),
        ("-7", -7),
        ("0", 0),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("off", "off"),
        ("yes", "yes"),
        ("010", "010"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("nan", "nan"),
        ("e5", "e5"),
    ],
)
def test_plain_values(text: str, value: Any) -> None:
    read = parse_document(f"a: {text}", "f.yaml").data["a"]
    assert read == value and type(read) is type(value)
    assert parse_value(text) == value


def test_nan_is_a_number() -> None:
    assert math.isnan(parse_document("a: .nan", "f.yaml").data["a"])


def test_quotes_make_text() -> None:
    assert parse_document("{a: '1', b: \"true\", c: 'null', d: |\n  1\n}".replace("d: |\n  1\n", "d: '~'"), "f.yaml").data == {
        "a": "1",
        "b": "true",
        "c": "null",
        "d": "~",
    }


def test_structure_is_that_of_yaml() -> None:
    text = "a:\n  b: [1, {c: x}]\n  d: >\n    folded\n    text\ne: []\nf: {}\n"
    assert parse_document(text, "f.yaml").data == yaml.safe_load(text)


def test_every_value_knows_its_line() -> None:
    document = parse_document("# comment\na:\n  b: 1\n  c:\n    - x\n    - y\nd.e: 2\n", "f.yaml")
    assert [document.line(key) for key in ("a", "a.b", "a.c[1]", "d.e")] == [2, 3, 6, 7]
    assert document.line("a.c[9]") == 4, "the nearest ancestor that is there"
    assert document.line("a.new.deeper") == 2
    assert document.line("nothing") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\na: 2\n", (2, "a", "this key is given twice (first in line 1)")),
        ("a:\n  b: 1\n  c: 1\n  b: {d: 1}\n", (4, "a.b", "this key is given twice (first in line 2)")),
        ("a: &x 1\n", (1, "a", "YAML anchors (`&x`) are not allowed")),
        ("a: !!python/object:os.system x\n", (1, "a", "YAML tags ('tag:yaml.org,2002:python/object:os.system') are not allowed")),
        ("a: !!int '3'\n", (1, "a", "YAML tags ('tag:yaml.org,2002:int') are not allowed")),
        ("a: ! x\n", (1, "a", "YAML tags ('!') are not allowed")),
        ("1: x\n", (1, "1", "a key must be a name, got 1")),
        ("a: '\\0'\n".replace("'", '"'), (1, "a", "the text holds a control character")),
        ('a: "\\e[31m"\n', (1, "a", "the text holds a control character")),
        ("a: " + "9" * 5000 + "\n", (1, "a", "a number of more than 40 characters")),
    ],
)
def test_refusals_that_leave_the_rest_readable(text: str, expected: tuple[int, str, str]) -> None:
    assert problems(parse_document(text, "f.yaml")) == [expected]


def test_aliases_are_refused_with_their_anchors() -> None:
    found = problems(parse_document("a: &x {b: 1}\nc: *x\nd:\n  <<: *x\n", "f.yaml"))
    assert [line for line, _, _ in found] == [1, 2, 4]
    assert "aliases (`*x`)" in found[1][2]


def test_an_alias_bomb_costs_nothing() -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 40)]
    assert len(problems(parse_document("\n".join(lines), "f.yaml"))) > 300


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        ("# only a comment\n", "the file is empty"),
        ("- a\n", "must hold `key: value` lines, got a list of 1"),
        ("just text\n", "got 'just text'"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2: a second document begins here"),
        ("a: b: c\n", "f.yaml:1: not YAML: mapping values are not allowed"),
        ("a:\n\tb: 1\n", "indent with spaces, not tabs"),
        ("a: [1, 2\n", "not YAML"),
        ("a: 'x\n", "not YAML"),
        ("[a, b]: 1\n", "a key must be a plain name"),
        ("a: " + "[" * (MAX_DEPTH + 5), f"nested deeper than {MAX_DEPTH} levels"),
        ("[" * 200_000, f"nested deeper than {MAX_DEPTH} levels"),
        ("a: [" + "1," * (MAX_VALUES + 1) + "]", f"more than {MAX_VALUES} values"),
    ],
)
def test_refusals_that_end_the_reading(text: str, words: str) -> None:
    assert words in refused(text)


def test_many_problems_are_cut_and_counted() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_document("- &x 1\n" * (MAX_PROBLEMS + 7), "f.yaml")
    assert len(caught.value.problems) == MAX_PROBLEMS + 1
    assert "and 8 more problems" in str(caught.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\x00", "is not a UTF-8 text file (byte 0 is 0x89)"),
        (b"a: 1\nb: \x00\n", "control character 0x00 in line 2"),
        ("a: 1\n".encode("utf-16"), "is UTF-16 text"),
        (b"a: \xff\n", "save it as UTF-8"),
        (b"a: 1\n" * 300_000, "is larger than 1 MB"),
    ],
)
def test_files_that_are_no_text(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "f.yaml").write_bytes(data)
    with pytest.raises(ConfigError, match=r"f\.yaml") as caught:
        read_document(tmp_path / "f.yaml")
    assert words in str(caught.value)


def test_a_byte_order_mark_and_windows_lines_are_read(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_bytes(b"\xef\xbb\xbfa: 1\r\nb: \xc3\xa9\r\n")
    document = read_document(tmp_path / "f.yaml")
    assert document.data == {"a": 1, "b": "é"} and document.line("b") == 2


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").touch()
    with pytest.raises(ConfigError) as caught:
        read_document(tmp_path / "dmeo.yaml")
    assert "file not found" in str(caught.value) and f"did you mean {tmp_path / 'demo.yaml'}?" in str(caught.value)
    with pytest.raises(ConfigError, match="is a folder, not a file"):
        read_document(tmp_path)
    with pytest.raises(ConfigError, match="there is no folder"):
        read_document(tmp_path / "none" / "x.yaml")


def test_values_that_yaml_1_1_reads_otherwise_are_listed() -> None:
    document = parse_document("a: 1e-3\nb: 1.0e-3\nc: off\nd: 'off'\ne: 010\n", "f.yaml")
    assert dict(document.foreign) == {"a": "1e-3", "c": "off", "e": "010"}
