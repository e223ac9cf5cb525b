"""What was spent, from the timing files."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tests.paper.hand_made import trial
from tune_accent.paper.compute import compute_used, read_timing
from tune_accent.paper.results import TrainedRun
from tune_accent.tuning.results import append_timing


def executed(folder: Path, run: Any, epoch: int, seconds: float = 36.0, peak: float = 10.0, launch: int = 1) -> None:
    row = {
        "launch": launch,
        "trial": run,
        "epoch": epoch,
        "worker": "here:1",
        "started": 1.7e9,
        "seconds": seconds,
        "peak_mb": peak,
    }
    append_timing(folder, row)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A search of three trials, of which the first repeated an epoch, and a paper run of two runs; some epochs belong to nobody any more."""
    for run, epoch in ((0, 1), (1, 1), (0, 2), (0, 2), (9, 1)):
        executed(tmp_path, run, epoch, launch=epoch)
    for key, epoch in (("aa", 1), ("aa", 2), ("old", 1)):
        executed(tmp_path / "paper", key, epoch, seconds=72.0, peak=20.0)
    return tmp_path


TRIALS = [trial(0, 0.5), trial(1, 0.5, state="STOPPED"), trial(2, 0.5, state="DIVERGED")]
RUNS = [
    TrainedRun("candidate 0", 1, "aa", "COMPLETE", []),
    TrainedRun("winner", 1, "aa", "COMPLETE", []),
    TrainedRun("no_lora", 1, "bb", "CRASHED", []),
]


def rows(found: Any) -> list[tuple[Any, ...]]:
    return [(*list(row.values())[:-1], round(row["hours"], 9)) for row in found.rows]


def test_hours_by_part_and_state_with_stopped_failed_and_repeated_epochs(root: Path) -> None:
    found = compute_used(root, TRIALS, RUNS)
    assert rows(found) == [
        ("search", "COMPLETE", 1, 3, 1, 0.03),
        ("search", "STOPPED", 1, 1, 0, 0.01),
        ("search", "DIVERGED", 1, 0, 0, 0.0),
        ("search", "OUTSIDE", 1, 1, 0, 0.01),
        ("paper", "COMPLETE", 1, 2, 0, 0.04),
        ("paper", "CRASHED", 1, 0, 0, 0.0),
        ("paper", "OUTSIDE", 1, 1, 0, 0.02),
    ]
    assert list(found.rows[0]) == ["part", "state", "runs", "epochs", "repeated", "hours"] and found.peak_mb == 20.0
    assert compute_used(root, TRIALS[::-1], RUNS[::-1]) == found


def test_nothing_is_lost_between_the_files_and_the_table(root: Path) -> None:
    for trials, runs in ((TRIALS, RUNS), ([], []), (TRIALS[:1], RUNS[2:])):
        found = compute_used(root, trials, runs)
        assert sum(row["epochs"] for row in found.rows) == 8
        assert sum(row["hours"] for row in found.rows) == pytest.approx((5 * 36 + 3 * 72) / 3600)


def test_without_timing_files_there_is_nothing_to_tell(tmp_path: Path) -> None:
    found = compute_used(tmp_path, [], [])
    assert (found.rows, found.peak_mb) == ([], None)


def test_a_file_that_is_cut_anywhere_gives_the_rows_before_the_cut(root: Path) -> None:
    path = root / "timing.csv"
    data, whole = path.read_bytes(), read_timing(path)
    assert len(whole) == 5
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        ended = max(0, data[:cut].count(b"\n") - 1)
        assert read_timing(path) == whole[:ended], data[:cut]
        executed(root, 7, 1, seconds=1.0)
        assert [row for row in read_timing(path) if row.run == "7"], "the next epoch is not lost with the torn line"
        assert compute_used(root, TRIALS, RUNS).rows


def test_lines_of_noise_do_not_count(root: Path) -> None:
    path = root / "timing.csv"
    whole = read_timing(path)
    draw = random.Random(1)
    for _ in range(30):
        with path.open("ab") as stream:
            stream.write(bytes(draw.choice(b'0,1"\xff\x00na.\r-') for _ in range(draw.randrange(40))) + b"\n")
    with path.open("ab") as stream:
        stream.write(b"1,0,1,here:1,1.0,nan,1.0\n1,0,1,here:1,1.0,2.0,inf\n1,0,x,here:1,1.0,2.0,1.0\n")
    assert read_timing(path) == whole
