"""What an evaluation says of representations whose content is known."""

from __future__ import annotations

import numpy as np
import pytest

from tests.evaluation.simulated_codes import make_code, make_table, make_text_driven
from tune_accent.evaluation import Evaluation, Figure, Protocol, evaluate


def numbers(figure: Figure) -> tuple[float, float, float]:
    assert figure.value is not None
    assert figure.low is not None
    assert figure.high is not None
    return figure.value, figure.low, figure.high


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_accent_only_code_has_no_leakage_but_raw_delta_sees_its_ceiling(seed: int) -> None:
    table = make_table(utterances=24)
    found = evaluate(make_code(table, accent=2.0, seed=seed), table)
    assert numbers(found.accent_f1)[1] > 0.99
    for figure in (found.leakage_unseen, found.leakage_seen):
        value, low, high = numbers(figure)
        assert abs(value) < 0.07
        assert low - 0.02 <= 0 <= high + 0.02
    ceiling = found.leakage_raw_ceiling.value
    assert ceiling == pytest.approx(2 / 15)
    raw, low, _ = numbers(found.leakage_raw)
    assert raw == pytest.approx(ceiling, abs=0.06)
    assert low > 0.05
    assert numbers(found.leakage_auc)[0] == pytest.approx(0.5, abs=0.03)


def test_interval_of_an_accent_only_code_covers_zero_in_most_draws() -> None:
    table = make_table(train=6)
    fast = Protocol(text_drop=False, bootstrap=500, c_grid=(0.1,))
    covered = 0
    for seed in range(20):
        _, low, high = numbers(evaluate(make_code(table, accent=2.0, dims=8, seed=seed), table, fast, seed).leakage_unseen)
        covered += low <= 0 <= high
    assert covered >= 16


def test_speaker_only_code_leaks_everything_and_knows_little_accent() -> None:
    table = make_table()
    found = evaluate(make_code(table, speaker=2.0), table)
    assert numbers(found.leakage_unseen)[0] > 0.78
    assert numbers(found.leakage_seen)[0] > 0.78
    assert numbers(found.leakage_auc)[0] > 0.99
    assert numbers(found.accent_f1)[0] < 0.65


def test_noise_is_at_chance() -> None:
    table = make_table()
    found = evaluate(make_code(table), table, Protocol(permutations=999))
    value, low, high = numbers(found.accent_f1)
    assert found.accent_f1.chance is not None
    assert found.accent_f1.chance == pytest.approx(1 / 3, abs=0.03)
    assert low <= found.accent_f1.chance <= high
    assert found.accent_f1.p is not None
    assert found.accent_f1.p > 0.05
    assert abs(numbers(found.leakage)[0]) < 0.1
    assert value < 0.45


def test_hiding_train_speakers_only_shows_in_unseen() -> None:
    table = make_table()
    code = make_code(table, accent=1.0, speaker=1.0)
    hidden = make_code(table, accent=1.0)
    train = (table["split"] == "train").to_numpy()
    code[train] = hidden[train]
    found = evaluate(code, table)
    assert abs(numbers(found.leakage_seen)[0]) < 0.08
    assert numbers(found.leakage_unseen)[0] > 0.6
    assert found.leakage.value == found.leakage_unseen.value


def test_leak_of_train_speakers_only_shows_in_seen() -> None:
    table = make_table()
    code = make_code(table, accent=1.0)
    train = (table["split"] == "train").to_numpy()
    code[train] = make_code(table, accent=1.0, speaker=1.0)[train]
    found = evaluate(code, table, Protocol(held_fold=1))
    assert numbers(found.leakage_seen)[0] > 0.5
    assert abs(numbers(found.leakage_unseen)[0]) < 0.08
    assert found.leakage.value == found.leakage_seen.value


def test_held_fold_is_what_seen_is_scored_on() -> None:
    """Speakers that are visible only outside the held fold do not leak into it; cross-fitting without a held fold sees them."""
    table = make_table()
    code = make_code(table, accent=1.0)
    outside = (table["fold"] != 0).to_numpy()
    code[outside] = make_code(table, accent=1.0, speaker=1.5)[outside]
    held = numbers(evaluate(code, table, Protocol(held_fold=0)).leakage_seen)[0]
    crossed = numbers(evaluate(code, table).leakage_seen)[0]
    assert abs(held) < 0.1
    assert crossed > 0.3


def test_text_drop_finds_a_text_driven_code_and_only_that() -> None:
    table = make_table()
    driven, low, _ = numbers(evaluate(make_text_driven(table), table).text_drop)
    assert driven > 0.25
    assert low > 0.1
    honest, low, high = numbers(evaluate(make_code(table, accent=0.5, speaker=0.2, text=0.2), table).text_drop)
    assert abs(honest) < 0.05
    assert low <= 0.02
    assert high >= -0.02


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
    table = make_table()
    drop = table["speaker"].str[3].isin(list("34789")) & (table["accent"] == "accent2") & (table["split"] == "train")
    drop |= table["speaker"].isin(["a2s12", "a2s13", "a2s14"])
    table = table[~drop].reset_index(drop=True)
    found = evaluate(make_code(table, accent=1.0), table, Protocol(permutations=999))
    quick = evaluate(make_code(table, accent=1.0), table, Protocol(intervals=False)).accent_f1
    assert found.accent_f1.chance == pytest.approx(quick.chance, abs=0.03)  # expected confusion instead of permutations
    assert found.accent_f1.p is not None
    assert found.accent_f1.p < 0.01
    assert found.used.speakers == 2  # the largest M that every gate accent has
    assert found.speakers_per_accent == 2
    corrected = found.accent_f1.corrected
    assert corrected is not None
    assert 0 < corrected <= numbers(found.accent_f1)[0]


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
