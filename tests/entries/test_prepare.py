"""`python -m tune_accent.prepare`: mistakes, help, and shards that become a corpus with its cache."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.data.coraa_shards import Row, voices, write_shards
from tests.entries.command import environment, refused, run
from tests.warm import Warm
from tune_accent.base.errors import ConfigError, UserError
from tune_accent.config.speech import CoraaMupe, CsvSource, DemoSource
from tune_accent.prepare import Kind, _experiment

PREPARE = "tune_accent.prepare"
CONFIG = """\
name: shards
seed: 3
data:
  root: data/shards
  source: {kind: coraa-mupe, path: shards, workers: 1, min_utterances: 4}
  codec: {name: mfcc_pq, codewords: 16}
  splits: {seeds: [1, 2]}
  allow_confounds: ["gender: a test"]
model:
  layer: 1
  tiny: {hidden: 32, layers: 2}
"""


def test_help_and_mistakes_need_nothing_heavy() -> None:
    code = f"import sys\nimport {PREPARE}\nprint([name for name in ('torch', 'pandas', 'pyarrow', 'pydantic', 'scipy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert done.stdout.strip() == "[]"


def test_help_names_the_options(tmp_path: Path) -> None:
    done = run(tmp_path, PREPARE, "--help")
    assert done.returncode == 0
    for option in ("--from", "--out", "--config", "--regions", "--min-speakers", "--audio-quality", "--check"):
        assert option in done.stdout


def test_the_command_line_goes_over_the_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(CONFIG)
    same = _experiment(Kind.coraa_mupe, None, None, tmp_path / "a.yaml", {})
    assert capsys.readouterr().err == ""
    assert isinstance(same.data.source, CoraaMupe) and same.data.source.min_utterances == 4 and same.data.min_duration_s == 3.0
    changed = _experiment(Kind.coraa_mupe, "other", Path("out"), tmp_path / "a.yaml", {"regions": ("N", "S"), "min_speakers": 4})
    assert isinstance(changed.data.source, CoraaMupe)
    assert (changed.data.root, changed.data.source.path, changed.data.source.regions) == ("out", "other", ("N", "S"))
    assert (changed.data.source.min_utterances, changed.data.source.min_speakers, changed.name) == (4, 4, "shards")
    assert "a search reads" in capsys.readouterr().err
    other = _experiment(Kind.csv, "a.zip", Path("out"), tmp_path / "a.yaml", {})
    assert other.data.source == CsvSource(path="a.zip")


def test_without_a_config_there_are_defaults() -> None:
    made = _experiment(Kind.coraa_mupe, "nilc-nlp/CORAA-MUPE-ASR", Path("out"), None, {})
    assert isinstance(made.data.source, CoraaMupe) and made.data.source.regions == ("N", "NE", "CO", "SE", "S")
    assert (made.data.min_duration_s, made.data.max_duration_s, made.data.source.min_speakers) == (3.0, 15.0, 3)
    demo = _experiment(Kind.demo, "PT2", Path("out"), None, {})
    assert demo.data.source == DemoSource(preset="PT2")


def test_mistakes_of_the_command_line() -> None:
    with pytest.raises(UserError, match="nothing says where the coraa-mupe corpus is"):
        _experiment(Kind.coraa_mupe, None, Path("out"), None, {})
    with pytest.raises(UserError, match="nothing says where the corpus goes"):
        _experiment(Kind.csv, "a.zip", None, None, {})
    with pytest.raises(UserError, match="--min-speakers is an option of coraa-mupe, not of csv"):
        _experiment(Kind.csv, "a.zip", Path("out"), None, {"min_speakers": 3})
    with pytest.raises(ConfigError, match=r"must be one of N, NE, CO, SE, S; got 'NEE'\n  → did you mean `NE`"):
        _experiment(Kind.coraa_mupe, "x", Path("out"), None, {"regions": ("N", "NEE")})
    with pytest.raises(ConfigError, match=r"preset: must be one of EN3, PT2; got 'EN4'"):
        _experiment(Kind.demo, "EN4", Path("out"), None, {})


def test_a_mistake_is_one_message(tmp_path: Path, warm: Warm) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").touch()
    refused(run(tmp_path, PREPARE, "coraa-mupe", "--from", "thesis", "--out", "out"), "thesis", "no *.parquet", "chapter.tex")
    refused(warm.run(tmp_path, PREPARE, "coraa-mupe", "--from", "no/where/here", "--out", "out"), "no such folder")
    assert not (tmp_path / "out").exists()


def test_the_hub_offline_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    done = run(tmp_path, PREPARE, "coraa-mupe", "--from", "nilc-nlp/CORAA-MUPE-ASR", "--out", "out")
    refused(done, "nilc-nlp/CORAA-MUPE-ASR", "as a data set of the Hub it cannot be had", "give a folder", "hf download")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of two regions with eight speakers each."""
    pytest.importorskip("espeakng_loader", reason="the demo extra")
    folder = tmp_path_factory.mktemp("shards")
    rows = [
        Row(f"{state}{speaker}", state, "MF"[speaker % 2], 1 + 32 * place + 4 * speaker + number, number, duration=3.1)
        for place, state in enumerate(("BA", "SP"))
        for speaker in range(8)
        for number in range(4)
    ]
    return write_shards(folder / "shards", rows, voices(folder, rows), group=8, shards=2)


