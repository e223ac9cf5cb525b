"""Checks run whatever the one before found, and are shown on a terminal and in a pipe."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from tune_accent.base.errors import Diverged, ModelError
from tune_accent.checking.finding import Check, Finding, Skip, findings
from tune_accent.checking.words import Shown, closing_words, plain

FINE = Finding("fine", "ok", "as it should be")


def fine() -> Iterator[Finding]:
    yield FINE


def raising(error: Exception) -> Check:
    def look() -> Iterator[Finding]:
        yield FINE
        raise error

    return Check("broken", look)


def test_one_that_fails_hides_no_other() -> None:
    errors = (ModelError("no folder", "model.backbone", "give one"), Diverged("loss", 1, None), KeyError("bug"), Skip("no GPU"))
    found = list(findings([*(raising(error) for error in errors), Check("fine", fine)]))
    assert [one.status for one in found] == ["ok", "failed", "ok", "failed", "ok", "failed", "ok", "skipped", "ok"]
    user, diverged, bug, skipped = found[1], found[3], found[5], found[7]
    assert (user.found, user.fix, user.trace) == ("model.backbone: no folder", "give one", None)
    assert diverged.found.startswith("DIVERGED: loss is not finite")
    assert bug.found == "KeyError: 'bug'" and bug.trace is not None and "raise error" in bug.trace
    assert skipped.found == "no GPU"


def test_ctrl_c_is_no_finding() -> None:
    def look() -> Iterator[Finding]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(findings([Check("slow", look)]))


def test_a_pipe_gets_plain_lines_and_a_terminal_colours() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    one = Finding("disk", "failed", "two\nlines and \x1b[2J", "free some space")
    assert plain(one).splitlines() == [f"{'disk':<16} {'failed':<8} two lines and \\x1b[2J", f"{'':26}→ free some space"]
    pipe, terminal = io.StringIO(), Terminal()
    Shown(pipe).show(one)
    Shown(terminal).show(one)
    assert pipe.getvalue() == plain(one)
    assert "free some space" in terminal.getvalue() and "[2J" in terminal.getvalue() and "\x1b[2J" not in terminal.getvalue()


def test_the_sum_names_what_is_not_ok() -> None:
    found = [FINE, Finding("gpu", "warning", ""), Finding("weights", "failed", ""), Finding("codes", "skipped", "")]
    assert "4 checks: 1 ok, 1 warning (gpu), 1 failed (weights), 1 skipped (codes)." in closing_words(found, "a.yaml")
    assert "tune_accent.audit" not in closing_words(found, "a.yaml")
    assert "1 checks" not in closing_words(found[:2], "a.yaml") and "tune_accent.audit a.yaml" in closing_words(
        found[:2], "a.yaml"
    )
