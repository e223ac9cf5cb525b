"""From the config to a checked corpus; every mistake is one message."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.data.small_corpora import SMALL
from tune_accent.base.errors import DataError
from tune_accent.base.progress import silent
from tune_accent.config import speech
from tune_accent.data.corpus import ensure_corpus
from tune_accent.data.manifest import Utterance, read_manifest, write_manifest

Edit = Callable[[Utterance], Utterance | None]


def as_prepared(root: Path, edit: Edit = lambda row: row) -> speech.Data:
    """The folder with its rows edited, as a corpus that a person prepared."""
    rows = [changed for row in read_manifest(root).rows if (changed := edit(row)) is not None]
    write_manifest(root, rows)
    return speech.Data(root=str(root), source=speech.PreparedSource())


def test_the_demo_is_made_split_and_checked(tmp_path: Path) -> None:
    cfg = speech.Data(root=str(tmp_path / "demo"), source=speech.DemoSource(speakers=3, texts=3))
    corpus = ensure_corpus(cfg, 4, silent)
    names = {
        "audio",
        "confounds.json",
        "confounds.md",
        "manifest.jsonl",
        "manifest.jsonl.sha256",
        "rejected.csv",
        "source.json",
        "splits.json",
    }
    assert {path.name for path in corpus.root.iterdir() if not path.name.startswith(".")} == names
    assert json.loads((corpus.root / "confounds.json").read_text(encoding="utf-8")) == corpus.confounds
    assert json.loads((corpus.root / "splits.json").read_text(encoding="utf-8"))["sha256"] == corpus.splits.sha256


def test_a_second_look_writes_nothing(demo_root: Path) -> None:
    cfg = speech.Data(root=str(demo_root), source=SMALL)
    first = ensure_corpus(cfg, 0, silent)
    times = {path: path.stat().st_mtime_ns for path in demo_root.rglob("*") if path.is_file()}
    assert ensure_corpus(cfg, 0, silent) == first
    assert {path: path.stat().st_mtime_ns for path in demo_root.rglob("*") if path.is_file()} == times


def test_the_seed_changes_the_splits_and_not_the_audio(demo_root: Path) -> None:
    cfg = speech.Data(root=str(demo_root), source=SMALL)
    first, second = ensure_corpus(cfg, 0, silent), ensure_corpus(cfg, 1, silent)
    assert first.manifest == second.manifest
    assert first.splits.split != second.splits.split
    assert ensure_corpus(cfg, 0, silent) == first


def test_edited_splits_are_refused(demo_root: Path) -> None:
    cfg = speech.Data(root=str(demo_root), source=SMALL)
    ensure_corpus(cfg, 0, silent)
    path = demo_root / "splits.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"train"', '"test"', 1), encoding="utf-8")
    with pytest.raises(DataError, match="edited"):
        ensure_corpus(cfg, 0, silent)


def test_a_prepared_folder_is_read_as_it_is(demo_root: Path) -> None:
    assert len(ensure_corpus(as_prepared(demo_root), 0, silent).manifest.rows) == 36


def test_utterances_of_the_wrong_length_are_left_out(demo_root: Path) -> None:
    cfg = as_prepared(demo_root)
    longest = sorted(row.duration_s for row in read_manifest(demo_root).rows)[-1]
    corpus = ensure_corpus(cfg.model_copy(update={"splits": speech.Splits(folds=2), "max_duration_s": longest - 1e-6}), 1, silent)
    assert len(corpus.manifest.rows) == 35
    with pytest.raises(DataError, match="no utterance lasts"):
        ensure_corpus(cfg.model_copy(update={"min_duration_s": 14.0}), 0, silent)


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not there") as caught:
        ensure_corpus(speech.Data(root=str(tmp_path / "nowhere"), source=speech.PreparedSource()), 0, silent)
    assert caught.value.where == f"data.root: {tmp_path / 'nowhere'}"
    assert not (tmp_path / "nowhere").exists()


def test_an_accent_with_one_speaker(demo_root: Path) -> None:
    cfg = as_prepared(demo_root, lambda row: row if row.accent != "en-029" or row.speaker.endswith("s00") else None)
    with pytest.raises(DataError, match="accent 'en-029' has 1 speaker;"):
        ensure_corpus(cfg, 0, silent)
    assert not (demo_root / "splits.json").exists()


def test_a_single_accent(demo_root: Path) -> None:
    with pytest.raises(DataError, match="only the accent 'en-us'"):
        ensure_corpus(as_prepared(demo_root, lambda row: row if row.accent == "en-us" else None), 0, silent)


def test_a_manifest_path_that_leaves_the_folder(demo_root: Path) -> None:
    path = demo_root / "manifest.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("audio/en-us_s01/t02.wav", "audio/../../t02.wav"), encoding="utf-8")
    with pytest.raises(DataError, match=r"audio_path.*no `..`") as caught:
        ensure_corpus(speech.Data(root=str(demo_root), source=SMALL), 0, silent)
    assert caught.value.where == f"{path}:6"


def test_a_confounded_corpus(demo_root: Path) -> None:
    cfg = as_prepared(demo_root, lambda row: replace(row, gender="M" if row.accent == "en-us" else "F"))
    with pytest.raises(DataError, match=r"confounded with gender \(Cramér's V 1.00"):
        ensure_corpus(cfg, 0, silent)
    assert json.loads((demo_root / "confounds.json").read_text(encoding="utf-8"))["gender"]["blocks"]
    ensure_corpus(cfg.model_copy(update={"allow_confounds": ("gender: a test of this switch",)}), 0, silent)