@pytest.mark.slow
def test_shards_become_a_corpus_with_its_cache(shards: Path, tmp_path: Path, warm: Warm) -> None:
    shutil.copytree(shards, tmp_path / "shards")
    (tmp_path / "shards.yaml").write_text(CONFIG)
    _interrupt(tmp_path)
    done = warm.run(tmp_path, PREPARE, "coraa-mupe", "--config", "shards.yaml")
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    for words in (
        "64 utterances, 16 speakers",
        "interviewee (speaker_type R)",
        "yes, but no verdict",
        "Codes and embeddings are in data/shards/",
    ):
        assert words in done.stdout, done.stdout
    root = tmp_path / "data" / "shards"
    for name in (
        "census.csv",
        "confounds.json",
        "confounds.md",
        "rejected.csv",
        "splits.json",
        "splits.md",
        "splits-1.json",
        "splits-2.json",
    ):
        assert (root / name).is_file(), name
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    shutil.rmtree(tmp_path / "shards")
    checked = warm.run(tmp_path, PREPARE, "coraa-mupe", "--config", "shards.yaml", "--check")
    assert checked.returncode == 0 and "is whole: 64 utterances, 1 prepared cache" in checked.stdout
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()} == before
    next(root.glob("audio/*/*")).write_bytes(b"")
    next(root.glob("prepared/*/codes.npy")).unlink()
    refused(warm.run(tmp_path, PREPARE, "coraa-mupe", "--out", "data/shards", "--check"), "has changed", "is missing")


def _interrupt(folder: Path) -> None:
    """Ctrl-C while audio is imported."""
    command = [sys.executable, "-m", PREPARE, "coraa-mupe", "--config", "shards.yaml"]
    with subprocess.Popen(
        command, cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 120
        while not list(folder.glob("data/shards/.parts/*.json")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    if process.returncode:
        assert process.returncode == 130 and "Traceback" not in errors and "-m tune_accent.prepare coraa-mupe" in errors, errors
        assert not (folder / "data" / "shards" / "manifest.jsonl").exists()


def test_what_only_a_search_refuses_ends_with_0(shards: Path, tmp_path: Path, warm: Warm) -> None:
    done = run(tmp_path, PREPARE, "coraa-mupe", "--from", str(shards), "--out", "out", "--regions", "se")
    assert done.returncode == 0, done.stderr
    assert "a search of this corpus would be refused: there is only the accent 'SE'" in done.stdout
    assert "regions SE" in (tmp_path / "out" / "census.csv").read_text(encoding="utf-8")
    empty = warm.run(tmp_path, PREPARE, "coraa-mupe", "--from", str(shards), "--out", "other", "--regions", "N")
    refused(empty, "no row is left after: regions N")
