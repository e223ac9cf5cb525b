"""Figures of the control experiment from rows made by hand: means, pairs, intervals that hold the truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tune_accent.paper.control_figures import control_figures, heard_matrix
from tune_accent.paper.control_plan import BASE, NONE, SET
from tune_accent.paper.hidden_control import shares

ACCENTS = ("a", "b", "c")
Hear = Callable[[str, str, str], str]  # (speaker, own accent, target or "") → heard


def rows(hear: Hear, speakers: int = 4, texts: int = 3, **columns: Callable[[str, str], float]) -> list[dict[str, Any]]:
    """Rows of `control.csv`; a further column's value is a function of (speaker, setting)."""
    columns = {"similarity": lambda speaker, setting: 0.5, "similarity_other": lambda speaker, setting: 0.1, **columns}
    settings = [*((SET, accent) for accent in ACCENTS), (NONE, ""), (BASE, "")]
    return [
        {
            "text_id": f"t{text}",
            "speaker": f"{own}{number}",
            "accent": own,
            "setting": setting,
            "target": target,
            "heard": hear(f"{own}{number}", own, target),
            **{name: value(f"{own}{number}", setting) for name, value in columns.items()},
        }
        for own in ACCENTS
        for number in range(speakers)
        for text in range(texts)
        for setting, target in settings
    ]


def test_half_of_the_speakers_follow() -> None:
    """Of each accent two of four follow A and two keep their own."""
    made = rows(lambda speaker, own, target: (target or own) if speaker[1] in "01" else own)
    figures = control_figures(made, ACCENTS, 200, 0)
    assert figures["follows"].value == pytest.approx((1 + 1 / 3) / 2)
    assert figures["follows_other"].value == pytest.approx(0.5) and figures["follows_other"].chance == 0.0
    assert figures["lift"].value == pytest.approx((2 / 3) / 2)
    assert figures["own_without"].value == figures["own_base"].value == 1.0
    low, high = figures["follows_other"].low, figures["follows_other"].high
    assert low is not None and high is not None and low < 0.5 < high and low >= 0 and high <= 1
    assert heard_matrix(made, ACCENTS) == tuple(
        tuple(pytest.approx(2 / 3 if target == heard else 1 / 6) for heard in ACCENTS) for target in ACCENTS
    )


def test_a_bias_of_the_probe_is_no_control() -> None:
    """Everything is heard as b: `follows` is chance, and `lift` nothing."""
    figures = control_figures(rows(lambda *_: "b"), ACCENTS, 200, 0)
    assert figures["follows"].value == pytest.approx(1 / 3) == figures["follows"].chance
    assert figures["lift"].value == 0.0 and figures["own_without"].value == pytest.approx(1 / 3)
    assert figures["follows_other"].value == pytest.approx(1 / 3) and figures["follows_other"].chance == pytest.approx(1 / 3)


def test_a_drop_is_what_a_costs() -> None:
    """Per speaker .8 without A, .6 with it and .9 without LoRA, whatever the level of the speaker: paired, so the interval is a point."""
    level: dict[str, float] = {SET: 0.6, NONE: 0.8, BASE: 0.9}
    made = rows(lambda *_: "a", similarity=lambda speaker, setting: level[setting] - 0.1 * int(speaker[1]))
    figures = control_figures(made, ACCENTS, 200, 0)
    for name, truth in (("similarity_drop", 0.2), ("similarity_drop_base", 0.3)):
        figure = figures[name]
        assert all(number == pytest.approx(truth) for number in (figure.value, figure.low, figure.high)) and figure.chance == 0.0
    assert figures["similarity_none"].value == pytest.approx(0.65) and figures["similarity_none"].chance == pytest.approx(0.1)
    low = figures["similarity_none"].low
    assert low is not None and low < 0.6, "speakers differ"


def test_errors_rise_and_opinions_fall() -> None:
    made = rows(
        lambda *_: "a",
        cer=lambda speaker, setting: 0.3 if setting == SET else 0.1,
        mos=lambda speaker, setting: 3.0 if setting == BASE else 2.5,
    )
    figures = control_figures(made, ACCENTS, 200, 0)
    assert figures["cer_change"].value == pytest.approx(0.2) and figures["mos_change_base"].value == pytest.approx(-0.5)
    assert figures["mos_set"].value == pytest.approx(2.5) and "ecapa_set" not in figures


def test_intervals_hold_the_truth() -> None:
    """Speakers differ in how often they follow: over 120 experiments of 5 speakers per accent the interval of `follows_other` holds .6 in most."""
    generator, held = np.random.default_rng(0), 0
    for seed in range(120):
        willing = {f"{own}{number}": generator.beta(6, 4) for own in ACCENTS for number in range(5)}
        made = rows(lambda speaker, own, target, w=willing: target if generator.random() < w[speaker] else own, speakers=5)  # type: ignore[misc]
        figure = control_figures(made, ACCENTS, 200, seed)["follows_other"]
        assert figure.low is not None and figure.high is not None
        held += figure.low <= 0.6 <= figure.high
    assert 108 <= held <= 120


def test_shares_of_swapped_hidden_states() -> None:
    """Of two speakers per accent one follows A and one keeps the own; a row of another accent does not count."""
    speakers = [f"{own}{number}" for own in ACCENTS for number in (0, 1)]
    table = pd.DataFrame({"speaker": [*speakers, "x0"], "accent": [*(name[0] for name in speakers), "x"]})
    own = table["accent"].tolist()
    swapped = [[accent if name[1] == "0" else name[0] for name in table["speaker"]] for accent in ACCENTS]
    figures = shares(table, ACCENTS, own, swapped, 200, 0)
    assert figures["follows"].value == pytest.approx((1 + 1 / 3) / 2) and figures["follows"].n == 6
    assert figures["follows_other"].value == figures["own_kept"].value == 0.5
    assert figures["own_without"].value == 1.0 and figures["follows_other"].chance == 0.0
