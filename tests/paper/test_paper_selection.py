"""The winner by new seeds, and what is said about it."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from tests.paper.hand_made import TPE, arm, asked, runs, trial
from tune_accent.base.errors import UserError
from tune_accent.config.space import LoadedSpace
from tune_accent.paper.plan import ranked
from tune_accent.paper.results import WINNER
from tune_accent.paper.selection import select, selection_words, winner


@pytest.fixture
def space(tmp_path: Path) -> LoadedSpace:
    return asked(tmp_path).space


def test_the_highest_mean_over_seeds_wins_and_feasibility_of_a_seed_does_not_count(space: LoadedSpace) -> None:
    ranking = ranked([trial(0, 0.9), trial(1, 0.8), trial(2, 0.7)], space)
    measured = [*runs(0, [0.3, 0.5]), *runs(1, [0.5, 0.7]), *runs(2, [0.4, 0.6])]
    found = select([arm(0), arm(1), arm(2)], measured, ranking, space)
    assert [(c.trial, c.rank, c.search_rank, c.search_score, c.chosen) for c in found] == [
        (1, 1, 2, 0.8, True),
        (2, 2, 3, 0.7, False),
        (0, 3, 1, 0.9, False),
    ]
    assert found[0].scores == (0.5, 0.7) and found[0].leakages == (0.05, 0.05)


def test_where_less_is_better_the_lowest_wins(tmp_path: Path) -> None:
    space = asked(tmp_path, TPE.replace("name: score, goal: maximize", "name: val_loss, goal: minimize")).space
    ranking = ranked([trial(0, 0.9), trial(1, 0.8)], space)
    found = select([arm(0), arm(1)], [*runs(0, [0.3]), *runs(1, [0.5])], ranking, space)
    assert [c.trial for c in found] == [1, 0] and found[0].scores == (-0.5,) and ranking[0].number == 0
    assert "flattered it by +0.600" in " ".join(selection_words(found, space.metric, space.goal))


def test_equal_means_are_decided_by_leakage_and_then_by_the_number(space: LoadedSpace) -> None:
    ranking = ranked([trial(n, 0.9 - n / 10) for n in range(4)], space)
    measured = [*runs(0, [0.25, 0.75], 0.2), *runs(1, [0.75, 0.25], 0.1), *runs(3, [0.75, 0.25], 0.1), *runs(2, [0.5, 0.5], 0.15)]
    assert [c.trial for c in select([arm(n) for n in (3, 2, 1, 0)], measured, ranking, space)] == [1, 3, 2, 0]


def test_nothing_depends_on_the_order_of_runs_and_arms(space: LoadedSpace) -> None:
    draw = random.Random(3)
    ranking = ranked([trial(n, draw.random()) for n in range(6)], space)
    measured = [run for n in range(6) for run in runs(n, [draw.random() for _ in range(5)], draw.random())]
    arms = [arm(n) for n in range(6)]
    found = select(arms, measured, ranking, space)
    for _ in range(50):
        again = select(draw.sample(arms, 6), draw.sample(measured, len(measured)), ranking, space)
        assert again == found and selection_words(again, space.metric, space.goal) == selection_words(
            found, space.metric, space.goal
        )


def test_failed_seeds_are_left_out_and_a_candidate_without_any_comes_last(space: LoadedSpace) -> None:
    ranking = ranked([trial(0, 0.9), trial(1, 0.8), trial(2, 0.7)], space)
    bad = [replace(run, state="DIVERGED", reports=[]) for run in runs(0, [0.0, 0.0])]
    half = [runs(1, [0.2])[0], replace(runs(1, [0.2, 0.9])[1], state="CRASHED")]
    found = select([arm(0), arm(1), arm(2)], [*bad, *half, *runs(2, [0.1, 0.15])], ranking, space)
    assert [(c.trial, c.scores) for c in found] == [(1, (0.2,)), (2, (0.1, 0.15)), (0, ())]
    told = " ".join(selection_words(found, space.metric, space.goal))
    assert "trial 1 (1), trial 0 (0)" in told and "means are over fewer" in told
    nothing = [replace(run, reports=[{**run.reports[-1], "score": None}]) for run in runs(2, [0.1, 0.15])]
    assert select([arm(1), arm(2)], [*half, *nothing], ranking, space)[1].scores == ()
    with pytest.raises(UserError, match="no candidate has finished"):
        select([arm(0)], bad, ranking, space)


def test_what_new_seeds_changed_is_said_in_numbers(space: LoadedSpace) -> None:
    ranking = ranked([trial(0, 0.9), trial(1, 0.8), trial(2, 0.7)], space)
    measured = [*runs(0, [0.3, 0.5]), *runs(1, [0.5, 0.7]), *runs(2, [0.2, 0.4])]
    assert selection_words(select([arm(0), arm(1), arm(2)], measured, ranking, space), space.metric, space.goal) == [
        "New seeds choose trial 1, which was rank 2 in the search; the search's own best, trial 0, comes at rank 2.",
        "2 of 3 candidates changed place.",
        "Every candidate has 2 new seeds.",
        "Winner's curse: the search gave its best trial (0) score 0.900; over 2 new seeds it has 0.400: the search flattered it by +0.500.",
        "Over 3 candidates the search flattered by +0.367 on average. Speakers are the same in both: this is the luck of the seed, "
        "not that of the speakers.",
    ]
    same = selection_words(select([arm(0)], runs(0, [0.95]), ranking, space), space.metric, space.goal)
    assert same[0] == "New seeds confirm the search: trial 0 is the best in both." and "by -0.050" in same[2]


def test_the_winner_is_the_chosen_arm_under_its_own_name(space: LoadedSpace) -> None:
    ranking = ranked([trial(0, 0.9), trial(1, 0.8)], space)
    arms = [arm(0), arm(1)]
    won = winner(arms, select(arms, [*runs(0, [0.3]), *runs(1, [0.5])], ranking, space))
    assert (won.name, won.trial, won.kind, won.params) == (WINNER, 1, "candidate", arms[1].params)
