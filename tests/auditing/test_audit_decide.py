"""The recommended layer: the rule, on simulated layers whose accent and speaker content is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.evaluation.simulated_codes import make_code, make_table
from tune_accent.auditing.decide import layer_score, recommend
from tune_accent.auditing.evaluated import SetResult
from tune_accent.config.schema import Score
from tune_accent.evaluation import Evaluation, Protocol, evaluate, score

TABLE = make_table(train=6, val=5, utterances=6)
PROTOCOL = Protocol(draws=1, bootstrap=300, c_grid=(0.1,))
LAX = Score(leakage_limit=1.0, drop_limit=1.0)


def measured(**content: Any) -> Evaluation:
    """The evaluation of a simulated code."""
    return evaluate(make_code(TABLE, **content), TABLE, PROTOCOL, 0)


@pytest.fixture(scope="module")
def found() -> dict[str, Evaluation]:
    """Layers by what is in them."""
    return {
        "accent": measured(accent=1.0),
        "accent again": measured(accent=1.0, seed=1),
        "accent and speaker": measured(accent=1.0, speaker=1.0),
        "speaker": measured(speaker=1.0, seed=2),
        "noise": measured(seed=3),
    }


def layers(*evaluations: Evaluation, **changes: Any) -> list[SetResult]:
    """Candidates k = 1, 2, …"""
    what: dict[str, Any] = {"family": "backbone", "pooling": "mean+std", "speaker": "neutral", **changes}
    return [
        SetResult(f"decoder_block_{place:02d}", depth=place, layer=place + 1, evaluation=one, **what)
        for place, one in enumerate(evaluations)
    ]


def test_the_best_score_wins_where_nothing_is_tied(found: dict[str, Evaluation]) -> None:
    chosen = recommend(layers(found["noise"], found["accent"], found["speaker"]), LAX, 300, 0)
    assert chosen is not None
    assert (chosen.name, chosen.layer, chosen.best, chosen.tied, chosen.layers) == (
        "decoder_block_01",
        2,
        "decoder_block_01",
        (),
        3,
    )
    assert chosen.score == layer_score(found["accent"], LAX) and chosen.feasible


def test_a_layer_within_the_limits_comes_before_a_better_one_outside(found: dict[str, Evaluation]) -> None:
    strict = Score(leakage_limit=0.3, leakage_penalty=0.0, drop_limit=1.0)
    outside, inside = found["accent and speaker"], found["noise"]
    assert layer_score(outside, strict) > layer_score(inside, strict)
    chosen = recommend(layers(outside, inside), strict, 300, 0)
    assert chosen is not None and chosen.layer == 2 and chosen.feasible
    alone = recommend(layers(outside), strict, 300, 0)
    assert alone is not None and alone.layer == 1 and not alone.feasible


def test_a_tie_goes_to_the_lower_unseen_leakage(found: dict[str, Evaluation]) -> None:
    both = found["accent"], found["accent and speaker"]
    free = Score(leakage_limit=1.0, drop_limit=1.0)
    gap = abs(layer_score(both[0], free) - layer_score(both[1], free))
    leaks = [one.leakage_unseen.value for one in both]
    assert gap < 0.1 and leaks[0] is not None and leaks[1] is not None and leaks[0] + 0.2 < leaks[1]
    for order in (both, both[::-1]):
        chosen = recommend(layers(*order), free, 300, 0)
        assert chosen is not None and chosen.layer == 1 + order.index(both[0])
        (tie,) = [one for one in chosen.tied]
        assert chosen.best != tie.name and tie.behind.value == pytest.approx(gap)
        assert tie.behind.low is not None and tie.behind.high is not None and tie.behind.low <= 0 <= tie.behind.high
        assert tie.leaks_less == (chosen.best != chosen.name)


def test_leakage_that_cannot_be_told_apart_does_not_decide_a_tie(found: dict[str, Evaluation]) -> None:
    both = found["accent"], found["accent again"]
    chosen = recommend(layers(*both), LAX, 300, 0)
    assert chosen is not None and len(chosen.tied) == 1 and not chosen.tied[0].leaks_less
    assert chosen.name == chosen.best and chosen.score == max(layer_score(one, LAX) for one in both)


def test_the_difference_is_paired() -> None:
    """A layer that is a little worse for the same speakers is not tied, though the two intervals overlap by far."""
    code = make_code(TABLE, accent=0.3, speaker=0.5, seed=5)
    better, worse = evaluate(code, TABLE, PROTOCOL, 0), evaluate(code + make_code(TABLE, seed=6), TABLE, PROTOCOL, 0)
    bounds = better.accent_f1.low, worse.accent_f1.high
    assert bounds[0] is not None and bounds[1] is not None and bounds[0] + 0.15 < bounds[1]
    chosen = recommend(layers(better, worse), LAX, 300, 0)
    assert chosen is not None and chosen.layer == 1 and chosen.tied == ()


def test_the_score_is_that_of_a_trial_at_the_loss_of_the_base_model(found: dict[str, Evaluation]) -> None:
    one, cfg = found["accent and speaker"], Score(leakage_limit=0.1, drop_limit=0.0)
    f1, leakage, drop = (one.figures[name].value for name in ("accent_f1", "leakage", "text_drop"))
    assert f1 is not None and leakage is not None
    assert layer_score(one, cfg) == score(f1, leakage, drop, 2.5, 2.5, cfg) < f1


@pytest.mark.parametrize(
    "changes",
    [{"speaker": "given"}, {"pooling": "mean"}, {"speaker": None, "family": "acoustic"}],
    ids=lambda changes: next(iter(changes.values())),
)
def test_only_what_a_search_reads_is_recommended(found: dict[str, Evaluation], changes: dict[str, Any]) -> None:
    assert recommend(layers(found["accent"], **changes), LAX, 300, 0) is None
    unreadable = [SetResult("text_encoder_out", "backbone", -1, "mean+std", "neutral", None, found["accent"])]
    assert recommend(unreadable, LAX, 300, 0) is None
    failed = [SetResult("decoder_block_00", "backbone", 0, "mean+std", "neutral", 1, None, "not finite")]
    assert recommend(failed, LAX, 300, 0) is None
    chosen = recommend([*unreadable, *failed, *layers(found["noise"])[:1]], LAX, 300, 0)
    assert chosen is not None and chosen.layers == 1


def test_without_shared_texts_the_drop_does_not_count() -> None:
    table = TABLE.assign(text_id=pd.Series([None] * len(TABLE), dtype=object))
    one = evaluate(make_code(TABLE, accent=1.0), table, PROTOCOL, 0)
    assert one.text_drop.value is None
    chosen = recommend(layers(one), Score(leakage_limit=1.0), 300, 0)
    assert chosen is not None and chosen.score == pytest.approx(np.asarray(one.accent_f1.value))
