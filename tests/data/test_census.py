"""States, regions and filters of CORAA-MUPE-ASR, without any audio."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune_accent.config import speech
from tune_accent.data.sources import brazil
from tune_accent.data.sources.census import Candidate, Tally, census_csv, choose, facts, read_census, row_tests

CFG = speech.CoraaMupe(path="shards")


def test_every_state_is_in_one_region() -> None:
    assert sorted(code for codes in brazil.REGIONS.values() for code in codes) == sorted(brazil.STATES)
    assert {region: len(codes) for region, codes in brazil.REGIONS.items()} == {"N": 7, "NE": 9, "CO": 4, "SE": 4, "S": 3}


@pytest.mark.parametrize(("code", "name"), brazil.STATES.items(), ids=brazil.STATES)
def test_a_state_is_understood_in_every_spelling(code: str, name: str) -> None:
    for word in (name, name.title(), name.upper(), brazil.plain(name), f"  {name.replace(' ', '  ')} ", code, code.lower()):
        assert brazil.state(word) == code


@pytest.mark.parametrize("word", [None, "", " ", "unknown", "Lisboa", "Rio", "Grande do Sul", "sudeste", "NE"])
def test_what_is_no_state(word: str | None) -> None:
    assert brazil.state(word) is None


def test_the_key_se_is_sergipe() -> None:
    assert brazil.region(brazil.state("se") or "") == "NE"


def test_countries() -> None:
    assert all(brazil.is_brazil(word) for word in ("Brasil", "BRAZIL", "brasileira", "BR", None, "", "unknown"))
    assert not any(brazil.is_brazil(word) for word in ("Portugal", "Japão", "Alemanha"))


ROW = {
    "speaker_type": "R",
    "speaker_code": "A",
    "duration": 5.0,
    "birth_state": "Bahia",
    "birth_country": "Brasil",
    "speaker_gender": "F",
    "audio_quality": "high",
}


@pytest.mark.parametrize(
    ("changes", "passed"),
    [
        ({}, 8),
        ({"speaker_type": "P/1"}, 1),
        ({"speaker_type": None}, 1),
        ({"duration": 2.99}, 2),
        ({"duration": 3.0}, 8),
        ({"duration": 15.0}, 8),
        ({"duration": 15.01}, 2),
        ({"duration": float("nan")}, 2),
        ({"duration": None}, 2),
        ({"birth_state": ""}, 3),
        ({"birth_state": "Bahia", "birth_country": "Peru"}, 3),
        ({"speaker_gender": "X"}, 5),
        ({"speaker_gender": None}, 5),
        ({"speaker_gender": " m "}, 8),
        ({"speaker_code": " \0 "}, 7),
    ],
)
def test_how_far_a_row_comes(changes: dict[str, object], passed: int) -> None:
    tally = Tally(row_tests(CFG, 3.0, 15.0))
    assert tally.passes(facts({**ROW, **changes})) == (passed == 8)
    assert [rows for _, rows, _ in tally.steps()] == [1] * passed + [0] * (8 - passed)


def test_limits_are_compared_in_float32() -> None:
    row = facts({**ROW, "duration": float(np.float32(3.1))})
    assert row.duration_s < 3.1 and row_tests(CFG, 3.1, 15.0)[2][1](row)


def candidates(speakers: dict[str, dict[str, int]]) -> list[Candidate]:
    """accent → {speaker: utterances}; genders alternate."""
    return [
        Candidate(0, 0, f"{speaker}-{number}", speaker, accent, "MF"[place % 2])
        for accent, own in speakers.items()
        for place, (speaker, count) in enumerate(own.items())
        for number in range(count)
    ]


PEOPLE = candidates({"SE": {f"s{n:02d}": 4 + n % 5 for n in range(20)}, "N": {f"n{n}": 5 for n in range(3)}})


def test_caps_are_drawn_by_name_whatever_the_order() -> None:
    cfg = CFG.model_copy(update={"max_speakers_per_region": 6, "max_utterances_per_speaker": 3})
    kept, _ = choose(PEOPLE, cfg)
    genders = {row.speaker: row.gender for row in kept if row.accent == "SE"}
    assert Counter(genders.values()) == {"M": 3, "F": 3}
    assert set(Counter(row.speaker for row in kept).values()) == {3}
    for seed in range(3):
        shuffled = random.Random(seed).sample(PEOPLE, len(PEOPLE))
        assert {row.utt_id for row in choose(shuffled, cfg)[0]} == {row.utt_id for row in kept}
    other, _ = choose(PEOPLE, cfg.model_copy(update={"seed": 1}))
    assert {row.speaker for row in other} != {row.speaker for row in kept}


def test_a_larger_cap_keeps_what_a_smaller_one_kept() -> None:
    small, large = (
        {r.utt_id for r in choose(PEOPLE, CFG.model_copy(update={"max_utterances_per_speaker": n}))[0]} for n in (3, 4)
    )
    assert small < large


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ABCDEF"), st.sampled_from(["N", "NE", "S"]), st.sampled_from("MF")), max_size=60),
    st.integers(3, 5),
    st.integers(3, 5),
)
def test_a_census_only_falls_and_its_end_meets_the_minima(
    rows: list[tuple[str, str, str]], speakers: int, utterances: int
) -> None:
    found = [Candidate(0, n, str(n), speaker + accent, accent, gender) for n, (speaker, accent, gender) in enumerate(rows)]
    kept, steps = choose(found, CFG.model_copy(update={"min_speakers": speakers, "min_utterances": utterances}))
    assert [step[1:] for step in steps] == sorted((step[1:] for step in steps), reverse=True)
    assert all(count >= utterances for count in Counter(row.speaker for row in kept).values())
    per_region = Counter(accent for accent, _ in {(row.accent, row.speaker) for row in kept})
    assert all(count >= speakers for count in per_region.values())
    assert read_census(census_csv(steps)) == steps


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_speakers_per_region": 4, "min_speakers": 5}, "max_speakers_per_region must be at least min_speakers"),
        ({"max_utterances_per_speaker": 3, "min_utterances": 4}, "max_utterances_per_speaker must be at least min_utterances"),
        ({"regions": ["NO"]}, "Input should be"),
        ({"min_speakers": 2}, "greater than or equal to 3"),
    ],
)
def test_settings_that_contradict_each_other(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        speech.CoraaMupe.model_validate({"path": "x", **changes})


def test_folds_need_enough_utterances() -> None:
    with pytest.raises(ValueError, match=r"source\.min_utterances must be at least 5, which splits\.folds and splits\.gap need"):
        speech.Data(root="x", source=CFG, splits=speech.Splits(gap=1))
    assert speech.Data(root="x", source=CFG).min_duration_s == 3.0
    assert speech.Data(root="x", source=CFG, min_duration_s=1.0).min_duration_s == 1.0
    assert speech.Data(root="x").min_duration_s == 0.0
