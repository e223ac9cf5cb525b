"""What a person sees: the live table drawn from a core, and plain lines where there is no terminal."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.tuning.small_search import core_of, finished, report, request
from tune_accent.reporting.search_view import states
from tune_accent.reporting.search_words import short
from tune_accent.tuning import progress
from tune_accent.tuning.core import Core
from tune_accent.tuning.driver import Request, rule
from tune_accent.tuning.memo import Failure
from tune_accent.tuning.progress import Lines, LiveTable, Pace, describe, duration, running_table, view


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Time:
    """A clock that a test sets."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def asked(tmp_path: Path) -> Request:
    return request(tmp_path)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    fake = Time()
    monkeypatch.setattr(progress, "time", fake)
    return fake


def drawn(renderable: Any) -> str:
    """A rich object as plain text."""
    console = Console(file=io.StringIO(), width=160, color_system=None)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def one_round(core: Core) -> None:
    """Report every epoch that is granted."""
    core.advance()
    for grant in core.grants():
        core.report(grant.trial, grant.epoch, report(grant.params, grant.key, grant.epoch))


def test_the_table_shows_the_trials_in_their_slots(asked: Request) -> None:
    core = core_of(asked)
    core.advance()
    empty = drawn(running_table(core, "lora"))
    assert "search lora" in empty and empty.count("0/3") == 4 and empty.count("–") == 12
    one_round(core)
    text = drawn(running_table(core, "lora"))
    for title in ("trial", "lora_rank", "lr", "epoch", "rung", "F1", "leakage", "score"):
        assert title in text
    going = [trial for trial in core.trials if trial.state == "RUNNING" and trial.reports]
    assert going and text.count("1/3") == len(going)
    for trial in going:
        assert short(trial.reports[-1]["score"]) in text and short(trial.params["lr"]) in text
    assert "full" in text, "the next rung of trials past the only rung"


def test_the_live_table_names_the_best_and_its_rule(asked: Request, clock: Time) -> None:
    core = core_of(asked)
    table = LiveTable(core, "lora", rule(asked), Terminal())
    assert "none has run its full length yet" in drawn(table._draw())
    for _ in range(8):
        one_round(core)
        clock.now += 4.0
        for _ in range(4):
            table.epoch_done()
    assert core.done
    best = core.best()
    assert best is not None
    text = drawn(table._draw())
    assert (
        f"best so far  trial {best.number} (" in text and "highest score after the last epoch, leakage within 0.07 first" in text
    )
    assert "5/5 trials" in text and states(core.trials) in text and "left" not in text


def test_a_terminal_gets_the_table_and_a_pipe_gets_lines(asked: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "160")
    core = core_of(asked)
    screen = Terminal()
    with view(core, "lora", "rule", screen) as shown:
        one_round(core)
        shown.epoch_done()
        shown.trial_ended()
    assert isinstance(shown, LiveTable) and "search lora" in screen.getvalue()
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(view(core, "lora", "rule", Terminal()), Lines)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    shown = view(core, "lora", "rule")
    assert isinstance(shown, Lines) and shown.stream is sys.stderr, "the stream of the moment, not of the import"


def test_lines_come_once_per_ended_trial(asked: Request) -> None:
    core, stream = core_of(asked), io.StringIO()
    with view(core, "lora", "rule", stream) as shown:
        while not core.done:
            one_round(core)
            shown.epoch_done()
            shown.trial_ended()
            shown.trial_ended()
    lines = stream.getvalue().splitlines()
    assert [line.split("]")[0] for line in lines] == [f"[{count}/5" for count in range(1, 6)]
    for line in lines:
        assert re.match(
            r"\[\d/5\] (complete|stopped): trial \d \(lora_rank=\d .*\) epoch \d F1 0\.\d+ leakage 0\.\d+ score", line
        ), line
    again = io.StringIO()
    with view(core, "lora", "rule", again):
        pass
    assert again.getvalue() == "", "what was known before the launch is not told again"


def test_a_failure_says_why(asked: Request) -> None:
    core, stream = core_of(asked), io.StringIO()
    core.advance()
    with view(core, "lora", "rule", stream):
        for grant in core.grants():
            core.fail(grant.trial, grant.epoch, Failure("TIMEOUT", 1, "epoch 1 took longer than 5 s"))
    assert stream.getvalue().count("timeout: trial ") == 4 and "epoch 0 (epoch 1 took longer than 5 s)\n" in stream.getvalue()
    assert states(core.trials).endswith("4 timeout")


def test_the_time_left_comes_from_the_pace(asked: Request, clock: Time) -> None:
    core = core_of(asked)
    core.advance()
    pace = Pace(core)
    for _ in range(3):
        pace.epoch_done()
    clock.now += 8.0
    assert pace.remaining_s() is None, "not before every slot has reported"
    pace.epoch_done()
    assert pace.remaining_s() == pytest.approx(2.0 * (1 * 3 + 4 * 3)), "one trial to come and four that run, 2 s an epoch"
    while not core.done:
        one_round(core)
    assert pace.remaining_s() == 0.0


def test_numbers_and_durations_are_for_people(asked: Request) -> None:
    assert [short(value) for value in (None, 0.123456, 3, "gelu", 1.0, 3e-4)] == ["–", "0.123", "3", "gelu", "1", "0.0003"]
    assert [duration(seconds) for seconds in (0.4, 59.6, 95, 3600, 7384)] == [
        "0 s",
        "1 min 0 s",
        "1 min 35 s",
        "1 h 0 min",
        "2 h 3 min",
    ]
    trial = finished(asked).trials[0]
    assert describe(trial).startswith("trial 0 (lora_rank=") and f"score {short(trial.reports[-1]['score'])}" in describe(trial)
