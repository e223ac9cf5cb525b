"""ASHA's stopping rule, by rounds."""

from __future__ import annotations

import numpy as np
import pytest

from tune_accent.tuning.rungs import Rungs


@pytest.mark.parametrize(
    ("min_iter", "eta", "epochs", "levels"),
    [(3, 3, 9, (3,)), (3, 3, 10, (3, 9)), (1, 2, 9, (1, 2, 4, 8)), (1, 1.2, 4, (1, 2, 3)), (None, 3, 9, ()), (9, 3, 9, ())],
)
def test_levels(min_iter: int | None, eta: float, epochs: int, levels: tuple[int, ...]) -> None:
    assert Rungs(min_iter, eta, epochs).levels == levels


def test_between_rungs_everybody_goes_on() -> None:
    rungs = Rungs(3, 3, 9)
    assert [rungs.decide(0, epoch, -1.0) for epoch in (1, 2, 4, 9)] == ["go"] * 4


@pytest.mark.parametrize(
    ("count", "eta", "kept"), [(1, 3, 1), (2, 3, 1), (3, 3, 1), (4, 3, 2), (6, 3, 2), (7, 3, 3), (4, 2, 2), (8, 4, 2)]
)
def test_the_best_share_of_a_round_goes_on_whatever_the_order(count: int, eta: float, kept: int) -> None:
    for seed in range(5):
        rungs = Rungs(1, eta, 9)
        values = np.random.default_rng(seed).permutation(count)
        for trial, value in enumerate(values):
            rungs.record(trial, 1, float(value))
        gone = [trial for trial, value in enumerate(values) if rungs.decide(trial, 1, float(value)) == "go"]
        assert sorted(values[gone]) == list(range(count - kept, count))


def test_later_trials_are_judged_against_all_before() -> None:
    rungs = Rungs(1, 3, 9)
    for trial, value in enumerate([0.9, 0.8, 0.1]):
        rungs.record(trial, 1, value)
    assert rungs.decide(3, 1, 0.85) == "go"  # second of four
    assert rungs.decide(4, 1, 0.2) == "stop"


def test_ties_go_on() -> None:
    rungs = Rungs(1, 3, 9)
    for trial in range(3):
        rungs.record(trial, 1, 0.5)
    assert [rungs.decide(trial, 1, 0.5) for trial in range(3)] == ["go"] * 3


@pytest.mark.parametrize(("min_iter", "eta"), [(-1, 3), (1, 1.0), (2, 0.5)])
def test_impossible_rungs_are_refused(min_iter: int, eta: float) -> None:
    with pytest.raises(ValueError, match="min_iter"):
        Rungs(min_iter, eta, 9)
