"""W&B's real client, offline: what it wrote is what epochs.jsonl says, once; and nothing that goes wrong with it harms a search."""

from __future__ import annotations

import base64
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from wandb.proto.wandb_internal_pb2 import Record

from tests.tracking.tracked_search import KEY, launch, recorded, tracked_request
from tests.tuning.small_search import PREPARED
from tests.tuning.test_driver import stop_at
from tune_accent.base.checksums import check_folder, write_checksums
from tune_accent.base.files import canonical_json, read_json, remove, write_bytes, write_json
from tune_accent.config.load import resolve
from tune_accent.models.adapter_base import read_base
from tune_accent.tracking import wandb_link
from tune_accent.tracking.wandb import run_id
from tune_accent.tracking.wandb_files import OfflineRun, _records, read_runs
from tune_accent.tracking.wandb_link import Link
from tune_accent.tracking.wandb_process import LEDGER, read_ledger
from tune_accent.tuning.tracked import _is_written

OURS = {"_step", "_runtime", "_timestamp", "epoch", "seconds", "peak_mb", "allocated_mb"}


def runs_of(root: Path) -> dict[str, OfflineRun]:
    """The offline runs below a results folder by id; each id must be there once."""
    runs, faults = read_runs(root / "wandb")
    assert not faults and len({run.id for run in runs}) == len(runs)
    return {run.id: run for run in runs}


def compare(root: Path) -> dict[str, OfflineRun]:
    """Assert that the runs hold every figure of every epoch, and nothing else; returns them."""
    runs, identity = runs_of(root), (root / "spec.sha256").read_text().strip()
    lines = recorded(root)
    assert len(lines) == sum(len(run.history) for run in runs.values()) > 5
    for line in lines:
        number, key, epoch = (line.pop(name) for name in ("trial", "key", "epoch"))
        run = runs[run_id(identity, key)]
        row = run.history[epoch - 1]
        assert (run.config["trial"], run.config["key"], row["_step"], row["epoch"]) == (number, key, epoch, epoch)
        figures = {name for name in row if name.startswith("figures/")}
        assert set(row) - OURS - figures == set(line) and row["seconds"] == 0.5 and row["peak_mb"] == 1.0 == row["allocated_mb"]
        for name, value in line.items():
            assert row[name] == (canonical_json(value) if isinstance(value, dict) else value), name
    return runs


