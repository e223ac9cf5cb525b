"""The files that are derived from the records: exact columns, exact figures, equal for equal searches."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.tuning.simulated import Clock
from tests.tuning.small_search import SPACE, core_of, finished, report, request
from tune_accent.base.checksums import write_checksums
from tune_accent.base.errors import ConfigError, DataError
from tune_accent.models.adapter_base import adapter_base, read_base
from tune_accent.paper.compute import read_timing
from tune_accent.tracking.timing import timings
from tune_accent.tuning.core import Core, Grant
from tune_accent.tuning.driver import Request
from tune_accent.tuning.memo import Failure, FolderMemo
from tune_accent.tuning.results import (
    TIMING,
    append_timing,
    epochs_jsonl,
    next_launch,
    resolved_values,
    timing_columns,
    trials_csv,
    write_best,
    write_tables,
)

COLUMNS = (
    "trial,state,epochs,lora_alpha_ratio,training.batch_size,lora_rank,lora_alpha,lr,leakage_weight,accent_f1,accent_balanced_accuracy,"
    "speaker_leakage,speaker_leakage_unseen,speaker_leakage_seen,text_drop,val_loss,score,key"
)


@pytest.fixture
def asked(tmp_path: Path) -> Request:
    return request(tmp_path)


def rows(asked: Request, core: Core) -> list[dict[str, str]]:
    """`trials.csv` as it is read."""
    return list(csv.DictReader(io.StringIO(trials_csv(asked.experiment, asked.space.space, core.trials))))


def test_the_columns_are_those_of_the_design(asked: Request) -> None:
    text = trials_csv(asked.experiment, asked.space.space, finished(asked).trials)
    assert text.splitlines()[0] == COLUMNS and len(text.splitlines()) == 6 and "\r" not in text
    assert trials_csv(asked.experiment, asked.space.space, ()) == COLUMNS + "\n"


def test_rows_hold_resolved_values_and_the_last_epoch(asked: Request) -> None:
    core = finished(asked)
    for row, trial in zip(rows(asked, core), core.trials, strict=True):
        last = trial.reports[-1]
        assert (row["trial"], row["state"], row["epochs"]) == (str(trial.number), trial.state, str(len(trial.reports)))
        assert float(row["lora_alpha"]) == trial.params["lora_alpha_ratio"] * trial.params["lora_rank"]
        assert float(row["lr"]) == trial.params["lr"], "repr floats come back to the same bits"
        assert row["score"] == repr(last["score"]) and row["text_drop"] == "" and row["key"] == trial.key
        assert row["training.batch_size"] == str(trial.params["training.batch_size"])


def test_a_failed_trial_has_its_row(asked: Request) -> None:
    core = core_of(asked)

    def outcome(grant: Grant) -> Any:
        dies = {0: (1, "DIVERGED"), 1: (2, "TIMEOUT")}.get(grant.trial)
        return (
            Failure(dies[1], grant.epoch, "why")
            if dies and dies[0] == grant.epoch
            else report(grant.params, grant.key, grant.epoch)
        )

    Clock(core, 2, outcome=outcome).run()
    first, second = rows(asked, core)[:2]
    assert (first["state"], first["epochs"], first["score"]) == ("DIVERGED", "0", "") and first["lora_rank"]
    assert second["state"] in ("TIMEOUT", "STOPPED") and second["epochs"] == "1" and second["score"]


def test_equal_searches_give_equal_bytes(asked: Request) -> None:
    one, other = finished(asked), finished(asked)
    first, second = (trials_csv(asked.experiment, asked.space.space, core.trials) for core in (one, other))
    assert first == second and epochs_jsonl(one.trials) == epochs_jsonl(other.trials)


def test_every_figure_of_every_epoch_is_kept(asked: Request) -> None:
    core = finished(asked)
    lines = [json.loads(line) for line in epochs_jsonl(core.trials).splitlines()]
    assert [(line["trial"], line["epoch"]) for line in lines] == [
        (trial.number, epoch) for trial in core.trials for epoch in range(1, len(trial.reports) + 1)
    ]
    for line in lines:
        trial = core.trials[line["trial"]]
        assert line == {"trial": trial.number, "key": trial.key, "epoch": line["epoch"], **trial.reports[line["epoch"] - 1]}


def test_a_duplicate_shows_what_it_repeats(tmp_path: Path) -> None:
    space = "".join(
        line for line in SPACE.splitlines(keepends=True) if "lr:" not in line and "alpha" not in line and "batch" not in line
    )
    asked = request(tmp_path, space, run_cap=6)
    core = finished(asked)
    found = rows(asked, core)
    again = [(row, trial.duplicate_of) for row, trial in zip(found, core.trials, strict=True) if trial.state == "DUPLICATE"]
    assert again, "four points and six trials"
    for row, original in again:
        assert original is not None
        same = {**found[original], "trial": row["trial"], "state": "DUPLICATE"}
        assert row == same


def test_values_are_resolved_whichever_were_searched(asked: Request) -> None:
    assert resolved_values(asked.experiment, {}) == (4, 8.0, 0.005, 1.0)
    assert resolved_values(asked.experiment, {"lora_alpha": 3, "lr": 0.1}) == (4, 3.0, 0.1, 1.0)
    with pytest.raises(ConfigError):
        resolved_values(asked.experiment, {"lora_rank": 0})


def test_tables_are_written_whole(asked: Request) -> None:
    core = finished(asked)
    write_tables(asked.root, asked.experiment, asked.space.space, core.trials)
    assert (asked.root / "trials.csv").read_text() == trials_csv(asked.experiment, asked.space.space, core.trials)
    assert (asked.root / "epochs.jsonl").read_text() == epochs_jsonl(core.trials)


def test_timing_is_appended_and_launches_are_counted(tmp_path: Path) -> None:
    assert next_launch(tmp_path) == 1
    row = {
        "launch": 1,
        "trial": 3,
        "epoch": 2,
        "worker": "10.0.0.1:77",
        "started": 1700000000.25,
        "seconds": 1.5,
        "peak_mb": 800.0,
        "allocated_mb": 600.5,
    }
    append_timing(tmp_path, {**row, "metrics": {}})
    append_timing(tmp_path, {**row, "launch": 2})
    lines = (tmp_path / "timing.csv").read_text().splitlines()
    assert lines[0] == "launch,trial,epoch,worker,started,seconds,peak_mb,allocated_mb" == ",".join(TIMING)
    assert lines[1] == "1,3,2,10.0.0.1:77,1700000000.25,1.5,800.0,600.5" and lines[2][0] == "2"
    assert next_launch(tmp_path) == 3
    with (tmp_path / "timing.csv").open("a") as stream:
        stream.write("tor")  # power loss
    assert next_launch(tmp_path) == 3


def test_a_file_of_an_earlier_version_keeps_its_columns(tmp_path: Path) -> None:
    """Its rows and new ones are read alike; what is no heading at all is taken for today's."""
    path = tmp_path / "timing.csv"
    path.write_text(",".join(TIMING[:-1]) + "\n1,0,1,here:1,1.7e9,0.5,800.0\n")
    row = {"launch": 2, "trial": 0, "epoch": 2, "worker": "here:1", "started": 1.8e9, "seconds": 0.5, "peak_mb": 900.0}
    append_timing(tmp_path, {**row, "allocated_mb": 700.0})
    assert path.read_text().splitlines()[2] == "2,0,2,here:1,1800000000.0,0.5,900.0"
    assert [one.peak_mb for one in read_timing(path)] == [800.0, 900.0]
    assert timings(tmp_path) == {(0, 1): {"seconds": 0.5, "peak_mb": 800.0}, (0, 2): {"seconds": 0.5, "peak_mb": 900.0}}
    assert timing_columns("launch,tri") == timing_columns("") == TIMING


def test_the_best_trial_is_copied_out_of_the_memo(asked: Request) -> None:
    core = finished(asked)
    best = core.best()
    assert best is not None
    base = adapter_base(asked.experiment, "b")
    checkpoint = FolderMemo(asked.root).checkpoint(best.key, len(best.reports))
    (checkpoint / "adapter").mkdir(parents=True)
    for name in (
        "adapter/adapter_model.safetensors",
        "adapter/adapter_config.json",
        "heads.safetensors",
        "optimizer.safetensors",
    ):
        (checkpoint / name).write_text(name)
    with pytest.raises(DataError, match="damaged"):
        write_best(asked.root, best, {"trial": best.number}, "# card\n", base)
    assert not (asked.root / "best").exists()
    write_checksums(checkpoint)
    write_best(asked.root, best, {"trial": best.number}, "# card\n", base)
    names = {path.name for path in (asked.root / "best").iterdir()}
    assert names == {
        "adapter_model.safetensors",
        "adapter_config.json",
        "heads.safetensors",
        "README.md",
        "base.json",
        "checksums.json",
    }
    assert json.loads((asked.root / "best.json").read_text()) == {"trial": best.number}
    assert read_base(asked.root / "best") == base
