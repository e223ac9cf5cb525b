"""A planted confound is found and named; a balanced corpus passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.data.small_corpora import corpus_of, utterance
from tune_accent.base.errors import DataError
from tune_accent.data.confounds import assert_no_confounds, check
from tune_accent.data.manifest import Manifest


def planted(**of_b: Any) -> Manifest:
    rows = [
        utterance(f"{accent}{s}", accent, n, **(of_b if accent == "B" else {}))
        for accent in "AB"
        for s in range(4)
        for n in range(6)
    ]
    return Manifest(Path(), tuple(rows))


def test_a_balanced_corpus_has_none() -> None:
    report = check(corpus_of({"A": 4, "B": 6}, ["t0", "t1", "t2"]))
    assert report["gender"]["cramers_v"] == 0.0
    assert report["gender"]["counts"] == {"A": {"F": 6, "M": 6}, "B": {"F": 9, "M": 9}}
    assert_no_confounds(report, (), "corpus")


def test_cramers_v_agrees_with_a_worked_example() -> None:
    """[[30, 10], [10, 30]]: χ² = 80·(900 - 100)² / 40⁴ = 20, V = √(20 / 80) = 0.5."""
    rows = [
        utterance(f"{a}{n}", a, 0, gender=g)
        for a, split in (("A", 30), ("B", 10))
        for n, g in enumerate("M" * split + "F" * (40 - split))
    ]
    gender = check(Manifest(Path(), tuple(rows)))["gender"]
    assert gender["statistic"] == pytest.approx(20.0)
    assert gender["cramers_v"] == pytest.approx(0.5)
    assert gender["blocks"]


@pytest.mark.parametrize("variable", ["gender", "source"])
def test_a_confounded_corpus_is_refused_unless_allowed_with_a_reason(variable: str) -> None:
    report = check(planted(**{variable: "M"}))
    with pytest.raises(DataError, match=f"confounded with {variable} \\(Cramér's V 1.00, limit 0.3\\)"):
        assert_no_confounds(report, (), "corpus")
    assert_no_confounds(report, (f"{variable}: a reason",), "corpus")


@pytest.mark.parametrize("entry", ["gender", "gender:", "colour: red"])
def test_an_allowance_needs_a_variable_and_a_reason(entry: str) -> None:
    with pytest.raises(DataError, match="followed by a colon and the reason"):
        assert_no_confounds(check(planted()), (entry,), "corpus")


def test_longer_utterances_are_a_limitation_that_does_not_block() -> None:
    report = check(planted(duration_s=9.0))
    assert report["duration_s"]["limitation"]
    assert report["duration_s"]["medians"]["B"] == 9.0
    assert_no_confounds(report, (), "corpus")
    assert not check(planted())["duration_s"]["limitation"]
