"""Verdicts by name and by the number that decided; the score and its limits."""

from __future__ import annotations

import math

import pytest

from tests.evaluation.simulated_codes import make_code, make_table
from tune_accent.config.schema import Gate, Score
from tune_accent.evaluation import Figure, evaluate, feasible, score, verdict

GOOD = {
    "accent_f1": Figure(0.60, 0.50, 0.70, 1 / 3, 15),
    "leakage": Figure(0.05, 0.01, 0.10, 0.0, 15),
    "text_drop": Figure(0.02, -0.02, 0.06, 0.0, 15),
}


@pytest.mark.parametrize(
    ("changed", "name", "words"),
    [
        ({}, "GO", "leakage +0.050 is within +0.070"),
        ({"text_drop": Figure(None, reason="no texts")}, "GO", "leakage"),
        ({"accent_f1": Figure(0.55, 0.45, 0.6)}, "GO", "accent F1 0.550 reaches 0.550"),
        ({"accent_f1": Figure(0.60, 0.44, 0.70)}, "CONDITIONAL", "lower bound of accent F1 0.440"),
        ({"leakage": Figure(0.05, 0.0, 0.13)}, "CONDITIONAL", "upper bound of leakage +0.130"),
        ({"text_drop": Figure(0.05, 0.0, 0.11)}, "CONDITIONAL", "upper bound of text drop"),
        ({"accent_f1": Figure(0.60)}, "CONDITIONAL", "no interval"),
        ({"accent_f1": Figure(0.50, 0.45, 0.55)}, "CONDITIONAL", "accent F1 0.500 is below 0.550"),
        ({"leakage": Figure(0.12, 0.05, 0.2)}, "CONDITIONAL", "leakage +0.120 is over +0.070"),
        ({"accent_f1": Figure(0.42, 0.3, 0.5)}, "ADJUST", "accent F1 0.420 is below 0.450"),
        ({"text_drop": Figure(0.15, 0.1, 0.2)}, "ADJUST", "text drop +0.150"),
        ({"accent_f1": Figure(0.39, 0.3, 0.5)}, "NO-GO", "accent F1 0.390 is below 0.400"),
        ({"leakage": Figure(0.121, 0.05, 0.2)}, "NO-GO", "leakage +0.121 is over +0.120"),
        ({"leakage": Figure(None, reason="one fold")}, "NO-GO", "not identifiable: one fold"),
        ({"accent_f1": Figure(math.nan, 0.3, 0.5)}, "NO-GO", "accent F1 nan"),
    ],
)
def test_verdicts(changed: dict[str, Figure], name: str, words: str) -> None:
    found = verdict({**GOOD, **changed}, Gate(), 5)
    assert found.name == name
    assert words in found.deciding
    assert found.decidable
    assert str(found).startswith(name)


def test_too_few_speakers_decide_nothing() -> None:
    found = verdict(GOOD, Gate(), 4)
    assert not found.decidable
    assert "not decidable" in str(found)
    assert any("4 speakers per accent, 5 are needed" in reason for reason in found.reasons)


@pytest.mark.parametrize("accents", [3, 5])
def test_two_val_speakers_per_accent_are_not_decidable(accents: int) -> None:
    table = make_table(accents=accents, train=4, val=2)
    found = evaluate(make_code(table, accent=2.0), table).gate(Gate())
    assert not found.decidable
    assert "not decidable: 2 speakers per accent, 5 are needed" in found.reasons


def test_an_evaluation_is_judged_like_its_figures() -> None:
    table = make_table()
    found = evaluate(make_code(table, accent=2.0), table)
    assert found.gate(Gate()) == verdict(found, Gate(), 5) == verdict(found.figures, Gate(), 5)
    leaky = evaluate(make_code(table, accent=2.0, speaker=2.0), table).gate(Gate())
    assert leaky.name == "NO-GO"
    assert "leakage" in leaky.deciding


def test_score_is_f1_inside_the_limits() -> None:
    assert score(0.6, 0.07, 0.10, 5.1, 5.0, Score()) == 0.6
    assert score(0.6, -0.2, None, 4.0, 5.0, Score()) == 0.6


def test_score_takes_each_penalty() -> None:
    limits = Score(leakage_limit=0.3)
    assert score(0.6, 0.4, 0.15, 5.2, 5.0, limits) == pytest.approx(0.6 - 3 * 0.1 - 0.05 - 2 * 0.1)
    found = feasible(0.4, 0.05, 5.2, 5.0, limits)
    assert not found
    assert found.excess == pytest.approx({"leakage": 0.1, "val_loss": 0.1, "text_drop": 0.0})
    assert feasible(0.3, None, 5.1, 5.0, limits).ok


@pytest.mark.parametrize("place", range(5))
def test_score_of_what_is_not_finite_is_not_a_number(place: int) -> None:
    values: list[float] = [0.6, 0.05, 0.0, 5.0, 5.0]
    values[place] = math.nan
    assert math.isnan(score(values[0], values[1], values[2], values[3], values[4], Score()))
    if place:
        assert not feasible(values[1], values[2], values[3], values[4], Score())
