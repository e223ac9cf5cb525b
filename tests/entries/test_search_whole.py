"""`python -m tune_accent.search`: the whole search on a small real demo; killed, interrupted, continued, called again."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.entries.command import CONFIG, refused
from tests.warm import Warm
from tune_accent.base.files import folder_lock

pytestmark = pytest.mark.ray

SEARCH = "tune_accent.search"
FOLDER = {
    "best",
    "best.json",
    "environment.json",
    "epochs.jsonl",
    "logs",
    "optuna.db",
    "report",
    "spec.sha256",
    "spec.yaml",
    "suggestions",
    "tensorboard",
    "timing.csv",
    "trials",
    "trials.csv",
}


def digest(root: Path) -> str:
    return hashlib.sha256((root / "trials.csv").read_bytes()).hexdigest()


@pytest.mark.slow
def test_the_folder_is_whole_and_holds_no_pickle(searched: Path) -> None:
    root = searched / "ray_results" / "one"
    assert {path.name for path in root.iterdir()} - {".lock"} == FOLDER
    kinds = {
        path.suffix for path in root.rglob("*") if path.is_file() and "tensorboard" not in path.parts and path.name != ".lock"
    }
    assert kinds == {".json", ".jsonl", ".csv", ".html", ".yaml", ".sha256", ".db", ".md", ".log", ".safetensors"}
    assert (root / "timing.csv").read_text().startswith("launch,trial,epoch,worker,started,seconds,peak_mb,allocated_mb\n1,")
    rows = (root / "trials.csv").read_text().splitlines()
    assert len(rows) == 6 and rows[0].startswith("trial,state,epochs,lora_rank,lora_alpha,lr,leakage_weight,accent_f1,")


@pytest.mark.slow
def test_a_second_call_prints_the_result_and_trains_nothing(searched: Path, warm: Warm) -> None:
    root = searched / "ray_results" / "one"
    before = (digest(root), (root / "timing.csv").read_bytes(), (root / "best.json").read_bytes())
    done = warm.run(searched, SEARCH, "space.yaml", "--config", "one.yaml", "--name", "one")
    assert done.returncode == 0 and "Best trial: " in done.stdout and "[" not in done.stderr, done.stderr
    assert (digest(root), (root / "timing.csv").read_bytes(), (root / "best.json").read_bytes()) == before


@pytest.mark.slow
def test_two_workers_killed_on_the_way_give_the_same_table(searched: Path, warm: Warm) -> None:
    """SIGKILL of the whole process group, twice; then the same command finishes. Also: a second process is refused, Ctrl-C exits 130."""
    root = searched / "ray_results" / "two"
    for ending in (signal.SIGKILL, signal.SIGKILL, signal.SIGINT):
        _interrupted(searched, root, ending, warm)
    done = warm.run(searched, SEARCH, "space.yaml", "--name", "two")
    assert done.returncode == 0, done.stderr
    assert digest(root) == digest(searched / "ray_results" / "one")
    assert (root / "epochs.jsonl").read_bytes() == (searched / "ray_results" / "one" / "epochs.jsonl").read_bytes()
    assert {path.name for path in root.iterdir()} - {".lock"} == FOLDER and not list(root.rglob("*.tmp"))


def _interrupted(folder: Path, root: Path, ending: signal.Signals, warm: Warm) -> None:
    """One launch that is ended after two more epochs."""
    known = len(list(root.glob("trials/*/*.json")))
    process, deadline = warm.start(folder, SEARCH, "space.yaml", "--name", "two"), time.monotonic() + 120
    while len(list(root.glob("trials/*/*.json"))) < known + 2:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate(timeout=1)
        time.sleep(0.05)
    if ending == signal.SIGINT:
        os.kill(process.pid, signal.SIGSTOP)  # it must not end before the other one has looked
        refused(warm.run(folder, SEARCH, "space.yaml", "--name", "two"), f"process {process.pid} is working in this folder")
        os.kill(process.pid, signal.SIGCONT)
        os.kill(process.pid, ending)
    else:
        family = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, ending)
        for orphan in family:  # Ray's daemons have sessions of their own
            if orphan.is_running():
                orphan.kill()
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    if ending == signal.SIGINT:
        assert process.poll() in (0, 130)
        if process.poll() == 130:
            assert "To continue:" in out and "tune_accent.search space.yaml --name two" in out
    else:
        assert process.poll() == -ending


@pytest.mark.slow
def test_a_changed_config_is_refused_and_a_lock_is_respected(searched: Path, warm: Warm) -> None:
    root = searched / "ray_results" / "one"
    before = digest(root)
    (searched / "changed.yaml").write_text(CONFIG.replace("batch_size: 12", "batch_size: 9"))
    done = warm.run(searched, SEARCH, "space.yaml", "--config", "changed.yaml", "--name", "one")
    refused(done, "ray_results/one", "training.batch_size: 12 → 9", "--fresh", "--name")
    with folder_lock(root):
        done = warm.run(searched, SEARCH, "space.yaml", "--config", "one.yaml", "--name", "one", "--fresh")
        refused(done, f"process {os.getpid()} is working in this folder")
    assert digest(root) == before and not root.with_name("one.old-1").exists()
