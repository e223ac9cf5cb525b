"""What a person sees while a search runs: a live table on a terminal, a line per finished trial elsewhere. It only looks at the core."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import IO, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tune_accent.reporting.search_view import states
from tune_accent.reporting.search_words import short
from tune_accent.tuning.core import Core, Trial

REFRESH_S = 0.5
FIGURES = (("accent_f1", "F1"), ("speaker_leakage", "leakage"), ("score", "score"))


class Pace:
    """Remaining wall clock from the epochs trained so far."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.began, self.trained = time.monotonic(), 0

    def epoch_done(self) -> None:
        """One more epoch is trained."""
        self.trained += 1

    def remaining_s(self) -> float | None:
        """Seconds left, or None before there is anything to go by. Trials to come are taken to last as long as ended ones did."""
        if self.trained < self.core.settings.slots:
            return None
        per_epoch = (time.monotonic() - self.began) / self.trained
        ended = [len(trial.reports) for trial in self.core.trials if trial.state not in ("RUNNING", "DUPLICATE")]
        typical = sum(ended) / len(ended) if ended else self.core.settings.epochs
        running = [len(trial.reports) for trial in self.core.trials if trial.state == "RUNNING"]
        to_come = self.core.settings.run_cap - len(self.core.trials)
        return per_epoch * (to_come * typical + sum(max(1.0, typical - done) for done in running))


def view(core: Core, name: str, rule: str, stream: IO[str] | None = None) -> LiveTable | Lines:
    """The live table on a terminal, plain lines elsewhere (or with TERM=dumb).

    Args:
        core: the search.
        name: of the results folder.
        rule: how the best trial is chosen, in words.
        stream: where to show it; None: stderr.
    """
    stream = stream or sys.stderr
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        return LiveTable(core, name, rule, stream)
    return Lines(core, stream)


class LiveTable:
    """Trials in their slots, the best so far with its rule, done/total, time left."""

    def __init__(self, core: Core, name: str, rule: str, stream: IO[str]) -> None:
        self.core, self.name, self.rule = core, name, rule
        self.pace = Pace(core)
        self._live = Live(console=Console(file=stream), get_renderable=self._draw, refresh_per_second=1 / REFRESH_S)

    def __enter__(self) -> LiveTable:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def epoch_done(self) -> None:
        """An epoch was trained."""
        self.pace.epoch_done()

    def trial_ended(self) -> None:
        """Nothing: the table is drawn anew anyway."""

    def _draw(self) -> RenderableType:
        running = any(trial.state == "RUNNING" for trial in self.core.trials)
        table = [running_table(self.core, self.name)] if running else []
        return Group(*table, self._best(), self._footer())

    def _best(self) -> Text:
        best = self.core.best()
        shown = describe(best) if best else "none has run its full length yet"
        return Text.assemble(("best so far  ", "bold"), shown, (f"\n             {self.rule}", "dim"))

    def _footer(self) -> RenderableType:
        total = self.core.settings.run_cap
        ended = sum(trial.state != "RUNNING" for trial in self.core.trials)
        line = Table.grid(padding=(0, 2))
        line.add_row(
            f"{ended}/{total} trials", ProgressBar(total=total, completed=ended, width=30), states(self.core.trials), self._eta()
        )
        return line

    def _eta(self) -> str:
        left = self.pace.remaining_s()
        return f"about {duration(left)} left" if left else ""


class Lines:
    """One line per finished trial, for logs and pipes."""

    def __init__(self, core: Core, stream: IO[str]) -> None:
        self.core, self.stream = core, stream
        self.pace = Pace(core)
        self._shown: set[int] = set()

    def __enter__(self) -> Lines:
        self._shown = {trial.number for trial in self.core.trials if trial.state != "RUNNING"}
        return self

    def __exit__(self, *error: object) -> None:
        self._show_ended()

    def epoch_done(self) -> None:
        """An epoch was trained."""
        self.pace.epoch_done()

    def trial_ended(self) -> None:
        """Show the trials that ended since."""
        self._show_ended()

    def _show_ended(self) -> None:
        total = self.core.settings.run_cap
        for trial in self.core.trials:
            if trial.state != "RUNNING" and trial.number not in self._shown:
                self._shown.add(trial.number)
                left = self.pace.remaining_s()
                eta = f", about {duration(left)} left" if left else ""
                self.stream.write(f"[{len(self._shown)}/{total}] {trial.state.lower()}: {describe(trial)}{eta}\n")
                self.stream.flush()


def running_table(core: Core, name: str) -> Table:
    """The trials that hold a slot: parameters, epoch, next rung, figures of their last epoch."""
    table = Table(title=f"search {name}", title_justify="left", expand=False)
    searched = list(core.trials[0].params) if core.trials else []
    for column in ("trial", *searched, "epoch", "rung", *(title for _, title in FIGURES)):
        table.add_column(column, justify="right")
    for trial in core.trials:
        if trial.state == "RUNNING":
            last: Mapping[str, Any] = trial.reports[-1] if trial.reports else {}
            place = (f"{len(trial.reports)}/{core.settings.epochs}", str(core.next_rung(trial) or "full"))
            table.add_row(
                str(trial.number),
                *(short(trial.params[key]) for key in searched),
                *place,
                *(short(last.get(key)) for key, _ in FIGURES),
            )
    return table


def describe(trial: Trial) -> str:
    """A trial in one line: number, parameters, figures of its last epoch."""
    params = " ".join(f"{name}={short(value)}" for name, value in trial.params.items())
    last: Mapping[str, Any] = trial.reports[-1] if trial.reports else {}
    figures = " ".join(f"{title} {short(last[key])}" for key, title in FIGURES if last.get(key) is not None)
    reason = f"({trial.failure.message})" if trial.failure else ""
    return " ".join(part for part in (f"trial {trial.number} ({params}) epoch {len(trial.reports)}", figures, reason) if part)


def duration(seconds: float) -> str:
    """`95` → `1 min 35 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
