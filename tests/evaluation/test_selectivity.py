"""Selectivity: random accents tell a probe that learns speakers by heart from one that finds accent."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.evaluation.simulated_codes import make_code, make_table
from tune_accent.base.errors import DataError
from tune_accent.evaluation.evaluate import evaluate
from tune_accent.evaluation.figures import Figure
from tune_accent.evaluation.protocol import Protocol
from tune_accent.evaluation.selectivity import Selective, _random_accents, selectivity
from tune_accent.evaluation.table import read_rows

PROTOCOL = Protocol(bootstrap=500)
TABLE = make_table()


def number(figure: Figure) -> float:
    assert figure.value is not None
    return figure.value


def covers(figure: Figure, value: float) -> bool:
    assert figure.low is not None
    assert figure.high is not None
    return figure.low <= value <= figure.high


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_speakers_learnt_by_heart_have_no_selectivity(seed: int) -> None:
    found = selectivity(make_code(TABLE, speaker=2.0, dims=96, seed=seed), TABLE, PROTOCOL, seed).known
    assert number(found.f1) > 0.95
    assert number(found.control) > 0.95
    assert abs(number(found.selectivity)) < 0.03


@pytest.mark.parametrize("speaker", [0.0, 0.7])
def test_what_holds_no_accent_is_not_selective_in_most_draws(speaker: float) -> None:
    """On both sides: the interval covers 0 and p is not small, at about their nominal rates."""
    table = make_table(train=6, utterances=6)
    covered, small, values = np.zeros(2), np.zeros(2), []
    for seed in range(30):
        code = make_code(table, speaker=speaker, dims=8, seed=seed)
        found = selectivity(code, table, Protocol(bootstrap=400, c_grid=(0.1,)), seed)
        sides = (found.unseen.selectivity, found.known.selectivity)
        covered += [covers(side, 0.0) for side in sides]
        small += [(side.p or 0.0) <= 0.05 for side in sides]
        values.append([number(side) for side in sides])
    assert (covered >= 24).all()
    assert (small <= 5).all()
    assert np.abs(np.mean(values, axis=0)).max() < 0.04


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_accent_alone_is_selective_on_both_sides(seed: int) -> None:
    found = selectivity(make_code(TABLE, accent=2.0, seed=seed), TABLE, PROTOCOL, seed)
    for side in (found.known, found.unseen):
        assert number(side.f1) > 0.99
        assert side.selectivity.low is not None
        assert side.selectivity.low > 0.35
        assert side.selectivity.p == pytest.approx(1 / 21)
    assert number(found.unseen.control) == pytest.approx(1 / 3, abs=0.12)
    assert number(found.known.control) < 0.6  # what groups of accents and random accents happen to share


def test_random_accents_of_unseen_speakers_are_at_chance_whatever_the_code_holds() -> None:
    for accent, speaker in ((0.0, 0.0), (2.0, 0.0), (1.0, 1.0)):
        code = make_code(TABLE, accent=accent, speaker=speaker, dims=8)
        found = selectivity(code, TABLE, Protocol(intervals=False, c_grid=(0.1,)), repeats=40)
        assert number(found.unseen.control) == pytest.approx(1 / 3, abs=0.07)


def test_memory_grows_with_the_strength_of_the_probe() -> None:
    """More utterances to fit on and weaker speakers: a free probe learns random accents that a stiff one cannot."""
    code = make_code(TABLE, accent=1.0, speaker=0.6)
    known = [selectivity(code, TABLE, Protocol(c_grid=(c,), intervals=False), repeats=5).known for c in (1e-5, 1.0)]
    assert number(known[1].control) > number(known[0].control) + 0.05


def test_agreement_with_scikit_learn() -> None:
    code = make_code(TABLE, accent=0.3, speaker=0.5)
    protocol = Protocol(c_grid=(0.1,), intervals=False)
    found = selectivity(code, TABLE, protocol, seed=4, repeats=2)
    rows = read_rows(code, TABLE, protocol)
    draws = _random_accents(rows, 2, np.random.default_rng(np.random.SeedSequence(4).spawn(2)[0]))

    def plain(labels: np.ndarray, fit_on: np.ndarray, scored: np.ndarray) -> Any:
        probe = LogisticRegression(C=0.1, class_weight="balanced", tol=1e-8, max_iter=2000)
        return make_pipeline(StandardScaler(), probe).fit(rows.z[fit_on], labels[fit_on]).predict(rows.z[scored])

    def both(accents: np.ndarray) -> tuple[float, float]:
        labels = accents[rows.speaker]
        unseen = plain(labels, ~rows.scored, rows.scored)
        known = np.full(len(labels), -1)
        for fold in range(3):
            inside = ~rows.scored & (rows.fold == fold)
            known[inside] = plain(labels, ~rows.scored & ~inside, inside)
        return (
            f1_score(labels[rows.scored], unseen, average="macro"),
            f1_score(labels[~rows.scored], known[~rows.scored], average="macro"),
        )

    truth, controls = both(rows.speaker_accent), np.mean([both(draw) for draw in draws], axis=0)
    for side, ours, theirs in zip((found.unseen, found.known), truth, controls, strict=True):
        assert number(side.f1) == pytest.approx(ours)
        assert number(side.control) == pytest.approx(theirs)
        assert number(side.selectivity) == pytest.approx(ours - theirs)
    assert number(found.unseen.f1) == number(evaluate(code, TABLE, protocol).accent_f1)


def test_control_tasks_keep_the_counts_and_the_speakers_of_each_side() -> None:
    table = make_table(train=6, val=3)
    table = table[~table["speaker"].isin(["a2s00", "a2s01"])].reset_index(drop=True)
    rows = read_rows(make_code(table), table, Protocol())
    truth = rows.speaker_accent
    for draw in _random_accents(rows, 10, np.random.default_rng(0)):
        for scored in (False, True):
            speakers = np.unique(rows.speaker[rows.gate_rows(scored)])
            assert np.array_equal(np.bincount(draw[speakers]), np.bincount(truth[speakers]))
        assert not np.array_equal(draw, truth)


def test_held_fold_is_what_known_speakers_are_scored_on() -> None:
    code = make_code(TABLE, accent=1.0)
    outside = (TABLE["fold"] != 0).to_numpy()
    code[outside] = make_code(TABLE, speaker=2.0)[outside]
    held = selectivity(code, TABLE, Protocol(held_fold=0, intervals=False), repeats=3).known
    crossed = selectivity(code, TABLE, Protocol(intervals=False), repeats=3).known
    assert number(crossed.control) > number(held.control) + 0.2


def test_row_order_names_and_scale_make_no_difference() -> None:
    code = make_code(TABLE, accent=0.4, speaker=0.6)
    reference = selectivity(code, TABLE, PROTOCOL, seed=3, repeats=4)
    order = np.random.default_rng(0).permutation(len(TABLE))
    assert selectivity(code[order], TABLE.iloc[order], PROTOCOL, seed=3, repeats=4) == reference
    renamed = TABLE.assign(
        speaker=TABLE["speaker"].map({name: f"x{i}" for i, name in enumerate(sorted(set(TABLE["speaker"]), reverse=True))}),
        accent=TABLE["accent"].map({"accent0": "sul", "accent1": "nordeste", "accent2": "carioca"}),
    )
    assert selectivity(code, renamed, PROTOCOL, seed=3, repeats=4) == reference
    scaled: Selective = selectivity(code * 1e-3, TABLE, PROTOCOL, seed=3, repeats=4).known
    assert number(scaled.selectivity) == pytest.approx(number(reference.known.selectivity), abs=1e-9)
    plain = json.loads(json.dumps(reference.to_dict(), allow_nan=False))
    assert plain["known"]["selectivity"]["value"] == reference.known.selectivity.value
    assert plain["repeats"] == 4


def test_bad_input_is_one_error() -> None:
    code = make_code(TABLE)
    with pytest.raises(DataError, match="1 fold"):
        selectivity(code, TABLE.assign(fold=0), PROTOCOL)
    with pytest.raises(DataError, match="speaker-disjoint"):
        selectivity(code, TABLE.assign(fold=TABLE["speaker"].str[2:].str[1:].astype(int)), PROTOCOL)
    with pytest.raises(DataError, match="shape"):
        selectivity(code[:-1], TABLE, PROTOCOL)
    code[2, 0] = np.inf
    with pytest.raises(DataError, match="a0s00u02"):
        selectivity(code, TABLE, PROTOCOL)
    with pytest.raises(ValueError, match="repeats"):
        selectivity(code, TABLE, PROTOCOL, repeats=0)
