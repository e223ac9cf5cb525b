"""Findings on a terminal and in a pipe: a line each as they come, what to do below, a sum at the end."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import IO

from tune_accent.base.errors import visible
from tune_accent.checking.finding import Finding, Status

COLOURS: dict[Status, str] = {"ok": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}
NAME, STATUS = 16, 8


class Shown:
    """Writes findings: wrapped and coloured on a terminal, one line for each plain text line elsewhere."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self.stream = stream or sys.stdout

    def show(self, one: Finding) -> None:
        """One finding, at once."""
        self._terminal(one) if self.stream.isatty() else self.stream.write(plain(one))
        self.stream.flush()

    def _terminal(self, one: Finding) -> None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 1))
        for width in (NAME, STATUS):
            grid.add_column(width=width, no_wrap=True)
        grid.add_column(ratio=1)
        body = Text(visible(one.found))
        if one.fix:
            body.append(f"\n→ {visible(one.fix)}", style="cyan")
        grid.add_row(Text(one.name, style="bold"), Text(one.status, style=COLOURS[one.status]), body)
        Console(file=self.stream).print(grid)


def plain(one: Finding) -> str:
    """A finding as text, with what to do on a line of its own."""
    head = f"{one.name:<{NAME}} {one.status:<{STATUS}} "
    lines = [head + visible(one.found).replace("\n", " ")]
    if one.fix:
        lines.append(f"{'':{len(head)}}→ {visible(one.fix)}")
    return "\n".join(lines) + "\n"


def closing_words(found: Sequence[Finding], config: str) -> str:
    """The sum, and what comes next."""
    counts = Counter(one.status for one in found)
    told = [f"{counts['ok']} ok"]
    for status in ("warning", "failed", "skipped"):
        if counts[status]:
            told.append(f"{counts[status]} {status} ({', '.join(one.name for one in found if one.status == status)})")
    head = f"\n{len(found)} checks: {', '.join(told)}.\n"
    if counts["failed"]:
        return head + "Mend what failed, then give the same command again.\n"
    return head + f"Next: python -m tune_accent.audit {config}\n"
