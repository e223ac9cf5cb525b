"""Splits share no speaker, keep the proportions and the genders, and do not survive being edited."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.small_corpora import corpus_of, utterance
from tune_accent.base.errors import DataError
from tune_accent.config import speech
from tune_accent.data.manifest import Manifest
from tune_accent.data.splits import load, make_splits, save

TEXTS = [f"t{number}" for number in range(12)]
EN3 = corpus_of({"us": 20, "sc": 20, "ca": 20}, TEXTS)


def test_speakers_are_stratified_and_genders_balanced() -> None:
    splits = make_splits(EN3, speech.Splits(), 0)
    genders = {row.speaker: row.gender for row in EN3.rows}
    counts = Counter((EN3.speakers[speaker], name, genders[speaker]) for speaker, name in splits.split.items())
    for accent in EN3.accents:
        assert [counts[accent, "train", gender] for gender in "MF"] == [5, 5]
        for name in ("val", "test"):
            assert sorted(counts[accent, name, gender] for gender in "MF") == [2, 3]
    assert splits.gate_accents == ("ca", "sc", "us")
    assert splits.secondary_accents == ()


def test_a_text_is_in_one_fold_and_folds_are_even() -> None:
    splits = make_splits(EN3, speech.Splits(), 3)
    folds = {
        row.text_id: {splits.fold[other.utt_id] for other in EN3.rows if other.text_id == row.text_id} for row in EN3.rows[:12]
    }
    assert all(len(found) == 1 for found in folds.values())
    assert Counter(splits.fold.values()) == {0: 240, 1: 240, 2: 240}


def test_splits_are_a_function_of_the_seed() -> None:
    first, second = make_splits(EN3, speech.Splits(), 1), make_splits(EN3, speech.Splits(), 1)
    other = make_splits(EN3, speech.Splits(), 2)
    assert first == second
    assert first.split != other.split
    assert first.fold != other.fold
    assert first.sha256 != other.sha256


def test_folds_of_free_speech_are_contiguous_in_time_with_a_gap() -> None:
    rows = tuple(
        utterance(f"{accent}{speaker}", accent, place, None, start_s=float(100 - place))
        for accent in "AB"
        for speaker in range(6)
        for place in range(11)
    )
    splits = make_splits(Manifest(Path(), rows), speech.Splits(gap=1), 0)
    in_time = [splits.fold[f"A0-{place}"] for place in reversed(range(11))]
    assert in_time == [0, 0, 0, -1, 1, 1, 1, -1, 2, 2, 2]


def test_small_accents_are_secondary() -> None:
    splits = make_splits(corpus_of({"big": 12, "small": 3}, TEXTS), speech.Splits(), 0)
    assert splits.gate_accents == ("big",)
    assert splits.secondary_accents == ("small",)
    assert sorted(name for speaker, name in splits.split.items() if speaker.startswith("small")) == ["test", "train", "val"]


@pytest.mark.parametrize("speakers", [1, 2])
def test_an_accent_with_too_few_speakers(speakers: int) -> None:
    with pytest.raises(DataError, match=f"accent 'few' has {speakers} speaker") as caught:
        make_splits(corpus_of({"many": 6, "few": speakers}, TEXTS), speech.Splits(), 0)
    assert caught.value.where == "corpus/manifest.jsonl"


def test_a_speaker_with_too_few_utterances() -> None:
    with pytest.raises(DataError, match="'A0' has 2 utterances; 3 folds with a gap of 0 need 3"):
        make_splits(corpus_of({"A": 3, "B": 3}, [None, None]), speech.Splits(), 0)
    with pytest.raises(DataError, match="fill 2 of 3 folds"):
        make_splits(corpus_of({"A": 3, "B": 3}, ["t0", "t1"]), speech.Splits(), 0)


def test_splits_come_back_as_they_were_saved(tmp_path: Path) -> None:
    splits = make_splits(EN3, speech.Splits(held_fold=1), 5)
    save(splits, tmp_path / "splits.json", EN3)
    assert load(tmp_path / "splits.json", EN3) == splits


def edited(splits: dict[str, Any], change: str) -> None:
    speaker, utt_id = next(iter(splits["split"])), next(iter(splits["fold"]))
    match change:
        case "moved":
            splits["split"][speaker] = "val" if splits["split"][speaker] != "val" else "test"
        case "unknown split":
            splits["split"][speaker] = "dev"
        case "speaker gone":
            del splits["split"][speaker]
        case "utterance gone":
            del splits["fold"][utt_id]
        case "no such fold":
            splits["fold"][utt_id] = 3
        case "gate":
            splits["gate_accents"] = ["us"]
        case "not splits":
            splits.clear()


@pytest.mark.parametrize(
    "change", ["moved", "unknown split", "speaker gone", "utterance gone", "no such fold", "gate", "not splits"]
)
def test_edited_splits_are_refused(tmp_path: Path, change: str) -> None:
    path = tmp_path / "splits.json"
    save(make_splits(EN3, speech.Splits(), 0), path, EN3)
    value = json.loads(path.read_text(encoding="utf-8"))
    edited(value, change)
    path.write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load(path, EN3)
    assert caught.value.where == str(path)


def test_splits_of_another_manifest_are_refused(tmp_path: Path) -> None:
    save(make_splits(EN3, speech.Splits(), 0), tmp_path / "splits.json", EN3)
    changed = Manifest(EN3.root, (utterance("us0", "us", 0, "t0", gender="M", text="other"), *EN3.rows[1:]))
    with pytest.raises(DataError, match="belong to another manifest"):
        load(tmp_path / "splits.json", changed)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(3, 15), min_size=2, max_size=4),
    st.tuples(*[st.floats(0.05, 1.0)] * 3),
    st.integers(0, 2**63 - 1),
    st.booleans(),
)
def test_every_split_of_every_accent_has_a_speaker(counts: list[int], shares: tuple[float, ...], seed: int, read: bool) -> None:
    manifest = corpus_of(
        {f"accent{index}": count for index, count in enumerate(counts)}, [f"t{n}" if read else None for n in range(4)]
    )
    cfg = speech.Splits(train=shares[0], val=shares[1], test=shares[2])
    splits = make_splits(manifest, cfg, seed)
    assert set(splits.split) == set(manifest.speakers)
    assert {(manifest.speakers[speaker], name) for speaker, name in splits.split.items()} == {
        (accent, name) for accent in manifest.accents for name in ("train", "val", "test")
    }
    assert {(row.speaker, splits.fold[row.utt_id]) for row in manifest.rows} == {
        (s, fold) for s in manifest.speakers for fold in range(3)
    }
