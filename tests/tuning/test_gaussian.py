"""The Gaussian process learns from trials of every length and from those that failed."""

from __future__ import annotations

import math

import pytest

from tests.tuning.simulated import SPACE as SURFACE
from tests.tuning.simulated import Clock, key_of, table
from tune_accent.config.space import Categorical, Integer, Space, Uniform
from tune_accent.tuning.core import Core, Grant, Settings, State
from tune_accent.tuning.draws import _at, distributions, spread
from tune_accent.tuning.gaussian import GaussianSuggester, full_length
from tune_accent.tuning.memo import DictMemo
from tune_accent.tuning.suggest import make_suggester

SPACE = Space((Uniform("lr", 1e-4, 1e-1, log=True), Categorical("lora_rank", (2, 4, 8))))


def test_a_stopped_trial_counts_with_what_the_others_gained_after_its_epoch() -> None:
    whole, other = [0.1, 0.3, 0.4, 0.45], [0.2, 0.3, 0.6, 0.85]  # gains .2/.1, .1/.3, .05/.25: means .15, .2, .15
    gain = [(0.2 + 0.1 - 0.1) / 3, 0.2, 0.15]
    assert full_length([whole, other, [0.5], [0.2, 0.1]]) == pytest.approx([0.45, 0.85, 0.5 + sum(gain), 0.1 + sum(gain[1:])])


def test_one_that_failed_is_the_worst() -> None:
    assert full_length([[0.5, 0.7], [], [0.2, 0.4]]) == pytest.approx([0.7, 0.4, 0.4])
    assert full_length([[0.5, 0.7], [], [0.2, 0.4]], "minimize") == pytest.approx([0.7, 0.7, 0.4])
    assert full_length([[], []]) == [] and full_length([]) == []


def places(states: State, seed: int = 0) -> list[float]:
    """Where the 9th to 20th trial are drawn when those with a learning rate above .003 end in this state, and the others reach the same value."""
    settings = Settings(run_cap=20, slots=1, epochs=3, min_iter=1, seed=seed)
    suggester = GaussianSuggester(SPACE, settings, 8)
    drawn = []
    for number in range(20):
        draw = suggester.ask(number, 0)
        assert draw is not None
        high = math.log10(draw["lr"]) > -2.5
        suggester.tell(number, states if high else "COMPLETE", [0.5] if high else [0.3, 0.4, 0.5 + number % 3 / 100])
        drawn.append(draw["lr"])
    return drawn[8:]


def test_it_turns_away_from_where_trials_diverge() -> None:
    assert sum(lr > 10**-2.5 for lr in places("DIVERGED")) <= 3


def test_what_the_machine_lost_is_neither_bad_nor_asked_again_and_again() -> None:
    lost = places("CRASHED")
    assert sum(lr > 10**-2.5 for lr in lost) > 3
    assert len({round(math.log10(lr), 1) for lr in lost}) > 6


def best_of(sampler: str, seed: int) -> float:
    settings = Settings(run_cap=24, slots=4, epochs=9, min_iter=3, seed=seed, metric="value")
    core = Core(settings, make_suggester(SPACE, settings, method="bayes", sampler=sampler), key_of, DictMemo())  # type: ignore[arg-type]

    def outcome(grant: Grant) -> dict[str, float]:
        height = 1.0 - abs(math.log10(grant.params["lr"]) + 2.0) - 0.3 * (grant.params["lora_rank"] != 4)
        return {"value": height * (1 - math.exp(-grant.epoch / 3))}

    assert Clock(core, 4, outcome=outcome).run()
    assert {"STOPPED", "COMPLETE"} <= {trial.state for trial in core.trials}
    return max(core.value(trial.reports[-1]) for trial in core.trials if trial.state == "COMPLETE")


def test_it_finds_more_than_random_search_beside_early_stopping() -> None:
    gained = [best_of("gp", seed) - best_of("random", seed) for seed in range(2)]
    assert sum(gained) / 2 > 0.02


@pytest.mark.parametrize("points", [4, 8])
def test_the_first_trials_are_spread_evenly(points: int) -> None:
    space = distributions(Space((*SPACE.parameters, Uniform("x", -1.0, 3.0), Categorical("c", (0, 1)))))
    drawn = [spread(space, 5, number) for number in range(points)]
    assert {draw["c"] for draw in drawn[:2]} == {0, 1}
    for name, place in (("x", lambda x: (x + 1) / 4), ("lr", lambda lr: (math.log10(lr) + 4) / 3)):
        assert sorted(int(place(draw[name]) * points) for draw in drawn) == list(range(points)), "one in each part of the range"
    assert drawn != [spread(space, 6, number) for number in range(points)]
    assert spread({}, 5, 3) == {}


def test_whole_numbers_and_ends_of_ranges() -> None:
    space = distributions(Space((Integer("n", 2, 4),)))
    assert {spread(space, 0, number)["n"] for number in range(16)} == {2, 3, 4}
    assert _at(space["n"], 1 - 1e-16) == 4 and _at(space["n"], 0.0) == 2
    lr = distributions(SPACE)["lr"]
    assert _at(lr, 0.0) == 1e-4 and 0.0999 < _at(lr, 1 - 1e-12) <= 1e-1


def test_it_learns_from_a_trial_that_still_runs() -> None:
    """Low learning rates are better, but for a trial at .05 that still runs: the next one is drawn there once it has reported."""

    def drawn(told: bool) -> float:
        suggester = GaussianSuggester(SPACE, Settings(run_cap=20, slots=1, epochs=3, seed=1), 1)
        for number, (lr, value) in enumerate(((2e-4, 0.5), (1e-3, 0.3), (5e-2, 0.9), (1e-2, 0.1))):
            suggester.accept(number, {"lr": lr, "lora_rank": 4})
            if lr != 5e-2:
                suggester.tell(number, "COMPLETE", [value] * 3)
            elif told:
                suggester.tell(number, "RUNNING", [value])
        draw = suggester.ask(5, 0)
        assert draw is not None
        return float(draw["lr"])

    assert drawn(True) > 2e-2 and drawn(False) < 5e-3


def test_a_search_that_is_killed_and_continued_draws_the_same() -> None:
    """What a running trial has reached is known by rounds, not by who came first; so any number of workers and any death give one table."""
    settings = Settings(run_cap=8, slots=3, epochs=4, min_iter=2, seed=3)

    def started(memo: DictMemo, workers: int, kill_after: int | None = None) -> Clock:
        core = Core(settings, make_suggester(SURFACE, settings, method="bayes", sampler="gp", startup_trials=4), key_of, memo)
        return Clock(core, workers, lambda grant: 1.0 + (grant.trial * 7 + grant.epoch * 3) % 5 / 4, kill_after=kill_after)

    whole = started(DictMemo(), 1)
    assert whole.run()
    for kill_after in (4, 13):
        memo = DictMemo()
        assert not started(memo, 3, kill_after).run()
        memo.draws.clear()  # every draw is made again
        again = started(memo, 2)
        assert again.run() and table(again.core) == table(whole.core)
