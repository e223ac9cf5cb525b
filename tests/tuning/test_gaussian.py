"""The Gaussian process learns from trials of every length and from those that failed."""

from __future__ import annotations

import math

import pytest

from tests.tuning.simulated import Clock, key_of
from tune_accent.config.space import Categorical, Space, Uniform
from tune_accent.tuning.core import Core, Grant, Settings, State
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
