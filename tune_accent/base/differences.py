"""What differs between two trees of settings, a line per key: `training.lr: 0.005 → 0.01`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tune_accent.base.files import canonical_json

SHOWN = 20  # changes that a refusal lists


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Indented lines of the form `key: was → now`, at most `SHOWN` and one that counts the rest; `experiment.` is left out of the keys."""
    before, after = dict(_leaves(was)), dict(_leaves(now))
    lines = [
        f"    {key}: {before.get(key, 'absent')} → {after.get(key, 'absent')}"
        for key in [*after, *(key for key in before if key not in after)]
        if before.get(key) != after.get(key)
    ]
    return lines if len(lines) <= SHOWN else [*lines[:SHOWN], f"    … and {len(lines) - SHOWN} more"]


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Dotted path and value, as JSON text, of everything in a tree of mappings."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, key if not path or path == "experiment" else f"{path}.{key}")
    else:
        yield path, canonical_json(value)
