"""A given wrongly, on z whose content is known."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from tune_accent.evaluation import Figure, Protocol
from tune_accent.paper.wrong import Turn, heard, other_accents

ACCENTS = ("NE", "S", "SE")
HOW = Protocol(c_grid=(0.1,), bootstrap=100, gate_accents=ACCENTS, score_split="test")


def table(utterances: int = 4) -> pd.DataFrame:
    """Four train and three test speakers of each accent, and one test speaker of an accent outside the gate."""
    speakers = [
        (f"{accent}{s}", accent, "train" if s < 4 else "test")
        for accent in (*ACCENTS, "CO")
        for s in range(7)
        if accent != "CO" or s == 6
    ]
    rows = [
        {"utt_id": f"{name}-{u}", "speaker": name, "accent": accent, "text_id": f"t{u}", "split": split, "fold": u % 2}
        for name, accent, split in speakers
        for u in range(utterances)
    ]
    return pd.DataFrame(rows)


def code(accents: list[str], seed: int) -> np.ndarray:
    """z that holds these accents, and a little noise."""
    places = np.array([(*ACCENTS, "CO").index(name) for name in accents])
    noise = np.random.default_rng(seed).normal(size=(len(accents), 6))
    z: np.ndarray = (np.pad(np.eye(4), ((0, 0), (0, 2)))[places] + 0.05 * noise).astype(np.float32)
    return z


def figures(share_overridden: float) -> dict[str, Figure]:
    """Figures where that share of every speaker's utterances holds the accent that was set, and the rest the own."""
    frame = table()
    test = frame[(frame["split"] == "test") & (frame["accent"] != "CO")]
    turns = []
    for number, names in enumerate(other_accents(test["accent"].tolist(), ACCENTS)):
        own = test["accent"].tolist()
        overridden = [u % 4 < 4 * share_overridden for u in range(len(test))]
        held = [new if over else old for new, old, over in zip(names, own, overridden, strict=True)]
        turns.append(Turn(code(held, number + 1), test["speaker"].tolist(), own, names))
    return heard(code(frame["accent"].tolist(), 0), frame, turns, HOW, seed=3)


def test_every_other_gate_accent_is_set_once() -> None:
    own = ["S", "CO", "NE", "SE"]
    turns = other_accents(own, ACCENTS)
    assert len(turns) == 2 and all(turn[1] == "CO" for turn in turns)
    assert Counter(turn[0] for turn in turns) == {"NE": 1, "SE": 1}
    assert Counter(turn[2] for turn in turns) == {"S": 1, "SE": 1}
    assert [{old, *new} for old, *new in zip(own, *turns, strict=True) if old != "CO"] == [set(ACCENTS)] * 3


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_shares_are_those_that_were_put_in(share: float) -> None:
    found = figures(share)
    assert found.keys() == {"heard_true", "heard_set"}
    assert found["heard_set"].value == pytest.approx(share) and found["heard_true"].value == pytest.approx(1 - share)
    for figure in found.values():
        assert figure.chance == pytest.approx(1 / 3) and figure.n == 9
        assert figure.low is not None and figure.high is not None and figure.value is not None
        assert 0 <= figure.low <= figure.value <= figure.high <= 1
    assert figures(share) == found


def test_speakers_count_alike_within_an_accent_and_accents_alike() -> None:
    """One NE speaker, of three, is overridden throughout: 1/3 of an accent, 1/9 of all, however many utterances the others have."""
    frame = table()
    test = frame[(frame["split"] == "test") & (frame["accent"] != "CO")].iloc[:-3]
    own, speakers = test["accent"].tolist(), test["speaker"].tolist()
    turns = [
        Turn(
            code([new if one == "NE5" else old for new, old, one in zip(names, own, speakers, strict=True)], 1),
            speakers,
            own,
            names,
        )
        for names in other_accents(own, ACCENTS)
    ]
    found = heard(code(frame["accent"].tolist(), 0), frame, turns, HOW, seed=3)
    assert found["heard_set"].value == pytest.approx(1 / 9)
    assert found["heard_set"].low is not None and found["heard_set"].low < 1 / 9 < (found["heard_set"].high or 0)