@pytest.mark.slow
def test_offline_runs_hold_every_figure_of_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_logger: Any) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    asked = tracked_request(tmp_path)
    outcome = launch(asked, monkeypatch)
    runs = compare(asked.root)
    assert len(runs) == 5 and {run.exit_code for run in runs.values()} == {0}
    for trial in outcome.core.trials:
        run = runs[run_id((asked.root / "spec.sha256").read_text().strip(), trial.key)]
        assert (run.project, run.tags, run.name) == ("small", ("a", "b"), f"trial {trial.number:04d}")
        assert run.group is not None and run.group.startswith("results-") and run.summary["state"] == trial.state
        assert {name: run.config[name] for name in trial.params} == dict(trial.params)
        assert run.config["experiment"] == resolve(asked.experiment, trial.params).model_dump(mode="json")
        assert run.config["data"]["manifest"] == "m" and "lr" in run.config["space"]["parameters"]
        made = read_json(asked.root / "environment.json")
        assert run.config["git_commit"] == made["git"]["commit"] and run.config["environment"]["packages"] == made["packages"]
        assert "diff" not in run.config["environment"]["git"]
    found = [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert not found, "the key is in no file"
    monkeypatch.undo()
    before = {path: path.read_bytes() for path in (asked.root / "wandb").rglob("*") if path.is_file()}
    launch(asked, monkeypatch)
    assert {path: path.read_bytes() for path in (asked.root / "wandb").rglob("*") if path.is_file()} == before
    assert outcome.best is not None
    best = run_id((asked.root / "spec.sha256").read_text().strip(), outcome.best.key)
    check_artifact(asked.root, best)
    check_figures(asked.root, best)
    ledger = read_ledger(asked.root / "wandb" / LEDGER)
    sent = ledger[best].pop("best")
    write_json(asked.root / "wandb" / LEDGER, ledger)  # as after a kill in between
    launch(asked, monkeypatch)
    check_artifact(asked.root, best)
    assert read_ledger(asked.root / "wandb" / LEDGER)[best]["best"] == sent
    compare(asked.root)


def check_artifact(root: Path, best: str) -> None:
    """Assert that the best run's artifact is `best/`, whole, and loads as an adapter folder does."""
    (path,) = (root / "wandb").glob(f"offline-run-*-{best}/run-{best}.wandb")
    (artifact,) = (
        record.artifact for record in map(Record.FromString, _records(path, path.read_bytes())) if record.HasField("artifact")
    )
    assert artifact.type == "model" and "best" in artifact.aliases
    assert artifact.name == f"adapter-{(root / 'spec.sha256').read_text()[:12]}"
    staged = {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}
    assert {"adapter_config.json", "adapter_model.safetensors", "heads.safetensors", "base.json", "README.md"} <= set(staged)
    assert all(root / "wandb" / "data" in path.parents for path in staged.values()), (
        "copies: `best/` may change before `wandb sync`"
    )
    fetched = root.parent / "fetched"
    for name, file in staged.items():
        write_bytes(fetched / name, file.read_bytes())
    check_folder(fetched)
    assert {name: (fetched / name).read_bytes() for name in staged} == {
        path.name: path.read_bytes() for path in (root / "best").iterdir()
    }
    assert read_base(fetched).backbone == "tiny" and read_base(fetched).fingerprint == PREPARED.backbone


def check_figures(root: Path, best: str) -> None:
    """Assert that the best run shows the figures of the search's report, beside the figures of its last epoch."""
    (folder,) = (root / "wandb").glob(f"offline-run-*-{best}")
    path = folder / f"run-{best}.wandb"
    rows = [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in map(Record.FromString, _records(path, path.read_bytes()))
        if record.HasField("history")
    ]
    shown = [value for name, value in rows[-1].items() if name.startswith("figures/") and name.endswith("/path")]
    assert rows[-1]["epoch"] == len(rows), "no row of their own"
    page = (root / "report" / "index.html").read_text(encoding="utf-8")
    for path in shown:
        png = (folder / "files" / path).read_bytes()
        assert base64.b64encode(png).decode() in page, "the same picture as in the report"
    assert len(shown) == page.count("data:image/png") > 2, rows[-1]


def test_an_adapter_that_is_not_there_is_not_sent(tmp_path: Path) -> None:
    """A launch that fails at its end leaves an older `best/`, or none."""
    trial: Any = SimpleNamespace(key="k", reports=[{}, {}])
    assert not _is_written(tmp_path, trial)
    write_json(tmp_path / "best" / "base.json", {})
    write_checksums(tmp_path / "best")
    write_json(tmp_path / "best.json", {"key": "k", "epoch": 2})
    assert _is_written(tmp_path, trial)
    others: list[Any] = [{"key": "k", "epoch": 1}, {"key": "j", "epoch": 2}, {}, []]
    for other in others:
        write_json(tmp_path / "best.json", other)
        assert not _is_written(tmp_path, trial)
    write_json(tmp_path / "best.json", {"key": "k", "epoch": 2})
    write_json(tmp_path / "best" / "base.json", {"edited": 1})
    assert not _is_written(tmp_path, trial)


@pytest.mark.slow
def test_a_continued_search_has_one_run_per_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_logger: Any) -> None:
    asked = tracked_request(tmp_path)
    assert launch(asked, monkeypatch, stop_at(6)).stopped == "Ctrl-C"
    half = runs_of(asked.root)
    assert sum(len(run.history) for run in half.values()) == 6
    assert 1 in {run.exit_code for run in half.values()}, "what was interrupted is no success"
    lost = next(path for path in (asked.root / "wandb").glob("offline-run-*"))
    remove(lost)
    launch(asked, monkeypatch)
    runs = compare(asked.root)
    assert lost.name.rpartition("-")[2] in runs, "what the folder lost is written again"
    assert set(half) <= set(runs) and len(runs) == 5 and {run.exit_code for run in runs.values()} == {0}


def kill_clients(sig: signal.Signals) -> None:
    """Send `sig` to every process below this one that belongs to W&B."""
    for child in psutil.Process().children(recursive=True):
        if any("wandb" in part for part in child.cmdline()):
            child.send_signal(sig)


