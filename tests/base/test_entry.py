"""A user's mistake, a failed trial, an interrupt and a bug end differently."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tune_accent.base.entry import guarded, same_command
from tune_accent.base.errors import (
    ConfigError,
    DataError,
    Diverged,
    FolderInUse,
    MissingDependency,
    ModelError,
    OutOfMemory,
    Problem,
    SearchChanged,
    TrialTimeout,
    TuneAccentError,
    UserError,
)
from tune_accent.base.log import log_to

MISTAKES = [
    UserError("what", "where", "fix"),
    DataError("what"),
    FolderInUse("what", "where", "fix"),
    MissingDependency("what", fix="fix"),
    ModelError("what", "where"),
    SearchChanged("what", "where", "fix"),
    ConfigError([Problem("a.yaml", 3, "training.lr", "must be positive", "write 1e-3"), Problem("b.yaml", None, "", "is empty")]),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: type(mistake).__name__)
def test_a_mistake_is_one_message_and_exit_code_2(mistake: UserError, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, guarded():
        raise mistake
    assert end.value.code == 2 and end.value.__suppress_context__
    out, err = capsys.readouterr()
    assert out == "" and err == f"error: {mistake}\n" and "Traceback" not in err
    again = pickle.loads(pickle.dumps(mistake))  # noqa: S301  # how a child process hands it over
    assert type(again) is type(mistake) and str(again) == str(mistake)


def test_a_message_says_what_where_and_what_to_do() -> None:
    assert str(MISTAKES[0]) == "where: what\n  → fix"
    assert str(MISTAKES[-1]) == "a.yaml:3: training.lr: must be positive\n  → write 1e-3\nb.yaml: is empty"


def test_a_failed_trial_says_how(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, guarded():
        raise Diverged("loss", 12, 3.5)
    assert end.value.code == 1
    assert capsys.readouterr().err == "DIVERGED: loss is not finite at step 12 (last gradient norm 3.5)\n"
    assert str(Diverged("loss", 0, None)).endswith("(last gradient norm none)")
    assert [failure.state for failure in (OutOfMemory(), TrialTimeout())] == ["OOM", "TIMEOUT"]


def test_an_interrupt_is_130_and_a_bug_passes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, guarded():
        raise KeyboardInterrupt
    assert end.value.code == 130 and "interrupted" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError), guarded():
        raise ZeroDivisionError
    assert not issubclass(ZeroDivisionError, TuneAccentError)


def test_sigterm_ends_as_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, guarded():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert end.value.code == 130 and "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_while_python_leaves_changes_neither_output_nor_exit_code(name: str) -> None:
    code = (
        "import atexit, os, signal\n"
        "from tune_accent.base.entry import guarded\n"
        f"atexit.register(lambda: os.kill(os.getpid(), signal.{name}))\n"
        "with guarded():\n    print('the last word')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "the last word\n", "")


def test_messages_go_to_the_file_and_warnings_to_the_terminal(
    tmp_path: Path, own_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "logs" / "search.log"
    log_to(file)
    log_to(file)  # a second launch in this process does not write every line twice
    logging.getLogger("tune_accent.tuning").info("quiet é")
    logging.getLogger("tune_accent.tuning").warning("loud")
    assert capsys.readouterr().err == "WARNING loud\n"
    lines = file.read_text(encoding="utf-8").splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["INFO tune_accent.tuning: quiet é", "WARNING tune_accent.tuning: loud"]


def test_the_line_that_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    monkeypatch.chdir(tmp_path)
    search = "tune_accent.search"
    assert same_command(search, ["my space.yaml", "--fresh"]) == ".venv/bin/python -m tune_accent.search 'my space.yaml'"
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    assert same_command(search, ["s.yaml", "--name", "x"]) == "python -m tune_accent.search s.yaml --name x"
