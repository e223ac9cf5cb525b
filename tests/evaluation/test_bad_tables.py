"""Each thing that is wrong with the input is one error that names it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.evaluation.simulated_codes import make_code, make_table
from tune_accent.base.errors import DataError
from tune_accent.evaluation import Protocol, evaluate


def refused(table: pd.DataFrame, *words: str, protocol: Protocol | None = None, code: np.ndarray | None = None) -> None:
    with pytest.raises(DataError) as caught:
        evaluate(np.ones((len(table), 3)) if code is None else code, table, protocol or Protocol())
    for word in words:
        assert word in str(caught.value)
    assert caught.value.fix


def test_rows_that_are_not_finite_are_named() -> None:
    table = make_table()
    for value in (np.nan, np.inf):
        code = make_code(table)
        code[3, 1] = value
        refused(table, "a0s00u03", "NaN", "may have diverged", "broken", code=code)


def test_shapes_and_columns() -> None:
    table = make_table()
    refused(table, "shape", code=np.ones((3, 4)))
    refused(table, "shape", code=np.ones(len(table)))
    refused(table, "shape", code=np.ones((len(table), 0)))
    refused(table.drop(columns=["fold", "split"]), "split, fold")
    refused(table.assign(speaker=table["speaker"].where(table.index != 5)), "a0s00u05", "speaker")
    refused(table.assign(split="dev"), "dev", "train, val, test")
    refused(table.assign(utt_id="same"), "'same'", "twice")
    refused(table.iloc[:0], "at least 2")


def test_one_class() -> None:
    refused(make_table(accents=1), "accent0", "at least 2")
    table = make_table(accents=2)
    refused(table[(table["accent"] == "accent0") | (table["split"] == "train")], "accent1 (10 train, 0 val)")


def test_a_speaker_with_two_accents() -> None:
    table = make_table()
    table.loc[table["utt_id"] == "a0s03u00", "accent"] = "accent2"
    refused(table, "'a0s03'", "'accent0', 'accent2'")


def test_a_speaker_in_two_splits() -> None:
    table = make_table()
    table.loc[table["utt_id"] == "a1s03u00", "split"] = "val"
    refused(table, "'a1s03'", "'train', 'val'")


def test_a_single_fold() -> None:
    refused(make_table().assign(fold=0), "val rows have 1 fold", "to fit on and to score on")
    table = make_table()
    refused(table.assign(fold=table["fold"].where(table["split"] == "val", 0)), "train rows have 1 fold")
    refused(table.assign(fold=table["fold"].where(table["split"] == "train", -1)), "val rows have 0 fold")


@pytest.mark.parametrize("wrong", ["first", 0.5])
def test_a_fold_that_is_no_number(wrong: str | float) -> None:
    table = make_table().astype({"fold": object})
    table.loc[table["utt_id"] == "a0s03u02", "fold"] = wrong
    refused(table, "'a0s03u02'", f"fold {wrong!r}")


def test_folds_as_read_from_a_file() -> None:
    table = make_table()
    code, fast = make_code(table, accent=1.0), Protocol(intervals=False, permutations=0)
    for folds in (table["fold"].astype(float), table["fold"].astype(str)):
        assert evaluate(code, table.assign(fold=folds), fast) == evaluate(code, table, fast)


def test_leakage_on_a_speaker_disjoint_split_is_refused_with_the_reason() -> None:
    table = make_table()
    refused(table.assign(fold=table["speaker"].str[2:].str[1:].astype(int)), "speaker-disjoint", "chance by construction")
    own = table["fold"].where(table["accent"] != "accent1", table["speaker"].str[3:].astype(int))
    refused(table.assign(fold=own), "'accent1'", "0 val speakers with utterances on both sides")


def test_a_held_fold_that_is_not_there() -> None:
    refused(make_table(), "held fold 9", "[0, 1, 2]", protocol=Protocol(held_fold=9))


def test_an_accent_whose_speakers_cannot_be_probed() -> None:
    table = make_table(val=2)
    table.loc[table["speaker"] == "a1s10", "fold"] = 0
    refused(table, "'accent1'", "1 val speakers")


def test_a_gate_accent_without_speakers() -> None:
    refused(make_table(), "'mars'", "0 speakers in train", protocol=Protocol(gate_accents=("accent0", "mars")))
    refused(make_table(), "at least 2", protocol=Protocol(gate_accents=("accent0",)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"speakers": 1},
        {"utterances": 1},
        {"draws": 0},
        {"bootstrap": 0},
        {"permutations": -1},
        {"c_grid": ()},
        {"c_grid": (1.0, 0.1)},
        {"score_split": "train"},
        {"threads": 0},
    ],
)
def test_protocols_that_make_no_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Protocol(**wrong)  # type: ignore[arg-type]
