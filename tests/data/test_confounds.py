"""A planted confound is found and named; a balanced corpus passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.data.small_corpora import corpus_of, utterance
from tune_accent.base.errors import DataError
from tune_accent.data.confounds import assert_no_confounds, check, markdown
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


def test_noise_in_one_accent_is_a_limitation_from_five_decibels_of_medians() -> None:
    rows = [
        utterance(f"{a}{s}", a, n, snr_db=20.0 + n - gap * (a == "B"))
        for gap in (0.0,)
        for a in "AB"
        for s in range(4)
        for n in range(6)
    ]
    assert check(Manifest(Path(), tuple(rows)))["snr_db"]["verdict"] == "none"
    for gap, verdict in ((4.9, "none"), (5.1, "limitation")):
        rows = [utterance(f"{a}{s}", a, n, snr_db=20.0 + n - gap * (a == "B")) for a in "AB" for s in range(4) for n in range(6)]
        found = check(Manifest(Path(), tuple(rows)))["snr_db"]
        assert found["p"] < 0.05
        assert found["spread"] == pytest.approx(gap)
        assert (found["limitation"], found["verdict"]) == (verdict == "limitation", verdict)
        assert_no_confounds(check(Manifest(Path(), tuple(rows))), (), "corpus")


def test_without_estimates_of_noise_there_is_nothing_to_say_about_it() -> None:
    assert "snr_db" not in check(planted())
    one = [utterance(f"{a}0", a, n, snr_db=20.0 if a == "A" else None) for a in "AB" for n in range(3)]
    assert "snr_db" not in check(Manifest(Path(), tuple(one)))


def test_epsilon_squared_agrees_with_a_worked_example() -> None:
    """Ranks 1, 2, 3 and 4, 5, 6: H = 12 / (6·7) · (6² + 15²) / 3 - 3·7 = 27 / 7, ε² = H / 5 = 27 / 35."""
    rows = [utterance(f"{a}0", a, n, duration_s=1.0 + n + 3 * (a == "B")) for a in "AB" for n in range(3)]
    found = check(Manifest(Path(), tuple(rows)))["duration_s"]
    assert found["statistic"] == pytest.approx(27 / 7)
    assert found["epsilon_squared"] == pytest.approx(27 / 35)
    assert (found["effect"], found["utterances"]) == ("large", 6)


def test_verdicts_and_effects() -> None:
    report = check(planted(gender="M", duration_s=9.0))
    assert (report["gender"]["verdict"], report["gender"]["effect"]) == ("blocks", "large")
    assert (report["source"]["verdict"], report["source"]["effect"]) == ("none", "negligible")
    assert report["duration_s"]["verdict"] == "limitation"


def test_the_keys_that_were_there_before_are_there_with_their_values() -> None:
    report = check(planted())
    assert list(report) == ["gender", "source", "duration_s"]
    old = {"test", "statistic", "p", "cramers_v", "blocks", "counts"}
    assert {key: report["source"][key] for key in old} == {
        "test": "chi-squared",
        "statistic": 0.0,
        "p": 1.0,
        "cramers_v": 0.0,
        "blocks": False,
        "counts": {"A": {"test": 24}, "B": {"test": 24}},
    }
    assert {"test", "statistic", "p", "spread", "limitation", "medians"} < report["duration_s"].keys()


def test_the_report_for_people_has_every_variable_verdict_and_count() -> None:
    rows = [
        utterance(f"{a}{s}", a, n, snr_db=9.0 + n, source="a|b\n# c") for a in ("A|", "B") for s in range(3) for n in range(4)
    ]
    text = markdown(check(Manifest(Path(), tuple(rows))))
    lines = text.splitlines()
    assert [line for line in lines if line.startswith("#")] == [
        "# Confounds with accent",
        "## gender",
        "## source",
        "## duration_s",
        "## snr_db",
    ]
    assert "| gender | chi-squared | 0.00 | 1 | V = 0.000 | negligible | 24 | **none** |" in lines
    assert "| A\\| | 12 |" in lines
    assert "| accent | a\\|b # c |" in lines
    assert all(line.count("|") - line.count("\\|") == 9 for line in lines if line.endswith("** |"))
    assert text == markdown(check(Manifest(Path(), tuple(rows))))
