"""`tracking.wandb.mode: online` with W&B's real client and a server of our own: what arrives is what epochs.jsonl says, once, and the key is nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tracking.tracked_search import launch, recorded, tracked_request
from tests.wandb_server import WandbServer
from tests.wandb_state import KEY
from tune_accent.base.files import canonical_json
from tune_accent.config.load import resolve
from tune_accent.tracking.wandb import run_id

OURS = {"_step", "_runtime", "_timestamp", "epoch", "seconds", "peak_mb", "allocated_mb"}


def compare(root: Path, server: WandbServer) -> None:
    """Assert that the server's runs hold every figure of every epoch, once; the best one's has a row more, with the report's figures."""
    identity, lines = (root / "spec.sha256").read_text().strip(), recorded(root)
    rows = [row for run in server.runs.values() for row in run.rows()]
    assert len(lines) == sum("epoch" in row for row in rows) > 5
    (more,) = (row for row in rows if "epoch" not in row)
    assert "score" not in more and sum(name.startswith("figures/") for name in more) > 2
    for line in lines:
        number, key, epoch = (line.pop(name) for name in ("trial", "key", "epoch"))
        run = server.runs[run_id(identity, key)]
        row = run.rows()[epoch - 1]
        assert (run.config["trial"], run.config["key"], row["_step"], row["epoch"]) == (number, key, epoch, epoch)
        assert set(row) - OURS == set(line)
        for name, value in line.items():
            assert row[name] == (canonical_json(value) if isinstance(value, dict) else value), name


@pytest.mark.slow
def test_a_search_online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_logger: Any, capsys: Any) -> None:
    (home := tmp_path / "home").mkdir()
    with WandbServer() as server:
        for name, value in {**server.environment(home), "TMPDIR": str(home)}.items():
            monkeypatch.setenv(name, value)
        asked = tracked_request(tmp_path, mode="online")
        outcome = launch(asked, monkeypatch)
        assert server.unknown == [] and "W&B tracking" not in capsys.readouterr().err
        compare(asked.root, server)
        assert len(server.runs) == 5 and {run.state for run in server.runs.values()} == {"finished"}
        (group,) = {run.group for run in server.runs.values()}
        assert group is not None and group.startswith("results-")
        identity = (asked.root / "spec.sha256").read_text().strip()
        for trial in outcome.core.trials:
            run = server.runs[run_id(identity, trial.key)]
            assert (run.project, run.tags, run.display_name) == ("small", ["a", "b"], f"trial {trial.number:04d}")
            assert run.summary["state"] == trial.state
            assert run.config["experiment"] == resolve(asked.experiment, trial.params).model_dump(mode="json")
        check_artifact(asked.root, server)
        before = len(server.asked)
        launch(asked, monkeypatch)
        assert len(server.asked) == before, "a finished search has nothing to send"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if KEY.encode() in path.read_bytes()] and len(files) > 20


def check_artifact(root: Path, server: WandbServer) -> None:
    """Assert that the server has `best/`, whole, and the report's figures."""
    (artifact,) = server.artifacts.values()
    assert artifact["committed"] and artifact["artifactTypeName"] == "model"
    manifest = artifact["files"].pop("wandb_manifest.json")
    assert b"adapter_model.safetensors" in manifest
    assert artifact["files"] == {path.name: path.read_bytes() for path in (root / "best").iterdir()}
    figures = [name for run in server.runs.values() for name in run.uploads if name.endswith(".png")]
    assert len(figures) > 2
