"""What an evaluation says of representations whose content is known.

Where theory gives a rate (95 % of intervals hold the truth, 5 % of p-values are under .05) many seeds are measured, and the count must be one
that a binomial variable of that rate reaches in all but one of a thousand cases. Where it gives a mean, the mean of the seeds must lie
within four standard errors of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from tests.evaluation.simulated_codes import make_code, make_table, make_text_driven
from tune_accent.evaluation import Evaluation, Figure, Protocol, evaluate
from tune_accent.evaluation.accent import Confusions, accent_figures, macro_f1

SEEDS = 30
FAST = Protocol(text_drop=False, bootstrap=500, c_grid=(0.1,), permutations=0)
SMALL = make_table(train=6, test=0)
TABLE = make_table(test=0)


def numbers(figure: Figure) -> tuple[float, float, float]:
    assert figure.value is not None
    assert figure.low is not None
    assert figure.high is not None
    return figure.value, figure.low, figure.high


def holding(figures: Sequence[Figure], truth: float = 0.0) -> int:
    """How many intervals hold the truth."""
    bounds = [numbers(figure)[1:] for figure in figures]
    return sum(low <= truth <= high for low, high in bounds)


def mean_is(values: Sequence[float | None], truth: float) -> bool:
    """Within four standard errors."""
    found = np.asarray(values, dtype=np.float64)
    return bool(abs(found.mean() - truth) <= 4 * found.std(ddof=1) / np.sqrt(len(found)))


def codes(table: pd.DataFrame, protocol: Protocol = FAST, seeds: int = SEEDS, **amplitudes: float) -> list[Evaluation]:
    """Evaluations of codes of 8 dimensions, each of its own seed."""
    return [evaluate(make_code(table, dims=8, seed=seed, **amplitudes), table, protocol, seed) for seed in range(seeds)]


def test_accent_only_code_does_not_leak_but_raw_delta_reaches_its_ceiling() -> None:
    """Within an accent nothing tells speakers apart: recall is 1/M on average, whatever the probe. Over all N speakers a probe that knows
    the accent guesses among N/K: K/N on average, (K - 1)/N above chance."""
    found = codes(SMALL, accent=6.0)
    assert all(each.accent_f1.value == 1.0 for each in found)
    for name in ("leakage_unseen", "leakage_seen"):
        leakages = [each.figures[name] for each in found]
        assert holding(leakages) >= binom.ppf(0.001, SEEDS, 0.95), name
        assert mean_is([figure.value for figure in leakages], 0.0), name
    ceiling = 2 / 15
    assert found[0].leakage_raw_ceiling.value == pytest.approx(ceiling)
    raw = [each.leakage_raw for each in found]
    assert mean_is([figure.value for figure in raw], ceiling)
    assert holding(raw, ceiling) >= binom.ppf(0.001, SEEDS, 0.95)
    assert holding(raw) <= binom.ppf(0.999, SEEDS, 0.5)  # most of them would be called a leak
    assert mean_is([each.leakage_auc.value for each in found], 0.5)


@pytest.mark.parametrize("speaker", [0.0, 2.0])
def test_a_code_without_accent_is_at_chance(speaker: float) -> None:
    """Accents of unseen speakers are exchangeable: P(p ≤ .05) ≤ .05, and the interval of F1 holds its chance."""
    found = codes(SMALL, Protocol(text_drop=False, bootstrap=500, c_grid=(0.1,), permutations=199), speaker=speaker)
    p = np.asarray([each.accent_f1.p for each in found], dtype=np.float64)
    assert np.count_nonzero(p <= 0.05) <= binom.ppf(0.999, SEEDS, 0.05)
    held = sum(holding([each.accent_f1], float(each.accent_f1.chance or 0.0)) for each in found)
    assert held >= binom.ppf(0.001, SEEDS, 0.95)
    if speaker:
        assert all(numbers(each.leakage_unseen)[1] > 0.6 and numbers(each.leakage_seen)[1] > 0.6 for each in found)
        assert all(numbers(each.leakage_auc)[0] > 0.9 for each in found)
    else:
        for name in ("leakage_unseen", "leakage_seen", "leakage_raw"):
            assert mean_is([each.figures[name].value for each in found], 0.0), name


def mixed(train: dict[str, float], val: dict[str, float], seed: int) -> np.ndarray:
    """Train rows of one code, val rows of another, with the same accent directions."""
    seen, unseen = (make_code(TABLE, accent=1.0, seed=seed, **amplitudes) for amplitudes in (train, val))  # type: ignore[arg-type]
    return np.where((TABLE["split"] == "train").to_numpy()[:, None], seen, unseen)


def test_hiding_train_speakers_only_shows_in_unseen() -> None:
    found = [evaluate(mixed({}, {"speaker": 1.0}, seed), TABLE, FAST, seed) for seed in range(SEEDS)]
    assert holding([each.leakage_seen for each in found]) >= binom.ppf(0.001, SEEDS, 0.95)
    assert mean_is([each.leakage_seen.value for each in found], 0.0)
    assert all(numbers(each.leakage_unseen)[1] > 0.5 for each in found)
    assert all(each.leakage.value == each.leakage_unseen.value for each in found)


def test_leak_of_train_speakers_only_shows_in_seen() -> None:
    protocol = Protocol(text_drop=False, bootstrap=500, c_grid=(0.1,), permutations=0, held_fold=1)
    found = [evaluate(mixed({"speaker": 1.0}, {}, seed), TABLE, protocol, seed) for seed in range(SEEDS)]
    assert holding([each.leakage_unseen for each in found]) >= binom.ppf(0.001, SEEDS, 0.95)
    assert mean_is([each.leakage_unseen.value for each in found], 0.0)
    assert all(numbers(each.leakage_seen)[1] > 0.4 for each in found)
    assert all(each.leakage.value == each.leakage_seen.value for each in found)


def test_held_fold_is_what_seen_is_scored_on() -> None:
    """Speakers that are visible only outside the held fold do not leak into it; cross-fitting without a held fold sees them."""
    outside = (TABLE["fold"] != 0).to_numpy()
    held, crossed = [], []
    for seed in range(10):
        code = make_code(TABLE, accent=1.0, seed=seed)
        code[outside] = make_code(TABLE, accent=1.0, speaker=1.5, seed=seed)[outside]
        protocols = (Protocol(text_drop=False, c_grid=(0.1,), permutations=0, held_fold=fold) for fold in (0, None))
        one, every = (evaluate(code, TABLE, protocol, seed).leakage_seen for protocol in protocols)
        held.append(one.value)
        crossed.append(numbers(every)[1])
    assert mean_is(held, 0.0)
    assert min(crossed) > 0.2


def sides(found: Evaluation) -> tuple[float, float]:
    """Macro-F1 with the texts allowed in training, and with them removed."""
    accents = np.asarray([found.speakers.accent[name] for name in found.speakers.texts])
    rows = np.asarray(list(found.speakers.texts.values()))
    return float(macro_f1(Confusions(rows[:, 0], accents).matrix())[0]), float(
        macro_f1(Confusions(rows[:, 1], accents).matrix())[0]
    )


TEXTS = Protocol(bootstrap=500, c_grid=(0.1,), permutations=0)


def test_text_drop_finds_a_text_driven_code() -> None:
    """A text that was not heard has a direction of its own in each accent: with the texts removed F1 is at 1/3, with them allowed far above."""
    found = [evaluate(make_text_driven(TABLE, seed=seed), TABLE, TEXTS, seed) for seed in range(20)]
    assert mean_is([sides(each)[1] for each in found], 1 / 3)
    assert all(sides(each)[0] > 0.75 for each in found)
    assert all(numbers(each.text_drop)[1] > 0.2 for each in found)


def test_no_text_in_the_code_is_no_text_drop() -> None:
    """Every probe scores a third of the texts as removed, and the rest as allowed: the two sides have the same mean, probe by probe."""
    found = [
        evaluate(make_code(TABLE, accent=0.5, speaker=0.2, seed=seed), TABLE, TEXTS, seed).text_drop for seed in range(SEEDS)
    ]
    assert mean_is([figure.value for figure in found], 0.0)
    assert holding(found) >= binom.ppf(0.001, SEEDS, 0.95)


def test_text_that_is_only_in_the_way_is_a_text_drop_too() -> None:
    """Text and accent are independent in this code, but a probe learns to ignore only the texts that it has heard: F1 does fall without them."""
    code = [make_code(TABLE, accent=0.5, speaker=0.2, text=1.0, seed=seed) for seed in range(10)]
    found = [evaluate(each, TABLE, TEXTS).text_drop for each in code]
    values = np.asarray([figure.value for figure in found], dtype=np.float64)
    assert values.mean() > 4 * values.std(ddof=1) / np.sqrt(len(values))


def test_text_drop_is_null_with_a_reason() -> None:
    table = make_table()
    code = make_code(table, accent=1.0)
    assert evaluate(code, table.assign(text_id=None), Protocol(intervals=False)).text_drop == Figure(
        None, reason="the utterances have no text_id"
    )
    own = evaluate(code, table.assign(text_id=table["utt_id"]), Protocol(intervals=False)).text_drop
    assert own.value is None
    assert own.reason is not None
    assert "not shared" in own.reason
    assert evaluate(code, table, Protocol(text_drop=False, intervals=False)).text_drop.reason == "not asked for"


def test_imbalanced_accents_have_their_own_chance() -> None:
    drop = TABLE["speaker"].str[3].isin(list("34789")) & (TABLE["accent"] == "accent2") & (TABLE["split"] == "train")
    drop |= TABLE["speaker"].isin(["a2s12", "a2s13", "a2s14"])
    table = TABLE[~drop].reset_index(drop=True)
    found = evaluate(make_code(table, accent=1.0), table)
    assert found.accent_f1.p is not None
    assert found.accent_f1.p < 0.01
    assert found.used.speakers == 2  # the largest M that every gate accent has
    assert found.speakers_per_accent == 2
    corrected = found.accent_f1.corrected
    assert corrected is not None
    assert 0 < corrected <= numbers(found.accent_f1)[0]
    constant = evaluate(np.zeros((len(table), 2)), table).accent_f1
    share = 5 / 12  # of the one class that is given to every utterance: its precision, beside a recall of 1
    assert constant.value == pytest.approx(2 * share / (1 + share) / 3)
    assert constant.chance == pytest.approx(constant.value)
    assert constant.corrected == pytest.approx(0, abs=1e-12)
    assert constant.p == 1.0


def test_chance_without_permutations_is_the_mean_over_all_of_them() -> None:
    """With equally many utterances per speaker rows and columns keep their sums, so that F1 is linear in the hits, whose mean is row · column / total."""
    accent = np.array([0, 0, 0, 1, 1, 2])
    predicted = np.random.default_rng(0).multinomial(12, [0.5, 0.3, 0.2], size=6).astype(np.float64)
    every = [macro_f1(Confusions(predicted, np.asarray(order)).matrix())[0] for order in set(permutations(accent.tolist()))]
    seeds = np.random.SeedSequence(0), np.random.SeedSequence(1)
    quick = accent_figures(Confusions(predicted, accent), Protocol(permutations=0, intervals=False), seeds)[0]
    assert quick.chance == pytest.approx(np.mean(every))
    drawn = accent_figures(Confusions(predicted, accent), Protocol(permutations=999, intervals=False), seeds)[0]
    assert drawn.chance == pytest.approx(np.mean(every), abs=4 * np.std(every) / np.sqrt(999))
    share = np.mean(np.asarray(every) >= float(drawn.value or 0.0) - 1e-12)
    assert drawn.p == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 999) + 1 / 1000)


def test_two_speakers_per_accent() -> None:
    table = make_table(accents=5, train=2, val=2)
    found = evaluate(make_code(table, accent=1.0, speaker=1.0), table)
    assert found.used.speakers == 2
    assert numbers(found.leakage_unseen)[0] > 0.35
    assert found.leakage_raw_ceiling.value == pytest.approx(4 / 10)


def test_an_accent_that_is_missing_in_val_is_secondary() -> None:
    table = make_table()
    table = table[~((table["accent"] == "accent1") & (table["split"] == "val"))].reset_index(drop=True)
    found = evaluate(make_code(table, accent=1.0), table)
    assert found.gate_accents == ("accent0", "accent2")
    assert found.secondary_accents == ("accent1",)
    assert np.shape(found.confusion) == (2, 2)


def test_the_test_split_is_not_read_unless_asked_for() -> None:
    table = make_table(test=5)
    code = make_code(table, accent=1.0, speaker=0.5)
    test = (table["split"] == "test").to_numpy()
    spoiled = np.where(test[:, None], np.nan, code)
    without: Evaluation = evaluate(code[~test], table[~test])
    assert evaluate(spoiled, table) == evaluate(code, table) == without
    assert evaluate(code, table, Protocol(score_split="test")) != without


def test_sampling_of_speakers_and_utterances() -> None:
    table = make_table(val=6)
    code = make_code(table, accent=0.5, speaker=0.5)
    few = evaluate(code, table, Protocol(speakers=3, utterances=6, draws=4))
    assert (few.used.speakers, few.used.utterances, few.used.utterances_most, few.used.draws) == (3, 6, 6, 4)
    assert evaluate(code, table, Protocol(speakers=3, utterances=6, draws=4), seed=1).leakage_unseen != few.leakage_unseen
    every = evaluate(code, table, Protocol(speakers=50, utterances=50))
    assert (every.used.speakers, every.used.utterances) == (6, 12)
    assert evaluate(code, table, Protocol(speakers=50)).leakage_unseen.value == every.leakage_unseen.value


def test_gap_rows_belong_to_no_speaker_probe() -> None:
    table = make_table()
    gap = table["utt_id"].str.endswith("u05")
    code = make_code(table, accent=1.0, speaker=0.6)
    marked = table.assign(fold=table["fold"].where(~gap, -1))
    without = evaluate(code[~gap.to_numpy()], table[~gap], Protocol(text_drop=False))
    with_gap = evaluate(code, marked, Protocol(text_drop=False))
    assert with_gap.leakage_unseen == without.leakage_unseen
    assert with_gap.leakage_raw == without.leakage_raw
    assert with_gap.used == without.used


def test_two_folds_and_many_folds() -> None:
    for folds in (2, 6):
        table = make_table(folds=folds)
        found = evaluate(make_code(table, accent=1.0, speaker=1.0), table, Protocol(held_fold=0))
        assert numbers(found.leakage)[0] > 0.4


def test_constant_code_is_exactly_at_chance() -> None:
    table = make_table()
    found = evaluate(np.zeros((len(table), 4)), table)
    assert found.leakage_unseen.value == pytest.approx(0.0, abs=1e-12)
    assert found.leakage_raw.value == pytest.approx(0.0, abs=1e-12)
    assert found.leakage_auc.value == 0.5
    assert found.accent_balanced_accuracy.value == pytest.approx(1 / 3)
    assert found.text_drop.value == 0.0
