"""Runs read back from W&B's own files: a golden one of the pinned client, and every way in which such a file can be damaged."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tune_accent.base.errors import DataError
from tune_accent.tracking.wandb_files import BLOCK, START, read_run, read_runs

GOLDEN = Path(__file__).parent / "golden" / "run-golden.wandb"
"""Three epochs by wandb 0.31.0, offline; `long` is 12,000 letters, so that records cross blocks."""


def test_the_golden_run() -> None:
    run = read_run(GOLDEN)
    assert (run.id, run.name, run.project, run.group, run.tags) == ("golden", "trial 0007", "small", "search-1", ("a",))
    assert (run.entity, run.sweep, run.exit_code) == (None, None, 0)
    assert run.config == {"lr": 0.001, "lora_rank": 8, "data": {"manifest": "m"}}
    assert [(row["_step"], row["epoch"], row["score"]) for row in run.history] == [(1, 1, 0.1), (2, 2, 0.2), (3, 3, 0.1 * 3)]
    assert [row["feasible"] for row in run.history] == [False, True, True]
    assert all(row["text_drop"] is None and row["val_loss"] == 5.0 and row["long"] == "x" * 12_000 for row in run.history)
    assert run.summary["state"] == "COMPLETE" and run.summary["score"] == run.history[-1]["score"]
    assert GOLDEN.stat().st_size > BLOCK, "more than a block"


def test_the_client_s_own_reader_says_the_same() -> None:
    command = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", str(GOLDEN)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    rows = [json.loads(line)["history"]["item"] for line in done.stdout.splitlines() if '"type":"history"' in line]
    assert rows == list(read_run(GOLDEN).history)


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.3, 0.5, 0.9, 0.9999])
def test_a_truncated_file_is_an_error_or_a_run_without_end(tmp_path: Path, share: float) -> None:
    data = GOLDEN.read_bytes()
    path = tmp_path / "run-x.wandb"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(DataError) as error:
        read_run(path)
    assert error.value.where == str(path) and error.value.fix


def test_a_file_cut_between_two_records_was_never_finished(tmp_path: Path) -> None:
    data, path, ends = GOLDEN.read_bytes(), tmp_path / "run-x.wandb", []
    for end in range(len(data) - 200, len(data)):
        path.write_bytes(data[:end])
        try:
            ends.append(read_run(path))
        except DataError:
            continue
    assert ends and all(run.exit_code is None and len(run.history) <= 3 for run in ends)


def test_a_flipped_bit_is_found_wherever_it_is(tmp_path: Path) -> None:
    data, path = GOLDEN.read_bytes(), tmp_path / "run-x.wandb"
    places = [*range(60), *range(60, len(data), 997), len(data) - 1]
    for place in places:
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        with pytest.raises(DataError, match="not a whole W&B run"):
            read_run(path)


def test_the_other_files_are_still_read(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"offline-run-{name}").mkdir()
        shutil.copyfile(GOLDEN, tmp_path / f"offline-run-{name}" / f"run-{name}.wandb")
    (tmp_path / "offline-run-b" / "run-b.wandb").write_bytes(GOLDEN.read_bytes()[:9000])
    runs, faults = read_runs(tmp_path)
    assert [run.path.name for run in runs] == ["run-a.wandb", "run-c.wandb"]
    assert [fault.where for fault in faults] == [str(tmp_path / "offline-run-b" / "run-b.wandb")]
    assert read_runs(tmp_path / "nothing") == ([], [])


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04 something else", START, START + b"\0" * 100], ids=["empty", "zip", "header", "zeros"]
)
def test_what_is_no_run_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "run-x.wandb"
    path.write_bytes(data)
    with pytest.raises(DataError, match="not a whole W&B run"):
        read_run(path)
