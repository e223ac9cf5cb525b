"""A YAML file as plain data in which every value knows its line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tune_accent.base.errors import ConfigError, Problem
from tune_accent.config.compose import CONTROL, Composer
from tune_accent.config.words import nearest, shown

MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class Document:
    """One YAML file as plain data.

    Attributes:
        file: the path as the person gave it.
        text: the file's text.
        data: dict, list, str, int, float, bool and None only; the top is a dict.
        lines: dotted path (`training.lr`, `evaluation.c_grid[1]`) → line, counted from 1.
        foreign: path → text of the plain values that a YAML 1.1 reader (W&B's) takes for another type.
        problems: tags, aliases, duplicate keys and the like; a document that has any must be refused, with what else is wrong in it.
    """

    file: str
    text: str
    data: dict[str, Any]
    lines: Mapping[str, int]
    foreign: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def line(self, key: str) -> int | None:
        """The line of `key`, or of its nearest ancestor that the file has; None when there is none."""
        while key and key not in self.lines:
            key = key[: max(key.rfind("."), key.rfind("["), 0)]
        return self.lines.get(key)

    def problem(self, key: str, message: str, hint: str | None = None) -> Problem:
        """A `Problem` at the line of `key`; use it for checks across keys or files."""
        return Problem(self.file, self.line(key), key, message, hint)


def read_document(path: str | Path) -> Document:
    """Read and parse a YAML file; the caller must refuse a document that has `problems`.

    Raises:
        ConfigError: no such file, not a text file, too large, too deep, or not YAML with a mapping at the top.
    """
    return parse_document(_read_text(Path(path)), str(path))


def parse_document(text: str, file: str) -> Document:
    """Parse YAML `text`; `file` is only named in problems. Raises `ConfigError` as `read_document` does."""
    composer = Composer(file)
    composer.run(text)
    if not isinstance(composer.root, dict):
        found = (
            "the file is empty" if composer.root is None else f"the file must hold `key: value` lines, got {shown(composer.root)}"
        )
        composer.fatal(None, "", found, "start from a file in configs/ or search_spaces/")
    return Document(file, text, composer.root, composer.lines, composer.foreign, tuple(composer.problems))


def similar_files(path: Path) -> str:
    """A hint for a path that is not there: the nearest name in its folder, or the YAML files it has."""
    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder {folder} in {Path.cwd()}"
    names = sorted(entry.name for entry in folder.iterdir() if entry.suffix in {".yaml", ".yml"})
    if near := nearest(path.name, names):
        return f"did you mean {folder / near}?"
    return f"{folder} has: {', '.join(names[:8])}" if names else f"{folder} has no YAML files"


def _read_text(path: Path) -> str:
    def refuse(message: str, hint: str | None = None) -> ConfigError:
        return ConfigError([Problem(str(path), None, "", message, hint)])

    try:
        if path.is_dir():
            raise refuse("is a folder, not a file", similar_files(path / "x.yaml"))
        if not path.exists():
            raise refuse("file not found", similar_files(path))
        if not path.is_file():
            raise refuse("is not a regular file")
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise refuse(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MAX_BYTES:
        raise refuse(f"is larger than {MAX_BYTES // 1_000_000} MB", "is it a configuration file?")
    return _decode(data, refuse)


def _decode(data: bytes, refuse: Callable[..., ConfigError]) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise refuse("is UTF-16 text", "save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refuse(
            f"is not a UTF-8 text file (byte {error.start} is {data[error.start]:#04x})", "save it as UTF-8, or check the path"
        ) from None
    if found := CONTROL.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise refuse(f"is not a text file (control character {ord(found.group()):#04x} in line {line})", "check the path")
    return text
