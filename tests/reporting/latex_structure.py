"""What can be told of LaTeX without an engine: braces, environments, and as many cells in every row."""

from __future__ import annotations

import re


def unescaped(text: str, letter: str) -> int:
    """How often `letter` stands in `text` without a backslash before it."""
    return len(re.findall(rf"(?<!\\){re.escape(letter)}", text))


def check_structure(text: str, columns: int | None = None) -> None:
    """Assert that the tables of `text` are balanced.

    Args:
        text: of a `.tex` file.
        columns: of every table; None takes each table's own.
    """
    assert unescaped(text, "{") == unescaped(text, "}")
    assert unescaped(text, "$") % 2 == 0
    assert all(line.endswith("%") or not unescaped(line, "%") for line in text.splitlines())
    open_now: list[str] = []
    for kind, name in re.findall(r"(?<!\\)\\(begin|end)\{(.*?)\}", text):
        if kind == "begin":
            open_now.append(name)
        else:
            assert open_now and open_now.pop() == name
    assert not open_now
    for layout, body in re.findall(r"\\begin\{tabular\}\{([lr]*)\}\n(.*?)\\end\{tabular\}", text, re.S):
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert rows
        assert {unescaped(row, "&") + 1 for row in rows} == {columns or len(layout)}
        rules = [line for line in body.splitlines() if not line.endswith(r"\\")]
        assert rules == [r"\toprule", r"\midrule", r"\bottomrule"]
