"""YAML events → plain data: a small, closed YAML with bounded cost.

Mappings with names as keys, lists, and null, true/false, whole numbers, numbers (`1e-3` included) and text. Anchors, aliases, tags and
duplicate keys are problems. Unlike YAML 1.1, `on`, `off`, `yes` and `no` are text. Depth and number of values are bounded before anything is
built, and the stack is explicit, so a hostile file costs no more than a long one. Does *not* bound the file's size: `document.py` does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml

from tune_accent.base.errors import ConfigError, Problem
from tune_accent.config.words import shown

MAX_DEPTH, MAX_VALUES, MAX_DIGITS, MAX_PROBLEMS = 20, 3_000, 40, 50

_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # events only: nothing of YAML's own construction runs
_NULL = re.compile(r"|~|null|Null|NULL")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
FLOAT = re.compile(
    r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_YAML_1_1: Any = yaml.resolver.Resolver()
_TAGS = {type(None): "null", bool: "bool", int: "int", float: "float", str: "str"}


def join(path: str, part: str | int) -> str:
    """One more part of a dotted path: `a` + `b` → `a.b`, `a` + 0 → `a[0]`. Unprintable names are escaped."""
    if isinstance(part, int):
        return f"{path}[{part}]"
    name = part if part.isprintable() else repr(part)
    name = name if len(name) <= 80 else name[:77] + "..."
    return f"{path}.{name}" if path else name


def parse_value(text: str) -> Any:
    """A plain scalar as the files read it: null, true/false, whole number, number, or the text itself."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text[0] in "tT"
    if len(text) > MAX_DIGITS:
        return text
    if _INT.fullmatch(text):
        return int(text.replace("_", ""))
    if FLOAT.fullmatch(text):
        return float(text.lower().replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))
    return text


def shortened(problems: list[Problem]) -> list[Problem]:
    """The problems of each file by line; where there are too many to read, the first, and a last one that counts the rest."""
    files = list(dict.fromkeys(problem.file for problem in problems))
    ordered = sorted(problems, key=lambda problem: (files.index(problem.file), problem.line or 0))
    rest = len(ordered) - MAX_PROBLEMS
    if rest <= 0:
        return ordered
    return [*ordered[:MAX_PROBLEMS], Problem(ordered[0].file, None, "", f"and {rest} more problems")]


@dataclass
class _Frame:
    """A mapping or list under construction; `key` is the pending key of a mapping."""

    value: dict[str, Any] | list[Any]
    path: str
    key: str | None = None
    duplicate: bool = False


