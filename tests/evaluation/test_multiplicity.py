"""The best of many trials over noise, from theory and by simulation."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from tests.evaluation.simulated_codes import make_code, make_table
from tune_accent.evaluation import Evaluation, Protocol, evaluate, null_of_best, replicates
from tune_accent.evaluation.accent import Confusions, permuted_f1
from tune_accent.evaluation.multiplicity import maximum_of_draws, normal_maximum


@pytest.fixture(scope="module")
def best() -> Evaluation:
    table = make_table()
    return evaluate(make_code(table, accent=0.3), table, Protocol(permutations=0))


@pytest.mark.parametrize(("draws", "expected"), [(16, 1.77), (32, 2.07), (64, 2.34), (128, 2.59)])
def test_maximum_of_normal_draws_as_tabulated(draws: int, expected: float) -> None:
    assert normal_maximum(draws) == pytest.approx(expected, abs=0.005)


def test_maximum_of_normal_draws_in_closed_form() -> None:
    """Jones (1948): 0, 1/√π, 3/(2√π)."""
    assert normal_maximum(1) == pytest.approx(0, abs=1e-9)
    assert normal_maximum(2) == pytest.approx(1 / np.sqrt(np.pi), abs=1e-9)
    assert normal_maximum(3) == pytest.approx(1.5 / np.sqrt(np.pi), abs=1e-9)


@pytest.mark.parametrize("draws", [1, 2, 4])
def test_maximum_of_draws_by_enumeration(draws: int) -> None:
    values = np.array([0.3, 0.1, 0.1, 0.7, 0.5])
    assert maximum_of_draws(values, draws) == pytest.approx(np.mean([max(each) for each in product(values, repeat=draws)]))


def test_null_maximum_is_what_trials_over_noise_reach(best: Evaluation) -> None:
    """Beside 500 searches of 16 trials each, whose labels are permuted anew; 4 standard errors, and the B permutations have their own."""
    found = null_of_best(best, 16, seed=0, permutations=4000)
    rows = best.speakers
    table = Confusions(
        np.array(list(rows.predicted.values()), dtype=float), np.array([rows.accent[name] for name in rows.predicted])
    )
    searches = permuted_f1(table, 8000, np.random.SeedSequence(1)).reshape(500, 16).max(axis=1)
    assert found.null_maximum == pytest.approx(searches.mean(), abs=4 * searches.std() * np.sqrt(1 / 500 + 16 / 4000))
    assert found.chance == pytest.approx(1 / 3, abs=4 * found.sd / np.sqrt(4000))
    assert found.chance < found.null_maximum < best.accent_f1.value  # type: ignore[operator]


def test_optimism_is_sigma_times_m(best: Evaluation) -> None:
    found = null_of_best(best, 32, seed=3)
    assert found.sigma == pytest.approx(replicates(best, "accent_f1", seed=3).std(ddof=1))
    assert found.optimism == pytest.approx(found.sigma * 2.07, rel=0.002)


def test_one_trial_has_no_luck(best: Evaluation) -> None:
    found = null_of_best(best, 1, seed=0)
    assert found.null_maximum == pytest.approx(found.chance)
    assert found.optimism == pytest.approx(0, abs=1e-9)
    assert null_of_best(best, 1, seed=0) == found


def test_no_trials_are_refused(best: Evaluation) -> None:
    with pytest.raises(ValueError, match="at least 1 trial"):
        null_of_best(best, 0, seed=0)
