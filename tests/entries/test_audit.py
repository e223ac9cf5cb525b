"""`python -m tune_accent.audit`: mistakes, help, and the whole audit of a small real demo, interrupted and continued."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.entries.command import CONFIG, environment, refused, run, write_search
from tests.warm import Warm

AUDIT = "tune_accent.audit"
FOLDER = "ray_results/small-audit"  # where an audit of the small demo is by itself
needs_demo = pytest.mark.skipif(importlib.util.find_spec("espeakng_loader") is None, reason="the demo extra")


def test_help_and_mistakes_need_nothing_heavy() -> None:
    code = f"import sys\nimport {AUDIT}\nprint([name for name in ('torch', 'matplotlib', 'pandas', 'sklearn') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert done.stdout.strip() == "[]"


def test_help_names_the_options(tmp_path: Path) -> None:
    done = run(tmp_path, AUDIT, "--help")
    assert (
        done.returncode == 0 and "--out" in done.stdout and "--fresh" in done.stdout and "ray_results/<name>-audit" in done.stdout
    )
    assert "audit" in run(tmp_path, "tune_accent", "--help").stdout


BAD = {
    "no such file": ("nowhere.yaml", CONFIG, ("nowhere.yaml", "not found")),
    "unknown layer key": (
        "small.yaml",
        CONFIG + "audit: {layer: [pre_vocoder]}\n",
        ("small.yaml", "audit.layer", "did you mean"),
    ),
    "unknown pooling": ("small.yaml", CONFIG + "audit: {poolings: [max]}\n", ("small.yaml", "audit.poolings")),
    "no corpus": (
        "small.yaml",
        CONFIG.replace("{kind: demo, preset: EN3, speakers: 8, texts: 6}", "{kind: prepared}"),
        ("data.root: data/small", "not there"),
    ),
}


@pytest.mark.parametrize(("file", "config", "words"), BAD.values(), ids=BAD)
def test_a_mistake_is_one_message(tmp_path: Path, warm: Warm, file: str, config: str, words: tuple[str, ...]) -> None:
    write_search(tmp_path, config)
    refused(warm.run(tmp_path, AUDIT, file), *words)
    assert not (tmp_path / "ray_results").exists()


def test_the_folder_of_a_search_is_refused_before_anything_is_made(tmp_path: Path, warm: Warm) -> None:
    write_search(tmp_path)
    (tmp_path / "ray_results" / "lora" / "trials").mkdir(parents=True)
    refused(
        warm.run(tmp_path, "tune_accent", "audit", "small.yaml", "--out", "ray_results/lora"),
        "it is no audit",
        "--out",
        "--fresh",
    )
    assert not (tmp_path / "data").exists()


@needs_demo
@pytest.mark.slow
def test_an_audit_that_is_interrupted_ends_as_one_that_is_not(tmp_path: Path, warm: Warm) -> None:
    write_search(tmp_path)
    straight = run(tmp_path, AUDIT, "small.yaml")
    assert straight.returncode == 0 and "Traceback" not in straight.stderr, straight.stderr
    for words in (
        "Recommended layer: k = ",
        "Verdict: ",
        "(not decidable)",
        "Small data set: 6 texts",
        "random weights",
        "Next:",
    ):
        assert words in straight.stdout
    _interrupt(tmp_path, warm)
    done = warm.run(tmp_path, AUDIT, "small.yaml", "--out", FOLDER)
    assert done.returncode == 0 and "complete" in done.stdout, done.stderr
    names = [
        "metrics.csv",
        "report.md",
        "report.html",
        *(f"figures/layer_{name}.png" for name in ("accent_f1", "leakage", "text_drop")),
    ]
    for name in names:
        assert (tmp_path / FOLDER / name).read_bytes() == (tmp_path / f"{FOLDER}.old-1" / name).read_bytes(), name
    again = warm.run(tmp_path, AUDIT, "small.yaml")
    assert "all read from its folder" in again.stdout and again.stderr == ""


def _interrupt(folder: Path, warm: Warm) -> None:
    """An audit that starts over, and Ctrl-C after two records."""
    shutil.rmtree(folder / "data" / "small" / "features")
    process, deadline = warm.start(folder, AUDIT, "small.yaml", "--out", FOLDER, "--fresh"), time.monotonic() + 120
    while not (folder / f"{FOLDER}.old-1").exists() or len(list(folder.glob(f"{FOLDER}/sets/*.json"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate(timeout=1)
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.poll() == 130 and out == "" and "Traceback" not in err, err
    assert f"{FOLDER} is now {FOLDER}.old-1" in err
    assert "records and all features that were extracted are kept. To continue:" in err
    assert err.rstrip().endswith(f"-m tune_accent.audit small.yaml --out {FOLDER}"), "and not from the start again"
    assert 2 <= len(list(folder.glob(f"{FOLDER}/sets/*.json"))) < 21
    assert len(list(folder.glob(f"{FOLDER}.old-1/sets/*.json"))) >= 21, "what was there is kept"
