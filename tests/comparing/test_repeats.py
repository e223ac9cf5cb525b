"""Quartiles, paired differences, and what is said of n repeats."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.comparing.campaigns import hand_made, simulated
from tune_accent.comparing.record import Campaign
from tune_accent.comparing.repeats import Difference, conclusion, difference, holm, quartiles, sign_flip
from tune_accent.comparing.results import Comparison, compare


def test_quartiles() -> None:
    assert quartiles([3, 1, 2, 4, 5]) == (2, 3, 4)
    assert quartiles([None, 1, 2]) == (None, 1, 1.5)
    assert quartiles([None, None, 2]) == (None, None, None)
    assert quartiles([]) == (None, None, None)


def test_sign_flips_are_counted() -> None:
    """All of six differences point the same way: two of 64 flips are as extreme."""
    assert sign_flip(np.array([1.0, 2, 3, 4, 5, 6])) == 2 / 64
    assert sign_flip(np.array([1.0, -1.0])) == 1
    assert sign_flip(np.full(20, 1.0)) == pytest.approx(1 / 10_001)


def test_pairs_are_made_by_seed() -> None:
    found = difference("a", "b", {"1": 0.5, "2": 0.7, "3": 9.0}, {"2": 0.6, "1": 0.1, "4": -9.0})
    assert found.pairs == 2 and found.mean == pytest.approx(0.25)
    assert found.low == pytest.approx(0.1) and found.high == pytest.approx(0.4) and found.p == 0.5
    one = difference("a", "b", {"1": 0.5}, {"1": 0.2})
    assert (one.pairs, one.low, one.p) == (1, None, None) and one.mean == pytest.approx(0.3)


def test_holm() -> None:
    """.01 · 3, .02 · 2, .04; the smaller p of a later step is lifted; one without a test stays without."""
    made = [Difference("a", str(p), 9, 0.1, 0.0, 0.2, p) for p in (0.04, 0.01, 0.03, None)]
    assert [one.p_holm for one in holm(made)] == [pytest.approx(0.06), pytest.approx(0.03), pytest.approx(0.06), None]


@pytest.mark.parametrize(
    ("pairs", "p", "words"),
    [
        (0, None, "nothing can be concluded"),
        (1, None, "nothing about the engines"),
        (3, 0.25, "too few to tell the engines apart"),
        (6, 0.4, "do not tell them apart"),
        (6, 0.03, "a is better on this space and budget"),
    ],
)
def test_the_sentence(pairs: int, p: float | None, words: str) -> None:
    assert words in conclusion(Difference("a", "b", pairs, 0.1, 0.0, 0.2, p, p), 1)


def test_the_sentence_names_the_better_engine() -> None:
    assert "b is better" in conclusion(Difference("a", "b", 9, -0.1, -0.2, -0.05, 0.01, 0.01), 1)


@pytest.fixture(scope="module")
def campaigns() -> list[Campaign]:
    ours = [simulated("ours", seed) for seed in range(6)]
    return [*ours, *(simulated("worse", seed, method="random", better=-1.0) for seed in range(6))]


@pytest.fixture(scope="module")
def compared(campaigns: list[Campaign]) -> Comparison:
    return compare(campaigns[0], campaigns[1:], thresholds=(0.0,))


def test_a_planted_difference_is_found(compared: Comparison) -> None:
    (only,) = compared.differences
    assert only.pairs == 6 and only.mean is not None and only.mean > 0.8 and only.p == 2 / 64
    assert compared.conclusions[0].startswith("ours and worse: ours is better")
    assert compared.engines == ("ours", "worse")


def test_everybody_is_measured_at_the_same_epochs(compared: Comparison) -> None:
    ends = [len(one.campaign.executed) for one in compared.standings]
    assert compared.budget == min(ends) and len(set(ends)) > 1
    pooled = max(one.best for one in compared.standings if one.best is not None)
    assert compared.pooled == pooled
    assert all(
        one.regret is not None and one.level is not None and one.regret == pooled - one.level for one in compared.standings
    )


def test_worse_never_reaches_what_ours_does(compared: Comparison) -> None:
    rows = {(row.engine, row.why, row.axis): row for row in compared.times}
    own, other = (rows[engine, "median best of ours", "epochs"] for engine in ("ours", "worse"))
    assert own.reached >= 3 and own.median is not None and own.median <= own.longest
    assert other.reached == 0 and other.median is None and other.repeats == 6
    assert rows["ours", "given", "trials"].reached == 6 and rows["ours", "given", "trials"].threshold == 0.0


@settings(max_examples=5, deadline=None)
@given(order=st.permutations(range(1, 12)))
def test_the_order_of_campaigns_does_not_matter(campaigns: list[Campaign], compared: Comparison, order: list[int]) -> None:
    assert compare(campaigns[0], [campaigns[place] for place in order], thresholds=(0.0,)) == compared


def test_one_engine_with_one_seed_twice_is_no_repeat() -> None:
    found = compare(hand_made([[1, 1, 1.0]]), [hand_made([[1, 1, 2.0]], name="other")])
    assert found.engines == ("ours", "ours (other)") and "nothing about the engines" in found.conclusions[0]


def test_a_search_without_a_feasible_trial_counts_as_the_worst() -> None:
    first, other = hand_made([[0.1, 0.1, 0.4]]), hand_made([[0.9], [0.9, 0.9]], engine="b")
    found = compare(first, [other])
    assert found.differences[0].mean == 0.0, "there is no other score, so it is as good as the worst there is"
    assert found.standings[1].best is None and found.standings[1].regret is None


def test_where_nothing_is_feasible_nothing_is_compared() -> None:
    found = compare(hand_made([[0.9], [0.9, 0.9]]), [hand_made([[0.8]], engine="b")])
    assert found.differences == () and "nothing to compare" in found.conclusions[0] and found.pooled is None
