"""What is recorded about where a result came from."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from email import message_from_string
from pathlib import Path
from types import SimpleNamespace

import pytest

import tune_accent
from tune_accent.base.files import sha256_bytes
from tune_accent.tracking import provenance
from tune_accent.tracking.provenance import DECISIVE, decisive, environment, git_state, packages


def test_an_environment_is_plain_json_and_names_what_decides() -> None:
    record = json.loads(json.dumps(environment(), allow_nan=False))
    assert {"tune_accent", "python", "packages", "git", "platform", "processor", "cores", "gpus", "threads", "command"} == set(
        record
    )
    chosen = decisive(record)
    assert set(chosen) == {"tune_accent", "python", *DECISIVE} and "absent" not in chosen.values()
    assert chosen["python"] == ".".join(map(str, sys.version_info[:3]))
    assert chosen["tune_accent"] == tune_accent.__version__
    bare = {"tune_accent": "0.1.0", "python": "3.11.0", "packages": {}}
    assert decisive(bare)["torch"] == "absent"
    odds: list[dict[str, object]] = [{"tune_accent": None}, {"python": 3}, {"packages": {"torch": 2}}, {"packages": []}]
    for odd in odds:
        with pytest.raises((TypeError, AttributeError)):
            decisive({**bare, **odd})


def test_versions_are_read_without_importing_packages() -> None:
    code = (
        "import sys\nfrom tune_accent.tracking.provenance import environment\nenvironment()\n"
        "print([name for name in ('torch', 'ray', 'optuna', 'pandas', 'wandb') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "[]"


def test_a_broken_installation_harms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ("Name: B_b\nVersion: 1\n", "Name: a\nVersion: 1\n", "")  # the last: a folder that an interrupted pip has left
    found = [SimpleNamespace(metadata=message_from_string(text)) for text in texts]
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: found)
    assert packages() == {"a": "1", "b-b": "1"}


def test_the_commit_is_recorded_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert git_state(tmp_path) is None

    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    git("init")
    (tmp_path / "x").write_text("1")
    git("add", "x")
    git("commit", "-m", "x")
    state = git_state(tmp_path)
    assert state is not None and len(state["commit"]) == 40 and state["dirty"] is False
    assert set(state) == {"commit", "dirty"}
    (tmp_path / "x").write_text("2")
    (tmp_path / "untracked").write_text("a secret")
    changed = git_state(tmp_path)
    assert changed is not None and changed["commit"] == state["commit"] and changed["dirty"] is True
    assert "-1\n" in changed["diff"] and "+2\n" in changed["diff"] and "secret" not in changed["diff"]
    assert changed["diff_sha256"] == sha256_bytes(changed["diff"].encode()) and changed["diff_bytes"] == len(changed["diff"])
    monkeypatch.setattr(provenance, "MAX_DIFF", 10)
    assert git_state(tmp_path) == {**changed, "diff": changed["diff"][:10]}, "bounded, and the hash is that of the whole"
    monkeypatch.setenv("PATH", str(tmp_path))  # no git, no nvidia-smi
    assert git_state(tmp_path) is None and provenance.gpus() == []


def test_gpus_are_read_from_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA RTX 4090, 24564 MiB, 550.54'\necho 'a broken line'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert provenance.gpus() == [{"name": "NVIDIA RTX 4090", "memory": "24564 MiB", "driver": "550.54"}]
