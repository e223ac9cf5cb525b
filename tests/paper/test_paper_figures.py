"""The figures of a paper run: what they are made from, and that equal results give equal bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.paper.hand_made import trial
from tests.paper.paper_results import paper_results
from tune_accent.paper.arms import measure
from tune_accent.paper.figures import paper_figures, survivors
from tune_accent.paper.importances import FEWEST, importances
from tune_accent.paper.results import PaperResults
from tune_accent.reporting.figures import Picture


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> PaperResults:
    return paper_results(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def drawn(results: PaperResults) -> dict[str, Picture]:
    return paper_figures(measure(results))


def test_every_trial_that_finished_an_epoch_is_counted_once() -> None:
    first = trial(0, 0.5)
    early = replace(trial(1, 0.5, state="STOPPED"), reports=[{}])
    trials = [first, early, replace(trial(2, 0.5, state="DIVERGED"), reports=[{}]), trial(3, 0.5, state="DUPLICATE")]
    assert survivors(trials, 2) == [{"on": 1, "stopped": 1, "failed": 1}, {"on": 1, "stopped": 0, "failed": 0}]


def test_importances_are_of_full_length_trials_and_repeat(results: PaperResults) -> None:
    found = importances(results.space, results.search, 5)
    assert found.trials == sum(one.state == "COMPLETE" for one in results.search) >= FEWEST
    assert list(found.shares) == ["fANOVA", "PED-ANOVA"]
    for shares in found.shares.values():
        assert set(shares) == {one.name for one in results.space.searched}
        assert sum(shares.values()) == pytest.approx(1.0)
    # in the simulated search leakage, and with it the score, hangs on whether the weight is 0
    assert max(found.shares["fANOVA"], key=lambda name: found.shares["fANOVA"][name]) == "leakage_weight"
    assert importances(results.space, results.search, 5) == found
    assert importances(results.space, [one for one in results.search if one.state == "COMPLETE"], 5) == found


def test_too_few_trials_have_no_importances(results: PaperResults) -> None:
    full = [one for one in results.search if one.state == "COMPLETE"]
    found = importances(results.space, full[: FEWEST - 1], 5)
    assert (found.trials, found.shares) == (FEWEST - 1, {})
    assert "too few" in str(found.reason)
    same = [replace(one, reports=[{"score": 0.5}]) for one in full]
    assert "same score" in str(importances(results.space, same, 5).reason)


def test_equal_results_give_equal_figures(drawn: dict[str, Picture], tmp_path: Path) -> None:
    first, second = drawn, paper_figures(measure(paper_results(tmp_path)))
    assert list(first) == ["pareto", "leakage_weight", "importances", "history", "survival", "learning"]
    assert first == second
    for picture in first.values():
        assert picture.png.startswith(b"\x89PNG")
        assert picture.pdf.startswith(b"%PDF")
        assert b"CreationDate" not in picture.pdf


def test_bare_results_can_be_drawn(results: PaperResults, drawn: dict[str, Picture]) -> None:
    """One arm, nothing of full length, nothing tested, a failed trial."""
    stopped = [replace(one, state="STOPPED" if one.number else "CRASHED", reports=one.reports[:1]) for one in results.search]
    bare = paper_figures(measure(replace(results, arms=results.arms[:1], runs=[], tested=[], search=stopped)))
    assert list(bare) == list(drawn)
    assert not [name for name in drawn if bare[name].png == drawn[name].png]
