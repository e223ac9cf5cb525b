"""Controls: no strength is chosen in a sweep, and representations are compared by pairs of the same speakers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.evaluation.simulated_codes import make_code, make_table
from tune_accent.base.errors import DataError
from tune_accent.config.schema import Gate
from tune_accent.evaluation.controls import InputComparison, c_sweep, compare_inputs
from tune_accent.evaluation.evaluate import evaluate
from tune_accent.evaluation.figures import Figure
from tune_accent.evaluation.protocol import Protocol

FAST = Protocol(intervals=False, text_drop=False, permutations=0, secondary=False)
PAIRED = Protocol(bootstrap=500, text_drop=False, permutations=0, secondary=False)
TABLE = make_table()


def number(figure: Figure) -> float:
    assert figure.value is not None
    return figure.value


def test_sweep_evaluates_at_each_strength_and_chooses_none() -> None:
    code = make_code(TABLE, accent=1.0, speaker=0.3)
    found = c_sweep(code, TABLE, FAST, seed=2, grid=(0.001, 0.1, 10.0))
    assert list(found.evaluations) == [0.001, 0.1, 10.0]
    for strength, evaluation in found.evaluations.items():
        assert evaluation.strength == strength
        assert number(evaluation.accent_f1) > 0.9
    assert len({evaluation.leakage.value for evaluation in found.evaluations.values()}) > 1
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert [row["strength"] for row in plain["rows"]] == [0.001, 0.1, 10.0]
    assert plain["rows"][1]["leakage_unseen"]["value"] == found.evaluations[0.1].leakage_unseen.value
    assert set(found.verdicts(Gate())) == {0.001, 0.1, 10.0}


def test_sweep_is_of_every_row_order() -> None:
    code = make_code(TABLE, accent=0.5, speaker=0.3)
    order = np.random.default_rng(0).permutation(len(TABLE))
    assert c_sweep(code[order], TABLE.iloc[order], FAST, grid=(0.01, 1.0)) == c_sweep(code, TABLE, FAST, grid=(0.01, 1.0))


@pytest.fixture(scope="module")
def compared() -> InputComparison:
    """z, h that also tells speakers apart, and z again with other noise."""
    z = make_code(TABLE, accent=1.0, seed=1)
    h = np.hstack([z, make_code(TABLE, speaker=2.0, seed=2)])
    return compare_inputs({"z": z, "h": h, "z again": make_code(TABLE, accent=1.0, seed=3)}, TABLE, PAIRED, seed=5)


def test_inputs_are_evaluated_each_and_compared_with_the_first(compared: InputComparison) -> None:
    assert list(compared.evaluations) == ["z", "h", "z again"]
    assert list(compared.differences) == ["h", "z again"]
    assert compared.evaluations["z"] == evaluate(make_code(TABLE, accent=1.0, seed=1), TABLE, PAIRED, seed=5)
    for name, differences in compared.differences.items():
        for key, figure in differences.items():
            ours, theirs = compared.evaluations[name].figures[key], compared.evaluations["z"].figures[key]
            assert number(figure) == pytest.approx(number(ours) - number(theirs))


def test_a_real_difference_is_found_and_none_is_not(compared: InputComparison) -> None:
    leak = compared.differences["h"]["leakage_unseen"]
    assert leak.low is not None
    assert leak.low > 0.4
    for key in ("accent_f1", "leakage_unseen"):
        same = compared.differences["z again"][key]
        assert same.low is not None
        assert same.high is not None
        assert same.low <= 0 <= same.high


def test_pairs_are_narrower_than_the_intervals_that_they_are_made_of() -> None:
    h = make_code(TABLE, accent=0.5, speaker=0.8)
    found = compare_inputs({"h": h, "nearly h": h + 0.05 * make_code(TABLE, seed=9)}, TABLE, PAIRED)
    gap, alone = found.differences["nearly h"]["accent_f1"], found.evaluations["h"].accent_f1
    assert gap.low is not None
    assert gap.high is not None
    assert alone.low is not None
    assert alone.high is not None
    assert gap.high - gap.low < 0.5 * (alone.high - alone.low)


def test_comparison_of_any_row_order_and_as_json(compared: InputComparison) -> None:
    order = np.random.default_rng(0).permutation(len(TABLE))
    z, other = make_code(TABLE, accent=1.0, seed=1), make_code(TABLE, accent=1.0, seed=3)
    moved = compare_inputs({"z": z[order], "z again": other[order]}, TABLE.iloc[order], PAIRED, seed=5)
    assert moved.differences["z again"] == compared.differences["z again"]
    rows = json.loads(json.dumps(compared.to_dict(), allow_nan=False))["rows"]
    assert [row["name"] for row in rows] == ["z", "h", "z again"]
    assert rows[0]["difference"] is None
    assert rows[1]["difference"]["leakage"]["value"] == compared.differences["h"]["leakage"].value


def test_bad_input_is_one_error_that_names_the_representation() -> None:
    code = make_code(TABLE)
    with pytest.raises(DataError, match="shape"):
        c_sweep(code[:-1], TABLE, FAST)
    with pytest.raises(DataError, match="'h': z has shape"):
        compare_inputs({"z": code, "h": code[:-1]}, TABLE, FAST)
    with pytest.raises(DataError, match="no representation"):
        compare_inputs({}, TABLE, FAST)
