"""What an evaluation holds beside its figures: corrected values, degenerate classes, secondary accents, JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix, recall_score

from tests.evaluation.simulated_codes import make_code, make_table
from tune_accent.evaluation import Evaluation, Figure, Protocol, evaluate

KEYS = [
    "accent_f1",
    "accent_balanced_accuracy",
    "leakage_unseen",
    "leakage_seen",
    "leakage_raw",
    "leakage_raw_ceiling",
    "leakage_auc",
    "text_drop",
]


@pytest.fixture(scope="module")
def found() -> Evaluation:
    table = make_table()
    return evaluate(make_code(table, accent=0.4, speaker=0.4), table)


def test_corrected_is_0_at_chance_and_1_with_all_the_information() -> None:
    assert Figure(0.5, chance=0.25).corrected == pytest.approx(1 / 3)
    assert Figure(0.25, chance=0.25).corrected == 0
    assert Figure(0.8, chance=0.0, most=0.8).corrected == 1  # leakage of every utterance among five speakers
    assert Figure(0.5).corrected is Figure(None, reason="none").corrected is None


def test_every_figure_is_json_with_its_chance(found: Evaluation) -> None:
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    for name in KEYS:
        assert {"value", "low", "high", "chance", "n"} <= plain[name].keys(), name
        assert ("corrected" in plain[name]) == (name != "leakage_raw_ceiling")
    assert plain["accent_f1"]["p"] == 0.001  # (1 + 0)/(1 + 999): no permutation comes near
    assert plain["leakage_unseen"]["corrected"] == pytest.approx(plain["leakage_unseen"]["value"] / 0.8)
    assert plain["leakage_unseen"]["most"] == pytest.approx(0.8)
    assert Evaluation.from_dict(plain) == found


def test_details_of_an_accent_have_intervals(found: Evaluation) -> None:
    for name, detail in found.per_accent.items():
        for figure in (detail.recall, detail.leakage_unseen, detail.leakage_seen):
            assert figure.value is not None
            assert figure.low is not None
            assert figure.high is not None
            assert figure.low <= figure.value <= figure.high, name
        assert (detail.recall.n, detail.leakage_unseen.n, detail.train_speakers) == (5, 5, 10)
    recalls = [detail.recall.value for detail in found.per_accent.values()]
    assert np.mean(recalls) == pytest.approx(found.accent_balanced_accuracy.value)  # type: ignore[arg-type]


def test_shares_and_recalls_as_scikit_learn_has_them(found: Evaluation) -> None:
    truth = np.repeat(np.repeat(np.arange(3), 3), np.ravel(found.confusion))
    predicted = np.repeat(np.tile(np.arange(3), 3), np.ravel(found.confusion))
    assert found.confusion_shares == pytest.approx(confusion_matrix(truth, predicted, normalize="true"))
    recalls = [detail.recall.value for detail in found.per_accent.values()]
    assert recalls == pytest.approx(recall_score(truth, predicted, average=None))


def test_degenerate_classes_are_named(found: Evaluation) -> None:
    assert found.degenerate == {}
    assert replace(found, confusion=((0, 3, 0), (0, 3, 0), (2, 0, 0))).degenerate == {
        "accent0": "never correct",
        "accent2": "never predicted",
    }
    table = make_table()
    constant = evaluate(np.zeros((len(table), 2)), table, Protocol(permutations=0))
    assert sorted(constant.degenerate.values()) == ["never predicted", "never predicted"]
    assert constant.to_dict()["degenerate"] == constant.degenerate


def with_small(train: int, val: int) -> pd.DataFrame:
    """Three accents of the gate, and `accent3` of a few speakers."""
    table = make_table(accents=4, test=0)
    number = table["speaker"].str[3:].astype(int)
    kept = (table["split"] == "train") & (number < train) | (table["split"] == "val") & (number < 10 + val)
    return table[kept | (table["accent"] != "accent3")].reset_index(drop=True)


GATE = ("accent0", "accent1", "accent2")


@pytest.mark.parametrize(("train", "val"), [(1, 1), (3, 1), (1, 4), (0, 2), (2, 0)])
def test_secondary_accents_are_apart(train: int, val: int) -> None:
    table = with_small(train, val)
    code = make_code(table, accent=2.0)
    found = evaluate(code, table, Protocol(gate_accents=GATE))
    gate = (table["accent"] != "accent3").to_numpy()
    without = evaluate(code[gate], table[gate], Protocol(gate_accents=GATE))
    assert found.secondary_accents == ("accent3",)
    assert replace(found, secondary={}, secondary_accents=()) == without
    small = found.secondary["accent3"]
    assert (small.train_speakers, small.scored_speakers, sum(small.predicted)) == (train, val, 12 * val)
    if train and val:
        assert small.recall.value == 1.0  # its direction is far from the others
        assert (small.recall.chance, small.recall.n) == (0.25, val)
        assert (small.recall.low is None) == (val == 1)
    else:
        assert small.recall == Figure(None, reason="no scored speaker" if train else "no train speaker")
    assert Evaluation.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_recall_of_secondary_accents_is_measured_when_asked_for() -> None:
    table = with_small(2, 3)
    code = make_code(table, accent=0.3, seed=1)
    found = evaluate(code, table, Protocol(gate_accents=GATE, secondary=False)).secondary["accent3"]
    assert found.recall == Figure(None, reason="not asked for")
    assert sum(found.predicted) == 36
    some = evaluate(code, table, Protocol(gate_accents=GATE)).secondary["accent3"].recall
    assert some.value is not None
    assert some.low is not None
    assert some.high is not None
    assert some.low <= some.value <= some.high


def test_rows_of_speakers_add_up(found: Evaluation) -> None:
    rows = found.speakers
    summed = np.zeros((3, 3))
    for name, counts in rows.predicted.items():
        summed[rows.accent[name]] += counts
    assert np.array_equal(summed, found.confusion)
    assert len(rows.accent) == 45
    assert set(rows.unseen) == set(rows.predicted) == set(rows.texts)
    assert not set(rows.seen) & set(rows.unseen)
    assert np.mean([recall for recall, _ in rows.unseen.values()]) - 0.2 == pytest.approx(found.leakage_unseen.value)
    assert np.sum([removed for _, removed in rows.texts.values()], axis=0).sum() == np.sum(found.confusion)
