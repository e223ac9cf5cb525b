"""Which accents count in the gate and why, repeated splits, and whom to hold out where speakers are few."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.small_corpora import corpus_of, utterance
from tune_accent.base.files import sha256_file
from tune_accent.config import speech
from tune_accent.data.corpus import keep_splits, split_seed
from tune_accent.data.manifest import Manifest
from tune_accent.data.split_report import by_accent, write_report
from tune_accent.data.splits import load, make_splits

CORAA = {"N": 30, "NE": 39, "CO": 3, "SE": 193, "S": 7}  # speakers of CORAA-MUPE-ASR after its filters
INTERVIEWS: list[str | None] = [None] * 4


@pytest.fixture(scope="module")
def coraa() -> Manifest:
    return corpus_of(CORAA, INTERVIEWS)


def test_the_census_of_coraa_mupe(coraa: Manifest) -> None:
    splits = make_splits(coraa, speech.Splits(), 0)
    assert splits.gate_accents == ("N", "NE", "S", "SE") and splits.secondary_accents == ("CO",)
    accents = {item.accent: item for item in by_accent(coraa, splits, 2, 5)}
    counts = {name: tuple(item.speakers(split) for split in ("train", "val", "test")) for name, item in accents.items()}
    assert counts == {"N": (15, 8, 7), "NE": (19, 10, 10), "CO": (1, 1, 1), "SE": (97, 48, 48), "S": (3, 2, 2)}
    assert {name: (item.in_gate, item.decidable) for name, item in accents.items()} == {
        "N": (True, True),
        "NE": (True, True),
        "CO": (False, False),
        "SE": (True, True),
        "S": (True, False),
    }
    assert accents["CO"].why == "no: 1 speaker in val or test, at least 2 in each are wanted"
    assert accents["S"].why.startswith("yes, but no verdict can be decided: 2 speakers")
    assert accents["N"].why == "yes: at least 7 speakers in val and in test"


def test_genders_are_spread_wherever_there_are_two(coraa: Manifest) -> None:
    for seed in range(20):
        accents = by_accent(coraa, make_splits(coraa, speech.Splits(), seed), 2, 5)
        for item in accents:
            for split, least in (("train", 2), ("val", 2), ("test", 2)):
                if item.speakers(split) >= least:
                    assert set(item.genders[split]) == {"M", "F"}, (seed, item)


def test_one_woman_among_many_men_is_in_one_split_and_nobody_is_lost() -> None:
    rows = [
        utterance(f"A{number}", "A", place, None, gender="F" if number == 0 else "M") for number in range(8) for place in range(4)
    ]
    manifest = Manifest(Path("corpus"), (*rows, *corpus_of({"B": 8}, INTERVIEWS).rows))
    item = by_accent(manifest, make_splits(manifest, speech.Splits(), 0), 2, 5)[0]
    assert sum(genders.get("F", 0) for genders in item.genders.values()) == 1
    assert sum(genders.get("M", 0) for genders in item.genders.values()) == 7


def test_small_accents_are_listed_one_speaker_out(tmp_path: Path) -> None:
    manifest = corpus_of({"big": 9, "few": 4}, INTERVIEWS, tmp_path)
    splits = make_splits(manifest, speech.Splits(), 0)
    text = write_report(manifest, splits, by_accent(manifest, splits, 2, 5), []).read_text(encoding="utf-8")
    listed = text.partition("## Leave one speaker out")[2]
    assert "big" not in listed and "Repeated" not in listed
    for number in range(4):
        others = ", ".join(f"few{other}" for other in range(4) if other != number)
        place = splits.split[f"few{number}"]
        assert f"| few | {number + 1} | few{number} | {'MF'[number % 2]} | 4 | {place} | {others} |" in listed


def test_repeated_splits_are_those_of_other_seeds(tmp_path: Path) -> None:
    manifest = corpus_of({"A": 8, "B": 8}, INTERVIEWS, tmp_path)
    plain = keep_splits(manifest, speech.Splits(), split_seed(0))
    before = sha256_file(tmp_path / "splits.json")
    repeated = keep_splits(manifest, speech.Splits(seeds=(0, 1, 2)), split_seed(0))
    assert repeated == plain and sha256_file(tmp_path / "splits.json") == before
    assert sorted(path.name for path in tmp_path.glob("splits-*.json")) == ["splits-0.json", "splits-1.json", "splits-2.json"]
    drawn = [load(tmp_path / f"splits-{seed}.json", manifest) for seed in range(3)]
    assert drawn[0] == plain and len({str(item.split) for item in drawn}) == 3
    assert keep_splits(manifest, speech.Splits(seed=2), split_seed(0)) == drawn[2]
    accents = by_accent(manifest, plain, 2, 5)
    text = write_report(manifest, plain, accents, list(enumerate(drawn))).read_text(encoding="utf-8")
    assert text.partition("## Repeated splits")[2].count("| 4 / 2 / 2 | 4 / 2 / 2 |") == 3


def test_blocks_of_an_interview_follow_sessions_and_time() -> None:
    spoken = [("b", 5.0), ("a", 9.0), ("b", 1.0), ("a", 2.0), ("a", 30.0), ("b", 40.0), ("a", 4.0)]
    people = [(f"{accent}{n}", accent) for accent in "AB" for n in range(3)]
    manifest = Manifest(
        Path("corpus"),
        tuple(
            utterance(speaker, accent, place, None, session=session, start_s=start)
            for speaker, accent in people
            for place, (session, start) in enumerate(spoken)
        ),
    )
    splits = make_splits(manifest, speech.Splits(folds=2, gap=1), 0)
    in_time = ["A0-3", "A0-6", "A0-1", "A0-4", "A0-2", "A0-0", "A0-5"]
    assert [splits.fold[name] for name in in_time] == [0, 0, 0, -1, 1, 1, 1]
