"""W&B's runs as campaigns: offline ones of the real client, and a sweep whose server is a stand-in."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from tests.comparing.campaigns import ENVIRONMENT, hand_made, results
from tests.entries.command import environment
from tests.tuning.small_search import PREPARED, SPACE
from tune_accent.base.errors import DataError, UserError
from tune_accent.comparing import run as comparing_run
from tune_accent.comparing import wandb_runs
from tune_accent.comparing.curves import curve
from tune_accent.comparing.folder import read_folder
from tune_accent.comparing.run import Request, run_comparison
from tune_accent.comparing.wandb_runs import campaign, read_offline, read_sweep
from tune_accent.config.load import resolve

WRITE = """
import json, sys, wandb
for id, run in json.load(sys.stdin).items():
    made = wandb.init(reinit="create_new", mode="offline", id=id, group="g", config=run["config"],
                      settings=wandb.Settings(console="off", x_disable_stats=True, silent=True))
    for row in run["rows"]:
        made.log(row)
    made.summary["state"] = run["state"]
    made.finish()
"""
LIKE = hand_made([[0.1, 0.2, 0.3]])


def run_of(rows: list[dict[str, Any]], state: str = "finished", number: int = 0, **config: Any) -> dict[str, Any]:
    return {
        "id": f"r{number}",
        "name": "r",
        "state": state,
        "config": {"trial": number, "lr": 0.1, **config},
        "summary": {},
        "history": rows,
    }


def rows_of(*scores: Any, begin: float = 100.0) -> list[dict[str, Any]]:
    return [
        {"score": score, "_step": step, "_timestamp": begin + 10 * step, "seconds": 10.0} for step, score in enumerate(scores, 1)
    ]


@pytest.fixture
def searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A finished search in `results/lora`; comparisons draw nothing."""
    monkeypatch.setattr(comparing_run, "write_report", lambda found, folder: None)
    return results(tmp_path / "a", monkeypatch, tmp_path / "results" / "lora")


