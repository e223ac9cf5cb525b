"""Numbers as text, and tables as CSV, as Markdown and for the terminal."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tune_accent.base.errors import visible
from tune_accent.evaluation import Figure

MISSING = "–"
_MARKUP = re.compile(r"([\\`*\[\]|~]|(?<!\w)_|_(?!\w))")  # what would act in Markdown; a `_` inside a word does not


@dataclass(frozen=True)
class Table:
    """Rows of text under a head.

    Attributes:
        columns: the head; a column whose cells are all numbers, or missing, is aligned to the right.
        rows: a text per column.
        caption: one line above the table.
        marked: numbers of the rows that stand out, from 0.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    marked: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        uneven = [row for row in self.rows if len(row) != len(self.columns)]
        if uneven:
            raise ValueError(f"a row has {len(uneven[0])} cells, the table {len(self.columns)} columns")

    @property
    def right(self) -> tuple[bool, ...]:
        """Whether each column holds numbers."""
        cells = [[row[place] for row in self.rows] for place in range(len(self.columns))]
        return tuple(any(column) and all(is_number(cell) for cell in column) for column in cells)


@dataclass(frozen=True)
class Sheet:
    """A table in two forms: as people read it, and with its exact values.

    Attributes:
        name: file name without ending.
        table: what is read; its caption says what the numbers are.
        records: what is computed with: the same keys in every record; more columns than the table, or other rows, are allowed.
        notes: below the table, one sentence each.
    """

    name: str
    table: Table
    records: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...] = ()


def sheet_markdown(sheet: Sheet) -> str:
    """The table as Markdown, its notes below it."""
    notes = "".join(f"\n{escape_markdown(note)}\n" for note in sheet.notes)
    return to_markdown(sheet.table) + notes


def number(value: float | None, *, signed: bool = False, digits: int = 3) -> str:
    """A number with a fixed count of digits, or the sign of a missing one."""
    if value is None:
        return MISSING
    rounded = round(value, digits) or 0.0  # no −0.000
    return f"{rounded:+.{digits}f}" if signed else f"{rounded:.{digits}f}"


def interval(figure: Figure, *, signed: bool = False) -> str:
    """`0.642 [0.51, 0.75]`: the value and its 95 % interval over speakers, where it has one."""
    value = number(figure.value, signed=signed)
    if figure.value is None or figure.low is None or figure.high is None:
        return value
    return f"{value} [{number(figure.low, signed=signed, digits=2)}, {number(figure.high, signed=signed, digits=2)}]"


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """CSV of records that have the same keys; floats as `repr`, None as nothing."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if rows:
        writer.writerow(list(rows[0]))
    writer.writerows([_cell(row[name]) for name in rows[0]] for row in rows)
    return out.getvalue()


def to_text(table: Table) -> str:
    """Columns of equal width for a terminal; marked rows begin with a star."""
    lines = [table.columns, *table.rows]
    widths = [max(len(visible(line[place])) for line in lines) for place in range(len(table.columns))]
    aligned = list(zip(widths, table.right, strict=True))
    shown = ["  ".join(_aligned(visible(cell), *how) for cell, how in zip(line, aligned, strict=True)).rstrip() for line in lines]
    return "".join(f"{'*' if place - 1 in table.marked else ' '} {line}\n" for place, line in enumerate(shown))


def to_markdown(table: Table) -> str:
    """A table of GitHub's Markdown; marked rows in bold."""
    rule = ["---:" if right else "---" for right in table.right]
    lines = [_line(map(escape_markdown, table.columns)), _line(rule)]
    for place, row in enumerate(table.rows):
        cells = map(escape_markdown, row)
        lines.append(_line(f"**{cell}**" if cell and place in table.marked else cell for cell in cells))
    caption = f"{escape_markdown(table.caption)}\n\n" if table.caption else ""
    return caption + "\n".join(lines) + "\n"


def escape_markdown(text: str) -> str:
    """`text` as one line that Markdown shows as it is: no markup, no HTML, no second line."""
    plain = " ".join(visible(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(r"\\\1", plain)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)


def _aligned(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)


def is_number(cell: str) -> bool:
    """Whether a cell holds a number, with interval or standard deviation or not, or none."""
    return cell in ("", MISSING) or re.fullmatch(r"[+-]?\d[\d., ]*( ± \d[\d.]*)?( \[[-+\d., ]+\])?", cell) is not None
