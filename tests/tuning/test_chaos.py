"""The process that drives a search is killed at seeded times; and what judges that can see when something is wrong. See `benchmarks/chaos.py`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks import chaos_simulated
from benchmarks.chaos_checks import Tally, differences, memo_marks, repeated_rows, report, rewritten
from benchmarks.chaos_simulated import Journal, kill_and_continue
from benchmarks.simulated_command import JOURNAL, Pace
from tune_accent.base.files import write_text


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, float]]:
    """The uninterrupted search, one epoch at a time, and the seconds of a launch."""
    yield chaos_simulated.reference(tmp_path_factory.mktemp("chaos"))


def test_a_driver_that_is_killed_again_and_again_gives_the_same_search(whole: tuple[Path, float]) -> None:
    """Kills anywhere in the command: replay, epochs, tables, the study, `best/`; each launch with another number of workers and another pace."""
    root, typical_s = whole
    tally, generator = Tally("SIGKILL", again=0), np.random.default_rng(3)
    while tally.faults < 12:
        name = f"killed-{tally.searches}"
        kill_and_continue(root.parent, name, generator, typical_s, tally)
        tally.finish(root.parent / name, root)
    assert not tally.wrong, report([tally])
    assert (tally.same, tally.lost, tally.extra) == (tally.searches, 0, 0)


def test_a_launch_that_fails_is_seen(whole: tuple[Path, float], tmp_path: Path) -> None:
    """Here: a folder without the search's files."""
    tally = Tally("SIGKILL", again=0)
    kill_and_continue(tmp_path, "nothing", np.random.default_rng(0), 60.0, tally)
    assert "exit 1" in tally.wrong[0] and "has no YAML files" in tally.wrong[0]


def line(root: Path, name: str, change: Callable[[str], str]) -> None:
    """Change the text of a file of `root`."""
    path = next(iter(sorted(root.glob(name))))
    path.write_text(change(path.read_text()))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "another figure": (lambda root: line(root, "trials.csv", lambda text: text.replace("0.5", "0.6", 1)), "trials.csv differs"),
    "another epoch": (lambda root: line(root, "epochs.jsonl", lambda text: text[:-2]), "epochs.jsonl differs"),
    "another report": (lambda root: line(root, "trials/*/0001.json", lambda text: text + " "), "0001.json differs"),
    "an epoch too many": (
        lambda root: write_text(root / "trials" / "k" / "0001.json", ""),
        "only one memo",
    ),
    "a draw too many": (lambda root: (root / "suggestions" / "00099.json").write_text("{}"), "only one memo"),
    "a report too few": (lambda root: next(root.glob("trials/*/0001.json")).unlink(), "only one memo"),
    "a torn file": (lambda root: (root / "trials" / ".x.tmp").write_text(""), "left behind"),
    "a trial without an end": (
        lambda root: line(root, "trials.csv", lambda text: text.replace("STOPPED", "RUNNING", 1)),
        "still RUNNING",
    ),
    "another best adapter": (
        lambda root: line(root, "best/heads.safetensors", lambda text: text + " "),
        "heads.safetensors differs",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_every_difference_is_seen(whole: tuple[Path, float], tmp_path: Path, name: str) -> None:
    damage, words = DAMAGES[name]
    root = tmp_path / "changed"
    shutil.copytree(whole[0], root)
    assert differences(root, whole[0]) == []
    damage(root)
    tally = Tally("SIGKILL")
    tally.finish(root, whole[0])
    assert any(words in difference for difference in tally.wrong), tally.wrong
    assert "NOT HELD" in report([tally])
    assert tally.extra == name.endswith("too many")


def test_the_journal_tells_lost_from_unfinished(tmp_path: Path) -> None:
    root, journal = tmp_path / "results", Journal(tmp_path / "results")
    notes = Path(f"{root}.{JOURNAL}")
    epoch = root / "trials" / "a" / "0001.json"
    epoch.parent.mkdir(parents=True)
    epoch.write_text("")
    notes.write_text("begin a 1 9\nend a 1 9\nbegin a 2 9\nbegin b 1 9\n")
    journal.launch_ended()
    assert (journal.lost, journal.again, journal.wrong) == (0, 0, [])
    notes.write_text(notes.read_text() + "begin a 2 10\nbegin a 1 10\nbegin b 1 10\nbegin b 2 10\nend c 1 10\n")
    journal.launch_ended()
    assert (journal.lost, journal.again) == (1, 2)
    assert journal.wrong == ["c epoch 1 was noted as finished and is not in the memo", "b lost 2 epochs to one kill"]


def test_a_report_that_is_written_again_is_seen(whole: tuple[Path, float], tmp_path: Path) -> None:
    root = tmp_path / "again"
    shutil.copytree(whole[0], root)
    marks = memo_marks(root)
    assert rewritten(marks, root) == [] == repeated_rows(root)
    first, second = sorted(marks)[:2]
    (root / first).unlink()
    shutil.copyfile(whole[0] / second, tmp_path / "copy")
    (tmp_path / "copy").replace(root / second)
    assert rewritten(marks, root) == [first, second]
    line(root, "timing.csv", lambda text: text + text.splitlines()[-1] + "\n")
    assert len(repeated_rows(root)) == 1


def test_paces_differ_by_epoch_and_seed() -> None:
    assert len({Pace(1.0, seed).seconds("0123456789", epoch) for seed in (1, 2) for epoch in (1, 2)}) == 4
    assert Pace(1.0).seconds("0123456789", 1) == Pace(1.0).seconds("0123456789", 1) < 2.0
