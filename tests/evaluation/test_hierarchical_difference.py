"""Differences over seeds, paired by seed and speaker; and the leakage of one accent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.evaluation.simulated_codes import make_code, make_table
from tune_accent.base.errors import DataError
from tune_accent.evaluation import Evaluation, Figure, Protocol, evaluate, hierarchical_interval, paired_difference
from tune_accent.evaluation.comparison import hierarchical_difference, of_accent

PROTOCOL = Protocol(speakers=4, draws=1, c_grid=(0.1,), bootstrap=100, permutations=0)
TABLE = make_table(train=5, val=4, test=0, utterances=6)


def measured(speaker: float, seed: int) -> Evaluation:
    return evaluate(make_code(TABLE, accent=0.7, speaker=speaker, dims=16, seed=seed), TABLE, PROTOCOL)


@pytest.fixture(scope="module")
def leaky() -> list[Evaluation]:
    return [measured(0.9, seed) for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def tight() -> list[Evaluation]:
    """The same noise and directions of accent and speaker as `leaky`, with less speaker in it."""
    return [measured(0.3, seed) for seed in (1, 2, 3)]


def width(figure: Figure) -> float:
    assert figure.low is not None
    assert figure.high is not None
    return figure.high - figure.low


def test_the_value_is_the_mean_of_the_seeds_differences(leaky: list[Evaluation], tight: list[Evaluation]) -> None:
    found = hierarchical_difference(leaky, tight, "leakage_unseen")
    each = [paired_difference(a, b, "leakage_unseen").value for a, b in zip(leaky, tight, strict=True)]
    assert found.value == pytest.approx(sum(value for value in each if value is not None) / 3)
    assert found.value is not None
    assert found.value > 0.2
    assert found.n == 12
    assert found.chance == 0.0
    assert found.low is not None
    assert found.low > 0


def test_it_changes_sign_with_its_sides(leaky: list[Evaluation], tight: list[Evaluation]) -> None:
    one, other = hierarchical_difference(leaky, tight, "accent_f1"), hierarchical_difference(tight, leaky, "accent_f1")
    assert one.value is not None
    assert other.value == pytest.approx(-one.value)
    assert width(one) == pytest.approx(width(other), rel=0.1)


def test_a_configuration_does_not_differ_from_itself(leaky: list[Evaluation]) -> None:
    found = hierarchical_difference(leaky, leaky, "leakage")
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_seeds_that_agree_leave_the_interval_over_speakers(leaky: list[Evaluation], tight: list[Evaluation]) -> None:
    several, single = (
        hierarchical_difference([leaky[0]] * 3, [tight[0]] * 3, "leakage_unseen"),
        paired_difference(leaky[0], tight[0], "leakage_unseen"),
    )
    assert several.value == pytest.approx(single.value)
    assert width(several) >= 0.9 * width(single)


def test_seeds_that_disagree_widen_it(leaky: list[Evaluation], tight: list[Evaluation]) -> None:
    agree = hierarchical_difference([leaky[0]] * 2, [tight[0]] * 2, "leakage_unseen")
    apart = hierarchical_difference([leaky[0], tight[0]], [tight[0], leaky[0]], "leakage_unseen")
    assert apart.value == pytest.approx(0.0, abs=1e-12)
    assert width(apart) > 1.5 * width(agree)


def test_pairing_pays(leaky: list[Evaluation]) -> None:
    """Beside nearly the same configuration the difference is known far better than either side."""
    near = [measured(0.85, seed) for seed in (1, 2, 3)]
    found = hierarchical_difference(leaky, near, "leakage_unseen")
    assert width(found) < 0.7 * (
        width(hierarchical_interval(leaky, "leakage_unseen")) + width(hierarchical_interval(near, "leakage_unseen"))
    )


def with_rows(one: Evaluation, rows: dict[str, float]) -> Evaluation:
    """`one` with these recalls of unseen speakers, and the leakage that they come to."""
    strata = [[value for name, value in rows.items() if one.speakers.accent[name] == accent] for accent in range(3)]
    value = sum(sum(values) / len(values) for values in strata) / 3 - 1 / one.used.speakers
    unseen = {name: (value, 1) for name, value in rows.items()}
    return replace(one, leakage_unseen=Figure(value), speakers=replace(one.speakers, unseen=unseen))


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_interval_covers_the_true_difference(leaky: list[Evaluation], seeds: int) -> None:
    """Speakers, seeds and their residuals vary, on both sides together and on one side alone: .945, .972 and .961 of 1,200 repeats."""
    names, generator = list(leaky[0].speakers.unseen), np.random.default_rng(1)
    hits = 0
    for _ in range(300):
        shared, own = generator.normal(0.5, 0.1, len(names)), generator.normal(0.1, 0.05, len(names))
        a, b = [], []
        for _ in range(seeds):
            common, extra = shared + generator.normal(0, 0.05), own + generator.normal(0, 0.03)
            rows = [level + generator.normal(0, 0.03, len(names)) for level in (common + extra, common)]
            one, other = (with_rows(leaky[0], dict(zip(names, map(float, row), strict=True))) for row in rows)
            a.append(one)
            b.append(other)
        found = hierarchical_difference(a, b, "leakage_unseen", resamples=300)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0.1 <= found.high
    assert hits >= 0.89 * 300


def test_a_figure_without_a_value_gives_its_reason(leaky: list[Evaluation]) -> None:
    unknown = [replace(one, text_drop=Figure(None, reason="texts are not shared")) for one in leaky]
    found = hierarchical_difference(leaky, unknown, "text_drop")
    assert (found.value, found.reason) == (None, "texts are not shared")


def test_what_cannot_be_paired_is_refused(leaky: list[Evaluation], tight: list[Evaluation]) -> None:
    with pytest.raises(ValueError, match="same two seeds at least"):
        hierarchical_difference(leaky[:1], tight[:1], "accent_f1")
    with pytest.raises(ValueError, match="got 3 and 2"):
        hierarchical_difference(leaky, tight[:2], "accent_f1")
    table = TABLE.assign(speaker="x" + TABLE["speaker"])
    others = [evaluate(make_code(table, accent=0.7, dims=16), table, PROTOCOL)] * 3
    with pytest.raises(DataError, match="not of the same speakers"):
        hierarchical_difference(leaky, others, "accent_f1")


def test_the_leakage_of_an_accent_is_that_of_its_speakers(leaky: list[Evaluation]) -> None:
    for accent in leaky[0].gate_accents:
        own = [of_accent(one, accent) for one in leaky]
        for name in ("leakage_unseen", "leakage_seen"):
            found = hierarchical_interval(own, name)
            details = [getattr(one.per_accent[accent], name).value for one in leaky]
            assert found.value == pytest.approx(sum(details) / 3)
            assert found.low is not None
            assert found.high is not None
            assert found.value is not None
            assert found.low < found.value < found.high
        assert found.n == sum(
            at == leaky[0].gate_accents.index(accent)
            for one, at in leaky[0].speakers.accent.items()
            if one in leaky[0].speakers.seen
        )
