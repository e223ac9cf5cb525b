"""`python -m tune_accent.rerun`: refusals, and a whole small paper run: interrupted, continued, verified, refused a second opening."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.entries.command import refused, started
from tests.warm import Warm

pytestmark = pytest.mark.ray

RERUN = "tune_accent.rerun"
FOLDER = "ray_results/one"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, searched: Path, warm: Warm) -> Path:
    """A copy of the finished small search, and a paper run that was interrupted once, as a real interpreter, and then finished."""
    folder = Path(shutil.copytree(searched, tmp_path_factory.mktemp("rerun") / "copy"))
    before = (folder / FOLDER / "trials.csv").read_bytes()
    _interrupt(folder)
    finished = warm.run(folder, RERUN, FOLDER, timeout=600)
    assert finished.returncode == 0, finished.stderr
    (folder / "stdout.txt").write_text(finished.stdout, encoding="utf-8")
    assert (folder / FOLDER / "trials.csv").read_bytes() == before
    return folder


def _interrupt(folder: Path) -> None:
    """SIGINT once the first epoch of the paper run is on the disk."""
    timing = folder / FOLDER / "paper" / "timing.csv"
    with started(folder, RERUN, FOLDER) as process:
        while process.poll() is None and not (timing.is_file() and timing.read_text().count("\n") > 1):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=120)
    assert process.returncode == 130, told
    assert "To continue:" in told and "tune_accent.rerun ray_results/one" in told


def rows(path: Path) -> Iterator[dict[str, str]]:
    """Rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as stream:
        yield from csv.DictReader(stream)


def test_no_folder_and_no_search_are_refused(tmp_path: Path, warm: Warm) -> None:
    refused(warm.run(tmp_path, RERUN, "nowhere"), "nowhere", "no such folder")
    (tmp_path / "empty").mkdir()
    refused(warm.run(tmp_path, RERUN, "empty"), "empty")
    refused(warm.run(tmp_path, RERUN, "--verify", "empty"), "empty", "no search")
    refused(warm.run(tmp_path, RERUN, "empty", "--reopen", "  "), "--reopen")
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.slow
def test_a_paper_run_leaves_what_a_reviewer_asks_for(place: Path) -> None:
    paper = place / FOLDER / "paper"
    told = (place / "stdout.txt").read_text(encoding="utf-8")
    assert "equal to the bit; with the search's own trial: equal to the bit." in told
    main = list(rows(paper / "tables" / "main.csv"))
    assert {row["arm"] for row in main} >= {"winner", "no_lora", "no_leakage"}
    assert json.loads((paper / "reproduction.json").read_text())["same_twice"] is True
    assert len(json.loads((paper / "test_split.json").read_text())["openings"]) == 1
    # 1 text × 3 speakers × (3 accents + none + no LoRA)
    assert sum(1 for _ in rows(paper / "control.csv")) == 15
    report = (paper / "report.md").read_text(encoding="utf-8")
    assert "O sotaque é controlável: 100 % dos casos_teste" in report
    assert {path.suffix for path in (paper / "figures").iterdir()} == {".pdf", ".png"}
    assert (paper / "adapter" / "adapter_model.safetensors").is_file()
    with zipfile.ZipFile(place / FOLDER / "paper.zip") as bundle:
        names = bundle.namelist()
    assert "paper/report.html" in names and "paper/adapter/heads.safetensors" in names


@pytest.mark.slow
def test_the_same_command_again_prints_the_result_and_computes_nothing(place: Path, warm: Warm) -> None:
    root = place / FOLDER
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file() and path.name != ".lock"}
    again = warm.run(place, RERUN, FOLDER)
    assert again.returncode == 0, again.stderr
    assert again.stdout == (place / "stdout.txt").read_text(encoding="utf-8")
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file() and path.name != ".lock"} == before


@pytest.mark.slow
def test_verify_finds_an_edited_number_wherever_it_is(place: Path, warm: Warm) -> None:
    whole = warm.run(place, RERUN, "--verify", FOLDER)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    root = place / FOLDER
    for name in ("paper/tables/main.csv", "paper/control.csv", "trials.csv", "timing.csv", "paper/hashes.json"):
        text = (root / name).read_text(encoding="utf-8")
        place_of = max(text.rfind(digit) for digit in "123456789")
        edited = text[:place_of] + str(int(text[place_of]) % 9 + 1) + text[place_of + 1 :]
        (root / name).write_text(edited, encoding="utf-8", newline="")
        found = warm.run(place, RERUN, "--verify", FOLDER)
        (root / name).write_text(text, encoding="utf-8", newline="")
        assert found.returncode == 1, name
        assert any(line.startswith(name) for line in found.stdout.splitlines()), found.stdout


@pytest.mark.slow
def test_a_second_opening_needs_a_reason(place: Path, warm: Warm) -> None:
    other = (place / "one.yaml").read_text().replace("ablations: [wrong_accent]", "ablations: []")
    other = other.replace("baselines: [no_lora, no_leakage]", "baselines: [no_lora]")
    (place / "other.yaml").write_text(other)
    message = refused(warm.run(place, RERUN, FOLDER, "--config", "other.yaml"), "test", "--reopen")
    assert "arms" in message
    seeds = (place / "one.yaml").read_text().replace("  seeds: 2", "  seeds: 3")
    (place / "seeds.yaml").write_text(seeds)
    timing = (place / FOLDER / "paper" / "timing.csv").read_bytes()
    refused(warm.run(place, RERUN, FOLDER, "--config", "seeds.yaml"), "seeds", "--reopen")
    assert (place / FOLDER / "paper" / "timing.csv").read_bytes() == timing  # refused before anything was trained
    whole = warm.run(place, RERUN, "--verify", FOLDER)
    assert whole.returncode == 0, whole.stdout  # and the finished paper is as it was
