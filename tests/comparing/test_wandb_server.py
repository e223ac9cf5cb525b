"""A sweep through W&B's real client and its public API, from a server of our own: every value, every state, and every way in which it fails."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.comparing.campaigns import ENVIRONMENT, hand_made, results
from tests.entries.command import refused, run
from tests.tuning.small_search import PREPARED
from tests.wandb_server import WandbServer
from tests.wandb_state import ENTITY, KEY, PROJECT, Fault, Run, Sweep
from tune_accent.base.errors import UserError
from tune_accent.base.files import read_json
from tune_accent.comparing import run as comparing_run
from tune_accent.comparing import wandb_runs
from tune_accent.comparing.curves import curve
from tune_accent.comparing.folder import read_folder
from tune_accent.comparing.run import Request, run_comparison
from tune_accent.comparing.wandb_runs import campaign, read_sweep
from tune_accent.config.load import resolve

COMPARE = "tune_accent.compare"
LIKE = hand_made([[0.1, 0.2, 0.3]])
PARAMS = {"lora_rank": 2, "lora_alpha_ratio": 1, "lr": 0.002, "leakage_weight": 0, "training.batch_size": 9}
NAN = "NaN"  # as the client writes it, and the server keeps it


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """A server, and an environment in which the client, here and in processes, talks to it."""
    import wandb

    home = tmp_path / "home"
    home.mkdir()
    with WandbServer() as made:
        for name, value in {**made.environment(home), "TMPDIR": str(home)}.items():
            monkeypatch.setenv(name, value)
        yield made
        wandb.teardown()
    assert made.unknown == [] and "WANDB_SERVICE" not in os.environ


def row(step: int, score: Any = None, **more: Any) -> dict[str, Any]:
    """What is logged at a step: of an epoch, where there is a score."""
    known = {"_step": step, "_timestamp": 1e9 + step, "loss": 1 / (step + 1)}
    return known if score is None else {**known, "score": score, "seconds": 2.5, "feasible": True, "evaluation": "{}", **more}


def parquet(rows: list[dict[str, Any]]) -> bytes:
    """An exported piece of a history."""
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file := io.BytesIO())
    return file.getvalue()


def scored(*scores: Any) -> list[dict[str, Any]]:
    return [row(step, score) for step, score in enumerate(scores, 1)]


HISTORIES: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "long": ("finished", [row(step, step / 10_000 if step % 800 == 0 else None) for step in range(2401)]),
    "exported": ("finished", [row(0), row(1, 0.1), row(2, 0.2), row(3), row(4, 0.3), row(5)]),
    "running": ("running", scored(0.1)),
    "crashed": ("crashed", scored(0.1, 0.2)),
    "killed": ("killed", scored(0.1)),
    "failed": ("failed", []),
    "nan": ("finished", scored(0.1, NAN)),
    **{f"r{number}": ("finished", scored(0.1, 0.2, number / 10)) for number in range(6)},
}
STATES = ["COMPLETE", "COMPLETE", "RUNNING", "CRASHED", "STOPPED", "CRASHED", "DIVERGED", *["COMPLETE"] * 6]


def fill(server: WandbServer, sweep: str, shared: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Put the runs of HISTORIES into a sweep; their histories as a client must see them."""
    for number, (name, (state, rows)) in enumerate(HISTORIES.items()):
        config = {**PARAMS, "lr": 0.002 + number / 10_000, "trial": number, **shared}
        summary = {"score": 1.5, "state": "", "deep": {"a": {"b": 1}}, "_step": len(rows) - 1}
        lines = [json.dumps(one) for one in rows]
        server.runs[name] = Run(name, state, config, summary, lines, display_name=f"trial {number}", sweep=sweep)
    seen = {name: rows for name, (_, rows) in HISTORIES.items()}
    columns = dict.fromkeys(name for one in seen["exported"] for name in one)
    head = [{**columns, **one} for one in seen["exported"][:4]]  # a file has every column in every row
    exported = server.runs["exported"]
    exported.parquet, exported.history = (parquet(head[:2]), parquet(head[2:])), exported.history[4:]
    return {**seen, "exported": head + seen["exported"][4:]}


