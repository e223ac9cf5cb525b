"""Hypervolume, wasted work and overhead, on examples that were worked by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.comparing.campaigns import hand_made
from tune_accent.comparing.measures import Overhead, Waste, final_points, hypervolume, overhead, waste
from tune_accent.comparing.record import Execution, TrialRecord


def test_hypervolume() -> None:
    """.8 · (1 - .5) from the strong but leaking trial, .5 · (.5 - .2) more from the quiet one; the dominated one adds nothing."""
    assert hypervolume([(0.5, 0.2), (0.8, 0.5)]) == pytest.approx(0.55)
    assert hypervolume([(0.8, 0.5), (0.5, 0.2), (0.4, 0.4), (0.5, 0.2)]) == pytest.approx(0.55)
    assert hypervolume([(1.0, 0.0)]) == 1 and hypervolume([]) == 0 and hypervolume([(0.9, 1.0), (0.0, 0.1)]) == 0


def test_final_points_are_of_full_trials() -> None:
    metrics = {"score": 1.0, "accent_f1": 0.6, "speaker_leakage": 0.1}
    trials = (TrialRecord(0, {}, "COMPLETE", ({"score": 0.0}, metrics)), TrialRecord(1, {}, "STOPPED", (metrics,)))
    assert final_points(hand_made([], trials=trials)) == [(0.6, 0.1)]


def test_waste() -> None:
    """A complete trial, one stopped an epoch after its grace, one that crashed after two epochs, a copy of the first, one repeated epoch."""
    made = hand_made([[1, 1, 1], [1, 1], [1, 1], [1, 1, 1]], ["COMPLETE", "STOPPED", "CRASHED", "COMPLETE"])
    copy = replace(made.trials[3], params=made.trials[0].params)
    campaign = replace(made, trials=(*made.trials[:3], copy), executed=(Execution(0, 1), Execution(0, 1)))
    assert waste(campaign) == Waste(
        epochs=11, failed_trials=1, failed_epochs=2, duplicates=1, duplicate_epochs=3, repeated=1, late=1
    )
    assert waste(campaign).share == pytest.approx(7 / 11)
    assert waste(replace(campaign, grace=None)).late == 0


def test_a_duplicate_that_was_not_trained_costs_no_epoch() -> None:
    made = hand_made([[1, 1, 1], []], ["COMPLETE", "DUPLICATE"])
    found = waste(made)
    assert (found.duplicates, found.duplicate_epochs, found.epochs, found.share) == (1, 0, 3, 0.0)


def test_overhead() -> None:
    """Two workers for 20 s, of which one trains all the time and the other half of it: a quarter is idle."""
    spans = [Execution(0, 1, 10.0, 110.0), Execution(0, 2, 10.0, 120.0), Execution(1, 1, 10.0, 110.0)]
    campaign = hand_made([[1, 1], [1]], executed=spans, asking=(0.001, 0.003, 0.5))
    found = overhead(campaign)
    assert (found.ms_per_suggestion, found.workers) == (3.0, 2) and found.idle == pytest.approx(0.25)
    assert overhead(hand_made([[1.0]])) == Overhead(None, None, None)
