"""The process dies before every single step that a search takes on the disk: the same command gives the same search, and nothing torn is believed."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.disk import Disk, Killed, State, state
from tests.tuning.whole_search import Search, remember_study
from tune_accent.base.files import append_line, remove, remove_torn, write_folder, write_text

pytest.importorskip("torch")


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_logger: logging.Logger) -> Callable[[str], Search]:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # it is a step like the others, and the power stays on
    return lambda name: Search(tmp_path / name / "results", monkeypatch)


@pytest.fixture
def remembered_study(monkeypatch: pytest.MonkeyPatch) -> None:
    remember_study(monkeypatch)


def uninterrupted(search: Callable[[str], Search]) -> tuple[Search, list[str]]:
    """A search, and the steps that it took."""
    whole = search("whole")
    with Disk(whole.root.parent).on() as disk:
        whole.launch()
    return whole, disk.steps


def killed_at(step: int, whole: Search, search: Callable[[str], Search], known: dict[State, int]) -> None:
    """Kill a search before `step`, look at what it left, continue it where no search was continued from the very same: epochs by state."""
    cut = search(f"cut{step}")
    with Disk(cut.root.parent, step).on(), pytest.raises(Killed):
        cut.launch()
    assert cut.torn() == []
    left, trained = state(cut.root), cut.trained
    if left not in known:
        cut.launch()
        same_at_the_end(cut, whole)
        known[left] = cut.trained - trained
    assert trained + known[left] <= whole.trained + 1, "at most the epoch that was running is trained again"


def same_at_the_end(cut: Search, whole: Search) -> None:
    assert cut.result() == whole.result() and not cut.torn() and not cut.leftovers()
    with closing(sqlite3.connect(cut.root / "optuna.db")) as study:
        assert study.execute("pragma integrity_check").fetchone() == ("ok",)
        assert study.execute("select count(*) from trials").fetchone() == (3,)


def test_the_steps_are_those_of_a_whole_search(search: Callable[[str], Search]) -> None:
    whole, steps = uninterrupted(search)
    assert len(steps) > 300 and not whole.torn() and not whole.leftovers()
    for part in (
        "suggestions",
        "trials/",
        "timing.csv",
        "trials.csv",
        "best",
        "optuna.db",
        "spec.sha256",
        "environment.json",
        ".lock",
    ):
        assert any(part in step for step in steps), f"no step on {part} is seen"
    for call in ("mkdir", "fsync", "replace", "rename", "write", "unlink", "rmdir", "open", "copy", "half of"):
        assert any(step.startswith(call) for step in steps), f"no {call} is seen"


def test_a_kill_at_some_steps(search: Callable[[str], Search]) -> None:
    (whole, steps), known = uninterrupted(search), dict[State, int]()
    for step in range(0, len(steps), len(steps) // 20):
        killed_at(step, whole, search, known)


@pytest.mark.slow
@pytest.mark.usefixtures("remembered_study")
def test_a_kill_at_every_step(search: Callable[[str], Search]) -> None:
    (whole, steps), known = uninterrupted(search), dict[State, int]()
    for step in range(len(steps)):
        killed_at(step, whole, search, known)
    assert len(known) > len(steps) / 10


@pytest.mark.slow
@pytest.mark.usefixtures("remembered_study")
def test_kills_of_the_continued_search(search: Callable[[str], Search]) -> None:
    """Several kills of one search, each of them somewhere else in what is left to do."""
    whole, steps = uninterrupted(search)
    for stride in range(7, len(steps), len(steps) // 12):
        cut, kills = search(f"stride{stride}"), 0
        while True:
            try:
                with Disk(cut.root.parent, stride + kills).on():
                    cut.launch()
                break
            except Killed:
                kills += 1
                assert cut.torn() == [] and kills < 500
        assert cut.result() == whole.result() and cut.trained <= whole.trained + kills


def test_a_folder_that_is_replaced_is_never_lost(tmp_path: Path) -> None:
    def content(path: Path) -> str | None:
        return "".join(file.read_text() for file in sorted(path.glob("*"))) if path.exists() else None

    def write(folder: Path, text: str) -> None:
        def fill(empty: Path) -> None:
            for name in "ab":
                write_text(empty / name, text)

        write_folder(folder, fill)

    write(tmp_path / "count" / "folder", "old")
    with Disk(tmp_path / "count").on() as disk:
        write(tmp_path / "count" / "folder", "new")
    for step in range(len(disk.steps)):
        for settle in (remove_torn, lambda root: write(root / "folder", "newer")):
            root = tmp_path / f"{step}{settle is remove_torn}"
            write(root / "folder", "old")
            with Disk(root, step).on(), pytest.raises(Killed):
                write(root / "folder", "new")
            assert content(root / "folder") in ("oldold", "newnew", None)
            settle(root)
            assert content(root / "folder") in (("oldold", "newnew") if settle is remove_torn else ("newernewer",))
            remove_torn(root)
            assert [path.name for path in root.iterdir()] == ["folder"]


def test_a_folder_that_is_removed_and_a_line_that_is_appended(tmp_path: Path) -> None:
    def removed(root: Path) -> None:
        remove(root / "folder")

    def appended(root: Path) -> None:
        append_line(root / "lines", "second")

    for act in (removed, appended):
        for step in range(20):
            root = tmp_path / f"{step}{act.__name__}"
            write_folder(root / "folder", lambda empty: write_text(empty / "x", "whole"))
            append_line(root / "lines", "first")
            disk = Disk(root, step)
            with disk.on(), suppress(Killed):
                act(root)
            if not disk.failed:
                break
            assert not (root / "folder").exists() or (root / "folder" / "x").read_text() == "whole"
            remove_torn(root)
            append_line(root / "lines", "third")
            lines = (root / "lines").read_text().splitlines()
            assert lines[0] == "first" and lines[-1] == "third" and lines[1:-1] in ([], ["sec"], ["second"])
        assert disk.steps and not disk.failed
