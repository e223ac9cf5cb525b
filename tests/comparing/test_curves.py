"""Best so far, costs and times to a threshold, on campaigns that were worked by hand."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.comparing.campaigns import hand_made
from tune_accent.comparing.curves import Curve, Reach, curve, median_time, time_to
from tune_accent.comparing.record import Execution

SCORES = [[0.1, 0.2, 0.3], [0.9], [0.1, 0.9, 0.5], [0.2, 0.3, 0.4]]


def test_a_trial_counts_by_its_last_epoch_at_full_length() -> None:
    """The .9 of a stopped trial and of an earlier epoch are no result."""
    found = curve(hand_made(SCORES), "trials")
    assert found == Curve(((1.0, 0.3), (3.0, 0.5)), 4.0)
    assert [found.at(cost) for cost in (0.5, 1, 2, 3, 99)] == [None, 0.3, 0.3, 0.5, 0.5]


def test_epochs_without_times_are_counted_trial_by_trial() -> None:
    assert curve(hand_made(SCORES), "epochs") == Curve(((3.0, 0.3), (7.0, 0.5)), 10.0)
    assert curve(hand_made(SCORES), "wall_seconds") is None and curve(hand_made(SCORES), "worker_seconds") is None


def test_costs_follow_the_times() -> None:
    """Two trials side by side from 100 s; the first has its third epoch twice, in a launch an hour later, where the second ends too."""
    rows = [(0, 1, 110, 1), (1, 1, 111, 1), (0, 2, 120, 1), (1, 2, 121, 1), (0, 3, 130, 1), (0, 3, 3740, 2), (1, 3, 3741, 2)]
    done = [Execution(trial, epoch, 10.0, float(ended), launch) for trial, epoch, ended, launch in rows]
    campaign = hand_made([[0.1, 0.2, 0.3], [0.1, 0.2, 0.6]], executed=done)
    assert curve(campaign, "epochs") == Curve(((5.0, 0.3), (7.0, 0.6)), 7.0)
    assert curve(campaign, "worker_seconds") == Curve(((50.0, 0.3), (70.0, 0.6)), 70.0)
    assert curve(campaign, "wall_seconds") == Curve(((30.0, 0.3), (41.0, 0.6)), 41.0), "the hour between launches does not count"
    for shuffled in list(permutations(done))[::500]:
        other = hand_made([[0.1, 0.2, 0.3], [0.1, 0.2, 0.6]], executed=shuffled)
        assert curve(other, "wall_seconds") == curve(campaign, "wall_seconds")


def test_infeasible_trials_do_not_count_and_less_can_be_better() -> None:
    campaign = hand_made([[3.0, 2.0, 1.0], [5.0, 4.0, 2.0]], goal="minimize")
    assert curve(campaign, "trials") == Curve(((1.0, -1.0),), 2.0)
    trial = campaign.trials[0]
    infeasible = tuple({**metrics, "feasible": False} for metrics in trial.epochs)
    other = hand_made(
        [[3.0, 2.0, 1.0], [5.0, 4.0, 2.0]],
        goal="minimize",
        trials=(type(trial)(0, {}, "COMPLETE", infeasible), campaign.trials[1]),
    )
    assert curve(other, "trials") == Curve(((2.0, -2.0),), 2.0)


def test_a_threshold_is_reached_or_censored() -> None:
    found = Curve(((3.0, 0.3), (7.0, 0.5)), 10.0)
    assert [time_to(found, level) for level in (0.1, 0.3, 0.4, 0.6)] == [
        Reach(3, True),
        Reach(3, True),
        Reach(7, True),
        Reach(10, False),
    ]


def test_the_median_of_censored_times() -> None:
    """Worked by hand: at risk 5, 4 | 1 censored | 2, 1; survival 4/5, 3/5, then 3/5 · 1/2 = .3 at 8."""
    reaches = [Reach(2, True), Reach(4, True), Reach(5, False), Reach(8, True), Reach(9, False)]
    assert median_time(reaches) == 8
    assert median_time([Reach(1, True), Reach(10, False), Reach(10, False)]) is None
    assert median_time([Reach(1, True), Reach(10, False)]) == 1
    assert median_time([]) is None


@given(st.lists(st.integers(1, 50), min_size=1, max_size=9))
def test_without_censoring_it_is_the_lower_median(costs: list[int]) -> None:
    assert median_time([Reach(cost, True) for cost in costs]) == sorted(costs)[(len(costs) - 1) // 2]


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=8), st.integers(0, 10**6))
def test_the_order_of_repeats_does_not_matter(drawn: list[tuple[int, bool]], turn: int) -> None:
    reaches = [Reach(float(cost), reached) for cost, reached in drawn]
    turned = reaches[turn % len(reaches) :] + reaches[: turn % len(reaches)]
    assert median_time(turned) == median_time(reaches)


@pytest.mark.parametrize("cost", [3.0, 8.0])
def test_a_censored_time_is_later_than_one_that_was_reached_at_once(cost: float) -> None:
    assert median_time([Reach(cost, True), Reach(cost, False)]) == cost
