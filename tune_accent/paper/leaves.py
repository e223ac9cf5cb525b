"""Where two trees of JSON values part: dotted keys, list places included, so that one number can be named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tune_accent.base.files import canonical_json

ABSENT = "nothing"
LONGEST = 60  # characters of a value that are shown


class Number(str):
    """A number as it is written: 0.30000000000000004 and …05 are one float and two numbers."""


def written(text: str) -> Any:
    """JSON with its numbers as they are written. `ValueError` where it is none."""
    return json.loads(text, parse_float=Number, parse_int=Number, parse_constant=Number)


def changed(one: Any, other: Any) -> Iterator[tuple[str, str, str]]:
    """Key, value in `one` and value in `other`, as JSON text, of every leaf that differs, by key."""
    before, after = dict(_leaves(one)), dict(_leaves(other))
    for key in sorted({*before, *after}):
        values = before.get(key, ABSENT), after.get(key, ABSENT)
        if values[0] != values[1]:
            yield key, short(values[0]), short(values[1])


def short(text: str) -> str:
    """`text`, cut where it is too long to be read in a line."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple) and value:
        for place, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{place}]")
    else:
        yield path, str(value) if isinstance(value, Number) else canonical_json(value)
