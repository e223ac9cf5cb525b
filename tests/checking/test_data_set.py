"""The corpus of an experiment, with planted faults, and the sample of a large one."""

from __future__ import annotations

import wave
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import small_experiment
from tune_accent.base.errors import DataError
from tune_accent.checking import data_set
from tune_accent.checking.data_set import check_confounds, check_splits, data_finding, read_data, sample_rows, sampled
from tune_accent.config.schema import Experiment
from tune_accent.config.speech import CoraaMupe, CsvSource, PreparedSource, Splits
from tune_accent.data.manifest import Manifest, Utterance, write_manifest
from tune_accent.data.splits import make_splits

CONFIG = Path("my.yaml")


def corpus(root: Path, speakers: int = 12, utterances: int = 9, one_gender: str | None = None, audio: bool = True) -> Manifest:
    """Two accents of interviews; accent `one_gender` has women alone."""
    rows = []
    for accent in ("NE", "S"):
        for speaker in range(speakers):
            gender = "F" if accent == one_gender or speaker % 2 else "M"
            for number in range(utterances):
                name = f"{accent}{speaker:02d}-{number:02d}"
                rows.append(
                    Utterance(
                        name,
                        f"audio/{name}.wav",
                        f"{accent}{speaker:02d}",
                        accent,
                        None,
                        "fala",
                        gender,
                        4.0,
                        24_000,
                        "x",
                        5.0 * number,
                    )
                )
    (root / "audio").mkdir(parents=True)
    for row in rows if audio else []:
        with wave.open(str(root / row.audio_path), "wb") as file:
            file.setparams((1, 2, 24_000, 0, "NONE", ""))
            file.writeframes(np.zeros(240, dtype=np.int16).tobytes())
    return write_manifest(root, rows)


def experiment(root: Path, **changes: Any) -> Experiment:
    spec = small_experiment(root)
    return spec.model_copy(update={"data": spec.data.model_copy(update={"source": PreparedSource(), **changes})})


@pytest.mark.parametrize(
    ("source", "fix"),
    [
        (PreparedSource(), "tune_accent.prepare"),
        (CoraaMupe(path="shards"), "prepare coraa-mupe --config my.yaml"),
        (CsvSource(path="corpus.zip"), "prepare csv --config my.yaml"),
    ],
)
def test_no_data_says_how_to_make_them(tmp_path: Path, source: object, fix: str) -> None:
    with pytest.raises(DataError) as caught:
        read_data(experiment(tmp_path / "none", source=source), CONFIG)
    assert caught.value.fix is not None and fix in caught.value.fix and not (tmp_path / "none").exists()


def test_a_corpus_in_order(tmp_path: Path) -> None:
    corpus(tmp_path)
    spec = experiment(tmp_path)
    manifest = read_data(spec, CONFIG)
    assert data_finding(manifest).status == "ok"
    (splits,) = check_splits(spec.model_copy(update={"gate": spec.gate.model_copy(update={"min_speakers": 2})}), manifest)
    assert splits.status == "ok" and "NE 6/3/3" in splits.found
    assert [one.status for one in check_confounds(spec, manifest)] == ["ok"]


def test_missing_audio_is_found(tmp_path: Path) -> None:
    found = data_finding(corpus(tmp_path, audio=False))
    assert found.status == "failed" and "audio is missing" in found.found and "--check" in str(found.fix)


def test_too_few_speakers_are_found(tmp_path: Path) -> None:
    manifest, spec = corpus(tmp_path, speakers=6), experiment(tmp_path)
    (undecidable,) = check_splits(
        spec.model_copy(update={"data": spec.data.model_copy(update={"splits": Splits(train=1, val=1, test=1)})}), manifest
    )
    assert undecidable.status == "warning" and "too few speakers of NE, S" in undecidable.found
    strict = Splits(min_gate_speakers=5)
    (none,) = check_splits(spec.model_copy(update={"data": spec.data.model_copy(update={"splits": strict})}), manifest)
    assert none.status == "failed"


def test_confounds_block_unless_they_are_accepted(tmp_path: Path) -> None:
    manifest, spec = corpus(tmp_path, one_gender="NE"), experiment(tmp_path)
    with pytest.raises(DataError, match="gender"):
        list(check_confounds(spec, manifest))
    (found,) = check_confounds(experiment(tmp_path, allow_confounds=("gender: as it is",)), manifest)
    assert found.status == "warning" and "accepted" in found.found


def test_a_sample_holds_whole_speakers_but_no_test_speaker(tmp_path: Path) -> None:
    manifest = corpus(tmp_path, speakers=16, audio=False)
    drawn = make_splits(manifest, Splits(), 3)
    rows = sample_rows(manifest, drawn, Splits())
    assert {drawn.split[row.speaker] for row in rows} <= {"train", "val"}
    assert Counter(manifest.speakers[who] for who in {row.speaker for row in rows}) == {"NE": 8, "S": 8}
    assert set(Counter(row.speaker for row in rows).values()) == {data_set.IN_FOLD * 3}


def test_a_large_corpus_is_sampled_into_one_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, spec = corpus(tmp_path, speakers=16), experiment(tmp_path)
    assert sampled(spec, manifest) is spec
    monkeypatch.setattr(data_set, "WHOLE", 100)
    small = sampled(spec, manifest)
    copied = read_data(small, CONFIG)
    assert small.data.root.startswith(str(tmp_path / data_set.SAMPLE)) and len(copied.rows) == 16 * 6
    assert data_finding(copied).status == "ok"
    (splits,) = check_splits(small, copied)
    assert "NE" in splits.found and splits.status != "failed"
    made = sorted((tmp_path / data_set.SAMPLE).rglob("*"))
    assert sampled(spec, manifest) == small and sorted((tmp_path / data_set.SAMPLE).rglob("*")) == made