def test_a_killed_client_ends_tracking_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_logger: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def before(done: int) -> None:
        if done == 4:
            wait_for(lambda: runs_of_files(asked.root) > 1)
            kill_clients(signal.SIGKILL)

    asked = tracked_request(tmp_path)
    outcome = launch(asked, monkeypatch, before)
    assert outcome.core.done and len(recorded(asked.root)) == sum(len(trial.reports) for trial in outcome.core.trials)
    assert capsys.readouterr().err.count("W&B tracking:") == 1
    remove(asked.root / "wandb")


def runs_of_files(root: Path) -> int:
    return len(list(root.glob("wandb/offline-run-*/run-*.wandb")))


def wait_for(condition: Any, seconds: float = 60.0) -> None:
    """Until `condition` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_damaged_ledger_is_an_empty_one(tmp_path: Path) -> None:
    for text in ("{ torn", "[1]", '{"a": 3}'):
        (tmp_path / LEDGER).write_text(text)
        assert read_ledger(tmp_path / LEDGER) == {}


def test_a_client_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    code = "import sys, time\nsys.stdin.readline()\ntime.sleep(600)"
    monkeypatch.setattr(wandb_link, "COMMAND", (sys.executable, "-c", code))
    with caplog.at_level(logging.WARNING, "tune_accent"):
        link = Link({"hello": 1}, patience=0.5)
        for number in range(2_000):
            link.send({"do": "epoch", "row": {"text": "x" * 1000, "number": number}})  # more than a pipe holds
        process = link._process
        link.close()
        link.send({"do": "epoch"})
        link.close()
    assert [record.message.count("did not finish in 0.5 s") for record in caplog.records] == [1]
    process = process or link._process
    assert process is not None and process.wait(10) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; print('the disk is full', flush=True); sys.exit(1)", "the disk is full"),
        ("import sys; sys.exit(3)", "exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", "exit code -9"),
    ],
    ids=["says why", "fails", "killed"],
)
def test_a_client_that_fails_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: str, words: str
) -> None:
    monkeypatch.setattr(wandb_link, "COMMAND", (sys.executable, "-c", code))
    with caplog.at_level(logging.WARNING, "tune_accent"):
        link = Link({}, patience=30)
        for _ in range(100):
            link.send({"x": "y" * 10_000})
        link.close()
    assert len(caplog.records) == 1 and words in caplog.text


def test_a_client_that_cannot_start_or_keep_up(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "tune_accent"):
        Link({}).close()  # nothing was sent: no process
        monkeypatch.setattr(wandb_link, "COMMAND", ("/nowhere/python",))
        link = Link({})
        link.send({})
        link.close()
        monkeypatch.setattr(wandb_link, "COMMAND", (sys.executable, "-c", "import time; time.sleep(600)"))
        monkeypatch.setattr(wandb_link, "MOST", 3)
        slow = Link({})
        for _ in range(50):
            slow.send({"x": "y" * 100_000})
        slow.close()
    assert len(caplog.records) == 2 and "cannot start" in caplog.messages[0] and "keep up" in caplog.messages[1]


def client(folder: Path, mode: str, experiment: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The client's process alone, with one run of one epoch."""
    from tune_accent.tracking.wandb_process import Hello

    hello = vars(Hello(mode, str(folder), "p", None, "g", (), experiment, {}))  # type: ignore[arg-type]
    run = {"do": "run", "id": "r0", "name": "n", "config": {}, "params": {}, "rows": [{"score": 0.5}]}
    lines = [hello, run, {"do": "end", "id": "r0", "state": "COMPLETE", "failed": False}]
    return subprocess.run(
        wandb_link.COMMAND,
        input="".join(json.dumps(line) + "\n" for line in lines),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("key", ["", KEY[:20]], ids=["no key", "a key that is none"])
def test_without_a_key_runs_are_written_offline(tmp_path: Path, small_spec: Any, key: str) -> None:
    home = {"HOME": str(tmp_path), "WANDB_API_KEY": key, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    done = client(tmp_path, "online", small_spec.model_dump_json(), **home)
    assert done.returncode == 0 and done.stdout.count("\n") == 1 and "not online" in done.stdout
    assert not key or key not in done.stdout + done.stderr
    assert [run.history[0]["score"] for run in runs_of(tmp_path).values()] == [0.5]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, small_spec: Any) -> None:
    (tmp_path / "wandb").write_text("in the way")
    done = client(tmp_path, "offline", small_spec.model_dump_json())
    assert done.returncode == 1 and done.stdout.startswith("it stopped (StorageError") and done.stdout.count("\n") == 1