def shared(asked: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """What our trial program tells W&B beside its parameters."""
    spec = resolve(asked.experiment, params).model_dump(mode="json")
    return {"data": vars(PREPARED), "environment": ENVIRONMENT, "experiment": spec}


def test_offline_runs_of_the_real_client_are_the_search(searched: Any, tmp_path: Path) -> None:
    """Every trial written as our tracker writes it, read back: the same curve, the same identity, nothing to be ignored."""
    first = read_folder(searched.root)
    times = {(one.trial, one.epoch): one.seconds for one in first.executed}
    space = json.loads(json.dumps({"run_cap": 5, **searched.space.to_dict()}))
    configs: dict[int, dict[str, Any]] = {
        trial.number: {**dict(trial.params), "trial": trial.number, "space": space, **shared(searched, trial.params)}
        for trial in first.trials
    }
    runs = {
        f"run{trial.number}": {
            "config": configs[trial.number],
            "rows": [
                {"score": m["score"], "feasible": m["feasible"], "accent_f1": m["accent_f1"], "speaker_leakage": m["speaker_leakage"],
                 "seconds": times[trial.number, epoch]}
                for epoch, m in enumerate(trial.epochs, 1)
            ],
            "state": trial.state,
        }
        for trial in first.trials
        if trial.epochs
    }  # fmt: skip
    offline = tmp_path / "offline"
    offline.mkdir()
    known = {**environment(), "WANDB_MODE": "offline", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", WRITE], cwd=offline, env=known, input=json.dumps(runs), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (found,), faults = read_offline(offline, first)
    assert not faults and found.identity.hashes() == first.identity.hashes()
    assert curve(found, "trials") == curve(first, "trials") and found.seed == first.seed
    assert [trial.state for trial in found.trials] == [trial.state for trial in first.trials]
    assert [dict(trial.params) for trial in found.trials] == [dict(trial.params) for trial in first.trials]
    files = sorted(offline.rglob("run-*.wandb"))
    files[0].write_bytes(files[0].read_bytes()[:-20])
    compared, _ = run_comparison(Request(searched.root, (str(offline),)))
    torn = next(one for one in compared.campaigns if one.name != first.name)
    assert len(torn.trials) == len(first.trials) - 1 and "could not be read" in torn.notes[0]


def test_states_of_runs_that_are_not_ours() -> None:
    nan = "NaN"
    runs = [
        run_of(rows_of(0.1, 0.2, 0.3), number=0),
        run_of(rows_of(0.1, 0.2), number=1),
        run_of(rows_of(0.1), "killed", number=2),
        run_of(rows_of(0.1), "crashed", number=3),
        run_of(rows_of(0.1), "running", number=4),
        run_of(rows_of(0.1, nan), number=5),
        run_of([{"loss": 1.0}], number=6),
    ]
    found = campaign("x", list(reversed(runs)), LIKE, None)
    assert [trial.state for trial in found.trials] == [
        "COMPLETE",
        "STOPPED",
        "STOPPED",
        "CRASHED",
        "RUNNING",
        "DIVERGED",
        "STOPPED",
    ]
    assert [len(trial.epochs) for trial in found.trials] == [3, 2, 1, 1, 1, 1, 0]
    assert found.identity.hashes() == dict.fromkeys(("space", "metric", "data", "code"))
    assert found.seed is None and len(found.executed) == 9


def test_the_last_epoch_counts_whatever_wandb_shows() -> None:
    found = campaign("x", [run_of(rows_of(0.1, 0.9, 0.3))], LIKE, None)
    assert curve(found, "epochs") == curve(hand_made([[0.1, 0.9, 0.3]]), "epochs")


class Server:
    """W&B's public API, as far as we ask it; counts the sweeps that it gave."""

    def __init__(self, asked: Any) -> None:
        self.given, params = (
            0,
            {"lora_rank": 2, "lora_alpha_ratio": 1, "lr": 0.002, "leakage_weight": 0, "training.batch_size": 9},
        )
        history = [{**row, "accent_f1": 0.5, "speaker_leakage": 0.1} for row in rows_of(0.2, 0.3, float("nan"))]
        self.runs = [
            SimpleNamespace(id="r1", name="r", state="finished", config={**params, **shared(asked, params)}, summary_metrics={}, scan_history=lambda use_cache: iter(history)),
            SimpleNamespace(id="r2", name="r", state="finished", config={**params, "lr": 0.01}, summary_metrics={}, scan_history=lambda use_cache: iter(rows_of(0.1, 0.2, 0.4, begin=300))),
        ]  # fmt: skip
        self.config = yaml.safe_load(SPACE.replace("method: random", "method: bayes"))

    def sweep(self, path: str) -> Any:
        self.given += 1
        return SimpleNamespace(config=self.config, runs=self.runs)


def test_a_sweep_is_kept_as_a_snapshot_before_anything_is_computed(
    searched: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = Server(searched)
    monkeypatch.setattr(wandb_runs, "public_api", lambda: server)
    found, folder = run_comparison(Request(searched.root, ("team/accent/abc123",)))
    sweep = next(one for one in found.campaigns if one.name == "team/accent/abc123")
    assert sweep.engine == "W&B server, bayes + hyperband" and sweep.grace == 1
    assert [trial.state for trial in sweep.trials] == ["DIVERGED", "COMPLETE"] and sweep.trials[1].params["lr"] == 0.01
    assert found.differences[0].pairs == 0 and "nothing can be concluded" in found.conclusions[0]
    file = folder / "snapshots" / "team-accent-abc123.json"
    assert server.given == 1 and file.is_file() and sweep.notes[0].startswith("was read from the snapshot")
    again, _ = run_comparison(Request(searched.root, ("team/accent/abc123",)))
    assert server.given == 1 and again == found, "the snapshot is what is compared"
    file.write_text(file.read_text().replace('"score": 0.4', '"score": 0.9'))
    with pytest.raises(DataError, match="the snapshot was edited"):
        run_comparison(Request(searched.root, ("team/accent/abc123",)))


def test_a_sweep_of_another_space_is_refused_after_its_snapshot(searched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(searched)
    server.config = yaml.safe_load(SPACE.replace("max: 0.02", "max: 0.5"))
    monkeypatch.setattr(wandb_runs, "public_api", lambda: server)
    with pytest.raises(UserError, match="its space is not that of lora"):
        run_comparison(Request(searched.root, ("team/accent/abc123",)))
    assert (searched.root / "comparison" / "snapshots" / "team-accent-abc123.json").is_file()


@pytest.mark.parametrize("error", ["UsageError", "CommError"])
def test_without_network_or_key_there_is_one_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: str) -> None:
    import wandb

    def refuse(timeout: int) -> Any:
        raise getattr(wandb.errors, error)("no way\nto the server")

    monkeypatch.setattr(wandb, "Api", refuse)
    with pytest.raises(UserError, match="W&B does not give this sweep: no way to the server") as caught:
        read_sweep("a/b/c", LIKE, tmp_path)
    assert "wandb login" in str(caught.value) and not list(tmp_path.iterdir())
