"""Numbers as text, and the three forms of a table."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_accent.evaluation import Figure
from tune_accent.reporting.tables import Table, escape_markdown, interval, number, to_csv, to_markdown, to_text

TABLE = Table(("sotaque", "F1"), (("São Paulo", "0.612 [0.50, 0.71]"), ("Pará", "–")), "Região", frozenset({1}))


@pytest.mark.parametrize(
    ("value", "signed", "shown"),
    [(0.6421, False, "0.642"), (0.07, True, "+0.070"), (-0.0001, True, "+0.000"), (-0.0001, False, "0.000"), (None, True, "–")],
)
def test_a_number_has_three_digits_and_no_negative_zero(value: float | None, signed: bool, shown: str) -> None:
    assert number(value, signed=signed) == shown


def test_an_interval_is_shown_where_there_is_one() -> None:
    assert interval(Figure(0.5, 0.25, 0.75)) == "0.500 [0.25, 0.75]"
    assert interval(Figure(-0.5, -0.75, 0.0), signed=True) == "-0.500 [-0.75, +0.00]"
    assert interval(Figure(0.5)) == "0.500"
    assert interval(Figure(None, reason="texts are not shared")) == "–"


def test_columns_of_numbers_are_aligned_to_the_right() -> None:
    assert TABLE.right == (False, True)
    assert Table(("S",), (("",), ("",))).right == (False,)
    assert Table(("n",), (("12",), ("",))).right == (True,)
    assert Table(("n",), ()).right == (False,)


def test_a_row_has_a_cell_per_column() -> None:
    with pytest.raises(ValueError, match="a row has 1 cells, the table 2 columns"):
        Table(("a", "b"), (("1",),))


def test_the_terminal_gets_columns_and_a_star() -> None:
    assert to_text(TABLE) == (
        "  sotaque                    F1\n  São Paulo  0.612 [0.50, 0.71]\n* Pará                        –\n"
    )


def test_markdown_aligns_and_marks() -> None:
    assert to_markdown(TABLE).splitlines() == [
        "Região",
        "",
        "| sotaque | F1 |",
        "| --- | ---: |",
        "| São Paulo | 0.612 \\[0.50, 0.71\\] |",
        "| **Pará** | **–** |",
    ]


def test_csv_reads_back_exactly() -> None:
    rows = [{"name": 'a,"b"\nç', "f1": 0.1 + 0.2, "p": None}, {"name": "c", "f1": 1e-17, "p": 1}]
    back = list(csv.DictReader(io.StringIO(to_csv(rows))))
    assert [(row["name"], float(row["f1"]), row["p"]) for row in back] == [('a,"b"\nç', 0.1 + 0.2, ""), ("c", 1e-17, "1")]
    assert to_csv([]) == ""


@given(st.text())
def test_no_text_acts_in_markdown(text: str) -> None:
    shown = escape_markdown(text)
    assert "<" not in shown and ">" not in shown and "\n" not in shown
    bare = shown
    for pair in ("\\\\", "\\|", "\\`", "\\*", "\\[", "\\]", "\\~", "\\_"):
        bare = bare.replace(pair, "")
    assert not set(bare) & set("|`*[]~")


def test_a_name_stays_readable_in_markdown() -> None:
    assert escape_markdown("decoder_block_08 (k = 9)") == "decoder_block_08 (k = 9)"
    assert escape_markdown("_a_ <b> & c|d") == "\\_a\\_ &lt;b&gt; &amp; c\\|d"
