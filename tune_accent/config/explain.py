"""Pydantic's complaints in plain words: the value that is there, the rule, the expected form."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tune_accent.base.errors import Problem
from tune_accent.config.compose import FLOAT, join
from tune_accent.config.document import Document
from tune_accent.config.keys import SHORT_NAMES, leaves, locate
from tune_accent.config.words import did_you_mean, nearest, shown

_BOUNDS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
    "multiple_of": ("a multiple of", "multiple_of"),
}
_KINDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list, [first, second]",
    "model_type": "a section of `key: value` lines",
    "model_attributes_type": "a section of `key: value` lines",
}


def explain(error: ValidationError, document: Document) -> list[Problem]:
    """One `Problem` with line and key for every fault that the schema found in `document`."""
    return [_explain(details, document) for details in error.errors(include_url=False)]


def rule_broken(error: ValidationError) -> str:
    """The first fault of a single value in words: `must be above 0, got -1`."""
    return _message(error.errors(include_url=False)[0])


def _explain(details: ErrorDetails, document: Document) -> Problem:
    holders, path = locate(details["loc"])
    key = reduce(join, path, "")
    if details["type"] == "extra_forbidden":
        return document.problem(key, "unknown key", _unknown_hint(str(path[-1]), holders))
    if details["type"] == "missing":
        return document.problem(key, "this key is required", f"add `{path[-1]}: ...`{_inside(path)}")
    return document.problem(key, _message(details), _hint(details))


def _inside(path: list[str | int]) -> str:
    return f" to `{reduce(join, path[:-1], '')}`" if path[:-1] else " at the top level"


def _unknown_hint(name: str, holders: Iterable[Any]) -> str:
    known = [field for holder in holders for field in holder.model_fields]
    elsewhere = SHORT_NAMES.get(name) or next((key for key in leaves() if key.rpartition(".")[2] == name), None)
    if nearest(name, known) is None and elsewhere:
        return f"it belongs at `{elsewhere}`"
    return did_you_mean(name, known, "the keys here are")


def _message(details: ErrorDetails) -> str:
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    if kind in _KINDS:
        return f"must be {_KINDS[kind]}, got {shown(value)}"
    if kind in _BOUNDS:
        words, limit = _BOUNDS[kind]
        return f"must be {words} {context[limit]:g}, got {shown(value)}"
    return _OTHERS.get(kind, _unforeseen)(details)


def _unforeseen(details: ErrorDetails) -> str:
    return f"{details['msg']}, got {shown(details['input'])}"


def _expected(details: ErrorDetails) -> list[str]:
    context = details.get("ctx", {})
    return re.findall(r"'([^']*)'", str(context.get("expected", context.get("expected_tags", ""))))


def _tag(details: ErrorDetails) -> str:
    return str(details["ctx"]["discriminator"]).strip("'")


def _text_pattern(details: ErrorDetails) -> str:
    return f"must start with a letter or digit and hold only letters, digits, `_`, `.` and `-`, got {shown(details['input'])}"


_OTHERS: Mapping[str, Callable[[ErrorDetails], str]] = {
    "literal_error": lambda details: f"must be one of {', '.join(_expected(details))}; got {shown(details['input'])}",
    "union_tag_invalid": lambda details: (
        f"`{_tag(details)}` must be one of {', '.join(_expected(details))}; got {shown(details['ctx']['tag'])}"
    ),
    "union_tag_not_found": lambda details: f"must say its `{_tag(details)}`",
    "too_short": lambda details: "must not be empty",
    "string_pattern_mismatch": _text_pattern,
    "value_error": lambda details: str(details["ctx"]["error"]),
}


def _hint(details: ErrorDetails) -> str | None:
    kind, value = details["type"], details["input"]
    if kind in ("literal_error", "union_tag_invalid"):
        near = nearest(str(details["ctx"].get("tag", value)), _expected(details))
        return f"did you mean `{near}`?" if near else None
    if kind == "bool_type":
        return "write true or false, without quotes"
    if kind == "string_type" and isinstance(value, (int, float)):
        return f'put it in quotes: "{shown(value)}"'
    if kind in ("int_type", "float_type") and isinstance(value, str) and re.fullmatch(rf"{FLOAT.pattern}|[-+]?[0-9]+", value):
        return "remove the quotes (and leading zeros)"
    if kind == "int_type" and isinstance(value, float) and value.is_integer():
        return f"write {int(value)}"
    if kind == "model_type" and value is None:
        return "remove the key, or indent its keys below it"
    return None