def test_a_comparison_with_a_sweep_on_a_server(server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real commands: `wandb sweep` sends the search's own file, and the comparison reads the sweep back."""
    asked = results(tmp_path / "a", monkeypatch, tmp_path / "ray_results" / "lora")
    made = server.run(tmp_path, "sweep", "--project", PROJECT, "a/space.yaml").stderr
    spec = resolve(asked.experiment, PARAMS).model_dump(mode="json")
    histories = fill(server, "sweep0", {"data": vars(PREPARED), "environment": ENVIRONMENT, "experiment": spec})
    target = f"{ENTITY}/{PROJECT}/sweep0"
    assert f"wandb agent {target}" in made
    done = run(tmp_path, COMPARE, "ray_results/lora", "--with", target)
    assert done.returncode == 0 and KEY not in done.stdout + done.stderr, done.stderr
    pages = [
        (asked["minStep"], asked["maxStep"]) for name, asked in server.asked if name == "HistoryPage" and asked["run"] == "long"
    ]
    assert pages == [(0, 1000), (1000, 2000), (2000, 2401)] and server.operations().count("Runs") == 2
    snapshot = tmp_path / "ray_results" / "lora" / "comparison" / "snapshots" / f"{ENTITY}-{PROJECT}-sweep0.json"
    kept = read_json(snapshot)
    assert [one["id"] for one in kept["runs"]] == list(HISTORIES)
    for one in kept["runs"]:
        served = server.runs[one["id"]]
        assert one["history"] == histories[one["id"]], one["id"]
        assert (one["name"], one["state"]) == (served.display_name, served.state)
        assert one["config"] == served.config and one["summary"] == served.summary
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    first = read_folder(asked.root)
    requests = len(server.asked)
    sweep = read_sweep(target, first, snapshot.parent)
    assert sweep.identity.hashes() == first.identity.hashes(), "one space, metric, data and code"
    assert [trial.state for trial in sweep.trials] == STATES
    scores = [[epoch["score"] for epoch in trial.epochs] for trial in sweep.trials]
    assert scores[:4] == [[0.0, 0.08, 0.16, 0.24], [0.1, 0.2, 0.3], [0.1], [0.1, 0.2]] and scores[5:7] == [[], [0.1]]
    assert [trial.params["lr"] for trial in sweep.trials] == [0.002 + number / 10_000 for number in range(13)]
    again, _ = run_comparison(Request(asked.root, (target,)))
    assert len(server.asked) == requests and curve(sweep, "trials") == curve(again.campaigns[1], "trials")


def test_a_server_that_fails_in_the_middle_is_one_message(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real command, and the client's real patience."""
    asked = results(tmp_path / "a", monkeypatch, tmp_path / "ray_results" / "lora")
    server.sweeps["s"] = Sweep((tmp_path / "a" / "space.yaml").read_text())
    fill(server, "s", {})
    server.faults["HistoryPage"] = Fault(500, after=4)
    before = {path: path.read_bytes() for path in asked.root.rglob("*") if path.is_file()}
    done = run(tmp_path, COMPARE, "ray_results/lora", "--with", f"{ENTITY}/{PROJECT}/s")
    message = refused(done, "W&B does not give this sweep", "HTTP 500: the server has a fault", "giving up after 3 attempt")
    assert "wandb login" in message and server.operations().count("HistoryPage") == 7
    assert {path: path.read_bytes() for path in asked.root.rglob("*") if path.is_file()} == before, "nothing half-written"
    assert KEY not in done.stderr


@pytest.fixture
def sweep(server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """A sweep, and a client of little patience."""
    monkeypatch.setattr(wandb_runs, "TIMEOUT_S", 1.0)
    monkeypatch.setattr(wandb_runs, "ATTEMPTS", 2)
    server.sweeps["s"] = Sweep("method: random\n")
    fill(server, "s", {})
    return f"{ENTITY}/{PROJECT}/s"


@pytest.mark.parametrize(
    ("operation", "fault", "words"),
    [
        ("Viewer", Fault(401), "Failed to verify credentials .* has a fault"),
        ("Viewer", Fault("hang"), "Failed to verify credentials .* giving up after 2 attempt"),
        ("GetSweep", Fault(404), "Could not find sweep|has a fault"),
        ("Runs", Fault(500, after=1), "HTTP 500: the server has a fault"),
        ("Run", Fault(401, after=3), "has a fault"),
        ("RunParquetHistory", Fault("error", after=2), "has a fault"),
        ("HistoryPage", Fault(401, after=2), "401"),
        ("HistoryPage", Fault("hang", after=2), "giving up after 2 attempt"),
        ("download", Fault("hang", after=1), "giving up after 2 attempt"),
        ("download", Fault(500, after=1), "500"),
    ],
    ids=lambda value: str(getattr(value, "what", value)).split()[0],
)
def test_every_way_to_fail(server: WandbServer, sweep: str, tmp_path: Path, operation: str, fault: Fault, words: str) -> None:
    if operation == "GetSweep":
        server.faults["GetSweepLegacy"] = fault  # the client asks in an older way before it gives up
    server.faults[operation] = fault
    with pytest.raises(UserError, match=words) as caught:
        read_sweep(sweep, LIKE, tmp_path / "snapshots")
    assert "W&B does not give this sweep" in str(caught.value) and "\n" not in str(caught.value).partition("\n  → ")[0]
    assert not (tmp_path / "snapshots").exists()


def test_a_wrong_key_and_a_sweep_that_is_none(
    server: WandbServer, sweep: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    with pytest.raises(UserError, match="Could not find sweep"):
        read_sweep(f"{ENTITY}/{PROJECT}/other", LIKE, tmp_path / "snapshots")
    with pytest.raises(UserError, match="Could not find sweep"):
        read_sweep(f"another/{PROJECT}/s", LIKE, tmp_path / "snapshots")
    wandb.teardown()
    monkeypatch.setenv("WANDB_API_KEY", wrong := KEY[::-1])
    with pytest.raises(UserError, match="the API key is not valid") as caught:
        read_sweep(sweep, LIKE, tmp_path / "snapshots")
    assert wrong not in str(caught.value) and not (tmp_path / "snapshots").exists()


def test_a_fault_that_passes_is_not_noticed(
    server: WandbServer, sweep: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_runs, "ATTEMPTS", 3)
    server.faults = {"HistoryPage": Fault(500, after=2, times=1), "download": Fault(503, times=1)}
    found = read_sweep(sweep, LIKE, tmp_path)
    assert [trial.state for trial in found.trials] == STATES


def test_histories_are_the_server_s_and_not_a_cache_s(server: WandbServer, sweep: str, tmp_path: Path) -> None:
    """The client keeps exported files by run and number, and would show an older one, or a torn one."""
    read_sweep(sweep, LIKE, tmp_path / "one")
    rows = [{**row(step, 0.5)} for step in range(1, 4)]
    server.runs["exported"].parquet = (parquet(rows[:1]), parquet(rows[1:]))
    found = read_sweep(sweep, LIKE, tmp_path / "two").trials[1]
    assert [epoch["score"] for epoch in found.epochs] == [0.5, 0.5, 0.5, 0.3]


def test_a_row_without_the_metric_is_no_epoch() -> None:
    """Exported files have None where nothing was logged; that is no divergence."""
    history = [{"_step": 1, "score": 0.1}, {"_step": 2, "score": None}, {"_step": 3, "score": float("nan")}]
    seen = {"id": "r", "name": "r", "state": "running", "config": {}, "summary": {}}
    (plain,) = campaign("x", [{**seen, "history": history[:2]}], LIKE, None).trials
    assert plain.state == "RUNNING" and len(plain.epochs) == 1
    (diverged,) = campaign("x", [{**seen, "history": history}], LIKE, None).trials
    assert diverged.state == "DIVERGED"


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparisons in this process draw nothing."""
    monkeypatch.setattr(comparing_run, "write_report", lambda found, folder: None)
