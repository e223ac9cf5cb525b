"""Progress of long work: bars on a terminal, a line per finished label elsewhere, nothing when not asked."""

from __future__ import annotations

import io
import sys

import pytest

from tune_accent.base.progress import bars, silent


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_a_line_per_finished_label(capsys: pytest.CaptureFixture[str]) -> None:
    with bars() as progress:
        for done in (0, 1, 2):
            progress("audio", done, 2)
        progress("codes", 1, 3)
    assert capsys.readouterr().err == "audio: 2\n"


def test_a_terminal_gets_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    with bars() as progress:
        progress("audio", 0, 720)
        progress("audio", 720, 720)
        progress("codes", 3, 4)
    shown = screen.getvalue()
    assert "audio" in shown and "720/720" in shown and "codes" in shown and "3/4" in shown


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    with bars(show=False) as progress:
        assert progress is silent
        progress("audio", 2, 2)
    assert capsys.readouterr() == ("", "")
