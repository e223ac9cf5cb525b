"""Values and names in the words of an error message."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


def nearest(word: str, options: Iterable[str]) -> str | None:
    """The option that `word` was most likely meant to be, or None."""
    by_lower = {option.lower(): option for option in options}
    found = difflib.get_close_matches(word.lower()[:100], list(by_lower), n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def did_you_mean(word: str, options: Iterable[str], what: str) -> str:
    """The hint for an unknown word: the nearest option or, where none is near, all of them."""
    known = list(options)
    near = nearest(word, known)
    return f"did you mean `{near}`?" if near else f"{what}: {', '.join(known)}"


def shown(value: Any) -> str:
    """`value` as a message shows it: short, printable, and with its type where that is what surprises."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
