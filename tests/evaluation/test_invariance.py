"""Nothing but the values of z and the structure of the table may matter."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from tests.evaluation.simulated_codes import make_code, make_table
from tune_accent.evaluation import Evaluation, Protocol, evaluate
from tune_accent.evaluation.accent import fit_accent

SAMPLED = Protocol(speakers=3, utterances=6, held_fold=0, permutations=99)


@pytest.fixture(scope="module")
def reference() -> Evaluation:
    table = make_table()
    return evaluate(make_code(table, accent=0.4, speaker=0.4), table, SAMPLED, seed=7)


def test_row_order(reference: Evaluation) -> None:
    table = make_table()
    code = make_code(table, accent=0.4, speaker=0.4)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(table))
        assert evaluate(code[order], table.iloc[order], SAMPLED, seed=7) == reference


def test_relabelling(reference: Evaluation) -> None:
    table = make_table()
    code = make_code(table, accent=0.4, speaker=0.4)
    names = {name: f"x{number}" for number, name in enumerate(sorted(set(table["speaker"]), reverse=True))}
    accents = {"accent0": "z", "accent1": "m", "accent2": "a"}
    renamed = table.assign(
        speaker=table["speaker"].map(names), accent=table["accent"].map(accents), text_id=table["text_id"].str[::-1]
    )
    found = evaluate(code, renamed, SAMPLED, seed=7)
    assert found.figures == reference.figures
    assert found.confusion == reference.confusion
    assert [found.per_accent[accents[name]] for name in reference.gate_accents] == list(reference.per_accent.values())
    assert found.speakers.predicted == {names[name]: row for name, row in reference.speakers.predicted.items()}
    assert found.speakers.seen == {names[name]: row for name, row in reference.speakers.seen.items()}


def test_positive_scaling(reference: Evaluation) -> None:
    table = make_table()
    code = make_code(table, accent=0.4, speaker=0.4)
    axes = np.exp(np.random.default_rng(0).normal(size=code.shape[1]))
    for scale in (np.float64(8.0), np.float64(1e-6), axes):
        found = evaluate(code * scale, table, SAMPLED, seed=7)
        for name, figure in reference.figures.items():
            assert found.figures[name].value == pytest.approx(figure.value, abs=1e-9), name


def test_bit_for_bit_and_json(reference: Evaluation) -> None:
    table = make_table()
    again = evaluate(make_code(table, accent=0.4, speaker=0.4), table, SAMPLED, seed=7)
    plain = json.dumps(reference.to_dict(), allow_nan=False)
    assert json.dumps(again.to_dict()) == plain
    assert Evaluation.from_dict(json.loads(plain)) == reference
    null = evaluate(make_code(table), table.assign(text_id=None), Protocol(intervals=False))
    assert null.to_dict()["text_drop"] == {"value": None, "reason": "the utterances have no text_id"}
    assert Evaluation.from_dict(json.loads(json.dumps(null.to_dict()))) == null


def test_float32_and_extra_columns_are_taken() -> None:
    table = make_table()
    code = make_code(table, accent=0.4, speaker=0.4).astype(np.float32)
    fast = Protocol(intervals=False)
    assert evaluate(code, table.assign(gender="f"), fast) == evaluate(code.astype(np.float64), table, fast)


@pytest.mark.parametrize("threads", [1, 2])
def test_blas_is_held_to_the_threads_of_the_protocol(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    used: set[int] = set()

    def watched(*arguments: Any) -> Any:
        used.update(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
        return fit_accent(*arguments)

    monkeypatch.setattr(sys.modules[evaluate.__module__], "fit_accent", watched)
    table = make_table()
    evaluate(make_code(table), table, replace(SAMPLED, threads=threads), seed=7)
    assert used == {threads}
