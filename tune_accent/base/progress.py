"""How long work tells how far it is: a callable, so that the rooms below the entries need no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, int, int], None]  # (label of the work, done, total), called whenever `done` changes


def silent(label: str, done: int, total: int) -> None:
    """The `Progress` that shows nothing."""


@contextmanager
def bars(show: bool = True) -> Iterator[Progress]:
    """A `Progress` that draws on stderr: a bar per label on a terminal, a line when a label is done elsewhere."""
    if not show:
        yield silent
    elif sys.stderr.isatty():
        with _terminal_bars() as progress:
            yield progress
    else:
        yield _line_when_done


@contextmanager
def _terminal_bars() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class Rate(ProgressColumn):
        """Steps per second."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(
                "" if speed is None else f"{speed:.1f}/s" if speed < 10 else f"{speed:.0f}/s", style="progress.data.speed"
            )

    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with RichProgress(*columns, console=Console(stderr=True)) as drawn:
        tasks: dict[str, TaskID] = {}

        def progress(label: str, done: int, total: int) -> None:
            if label not in tasks:
                tasks[label] = drawn.add_task(label, total=total)
            drawn.update(tasks[label], completed=done, total=total)

        yield progress


def _line_when_done(label: str, done: int, total: int) -> None:
    if done == total:
        sys.stderr.write(f"{label}: {total}\n")