class Composer:
    """Builds data from parse events with an explicit stack, and collects problems on the way."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.root: Any = None
        self.problems: list[Problem] = []
        self.lines: dict[str, int] = {}
        self.foreign: dict[str, str] = {}
        self._stack: list[_Frame] = []
        self._values = self._documents = 0

    def add(self, line: int | None, key: str, message: str, hint: str | None = None) -> None:
        """Note one problem."""
        self.problems.append(Problem(self.file, line, key, message, hint))

    def fatal(self, line: int | None, key: str, message: str, hint: str | None = None) -> NoReturn:
        """Note a last problem, after which there is no sense in reading on, and raise all of them."""
        self.add(line, key, message, hint)
        raise ConfigError(shortened(self.problems))

    def run(self, text: str) -> None:
        """Consume the events of `text`; raises `ConfigError` where it is not YAML."""
        try:
            for event in yaml.parse(text, Loader=_PARSER):
                self._event(event)
        except yaml.MarkedYAMLError as error:
            self.fatal(_line_of(error), "", f"not YAML: {error.problem or error.context}", _syntax_hint(text, _line_of(error)))
        except yaml.YAMLError as error:
            self.fatal(None, "", f"not YAML: {str(error).splitlines()[0]}")

    def _event(self, event: yaml.Event) -> None:
        assert event.start_mark is not None
        line = event.start_mark.line + 1
        if isinstance(event, yaml.DocumentStartEvent):
            self._one_document(line)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self._stack.pop()
        elif isinstance(event, yaml.NodeEvent):
            self._node(event, line)

    def _one_document(self, line: int) -> None:
        self._documents += 1
        if self._documents > 1:
            self.fatal(line, "", "a second document begins here (`---`)", "keep one document per file")

    def _node(self, event: yaml.NodeEvent, line: int) -> None:
        self._values += 1
        if self._values > MAX_VALUES:
            self.fatal(line, "", f"more than {MAX_VALUES} values", "is it a configuration file?")
        frame = self._stack[-1] if self._stack else None
        if frame is not None and isinstance(frame.value, dict) and frame.key is None:
            self._key(frame, event, line)
            return
        path = self._path(frame)
        if frame is not None and not frame.duplicate:
            self.lines.setdefault(path, line)
        self._refuse_references(event, path, line)
        self._place(frame, self._value(event, path, line))

    def _key(self, frame: _Frame, event: yaml.NodeEvent, line: int) -> None:
        assert isinstance(frame.value, dict)
        if not isinstance(event, yaml.ScalarEvent):
            self.fatal(line, frame.path, "a key must be a plain name", "write `name: value`")
        key = event.value
        path = join(frame.path, key)
        self._refuse_references(event, path, line)
        if event.implicit[0] and not isinstance(parse_value(key), str):
            self.add(line, path, f"a key must be a name, got {shown(parse_value(key))}")
        if CONTROL.search(key):
            self.add(line, path, "a key holds a control character")
        frame.key, frame.duplicate = key, key in frame.value
        if frame.duplicate:
            self.add(line, path, f"this key is given twice (first in line {self.lines.get(path)})", "keep one of them")
        self.lines.setdefault(path, line)

    def _path(self, frame: _Frame | None) -> str:
        if frame is None:
            return ""
        return join(frame.path, len(frame.value) if isinstance(frame.value, list) else str(frame.key))

    def _refuse_references(self, event: yaml.NodeEvent, path: str, line: int) -> None:
        if isinstance(event, yaml.AliasEvent):
            self.add(line, path, f"YAML aliases (`*{event.anchor}`) are not allowed", "write the value out")
        elif event.anchor is not None:
            self.add(line, path, f"YAML anchors (`&{event.anchor}`) are not allowed", "remove the anchor")
        tag = getattr(event, "tag", None)
        if tag is not None:
            self.add(line, path, f"YAML tags ({shown(tag)}) are not allowed", "remove it; the type follows from the value")

    def _value(self, event: yaml.NodeEvent, path: str, line: int) -> Any:
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path, line)
        if isinstance(event, yaml.AliasEvent):
            return None
        if len(self._stack) >= MAX_DEPTH:
            self.fatal(line, path[:200], f"nested deeper than {MAX_DEPTH} levels")
        return {} if isinstance(event, yaml.MappingStartEvent) else []

    def _scalar(self, event: yaml.ScalarEvent, path: str, line: int) -> Any:
        if CONTROL.search(event.value):
            self.add(line, path, "the text holds a control character")
        if not event.implicit[0]:
            return event.value
        value = parse_value(event.value)
        if len(event.value) > MAX_DIGITS and (_INT.fullmatch(event.value) or FLOAT.fullmatch(event.value)):
            self.add(line, path, f"a number of more than {MAX_DIGITS} characters")
        theirs = str(_YAML_1_1.resolve(yaml.ScalarNode, event.value, (True, False))).rpartition(":")[2]
        if theirs != _TAGS[type(value)]:
            self.foreign[path] = event.value
        return value

    def _place(self, frame: _Frame | None, value: Any) -> None:
        path = self._path(frame)
        if frame is None:
            self.root = value
        elif isinstance(frame.value, list):
            frame.value.append(value)
        else:
            if not frame.duplicate:
                frame.value[str(frame.key)] = value
            frame.key = None
        if isinstance(value, (dict, list)):
            self._stack.append(_Frame(value, path))


def _line_of(error: yaml.MarkedYAMLError) -> int | None:
    mark = error.problem_mark or error.context_mark
    return None if mark is None else mark.line + 1


def _syntax_hint(text: str, line: int | None) -> str:
    here = text.split("\n")[line - 1] if line is not None and line <= text.count("\n") + 1 else ""
    if "\t" in here[: len(here) - len(here.lstrip())]:
        return "indent with spaces, not tabs"
    return "check the indentation, and put text that holds `: ` or `#` or starts with a sign in quotes"
