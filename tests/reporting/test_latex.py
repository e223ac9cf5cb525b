"""Tables as LaTeX: whatever a cell holds, the structure stands; and it compiles where there is an engine."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reporting.latex_structure import check_structure, unescaped
from tune_accent.reporting.latex import ROWS, document, escape_latex, sheet_latex
from tune_accent.reporting.tables import Sheet, Table

ODD = "50% & a_b #1 $x$ {y} ~z ^w \\cmd [0.1, -2] * | \"q\" 'q' `q` São Luís ção ≤ ± λ → ∅ 中 \x07"
ENGINES = ("pdflatex", "xelatex", "lualatex", "tectonic")


def sheet(*cells: str, marked: bool = False) -> Sheet:
    """A table of one row."""
    head = tuple(f"{cell}" for cell in cells)
    return Sheet(
        "odd_1", Table(head, (cells,), "Caption " + cells[0], frozenset({0}) if marked else frozenset()), ({"a": 1},), cells
    )


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("a_b 50% & #1", r"a\_b 50\% \& \#1"),
        ("{x}^2 ~ $", r"\{x\}\textasciicircum{}2 \textasciitilde{} \$"),
        ("\\input", r"\textbackslash{}input"),
        ("São Tomé", "São Tomé"),
        ("Sa\u0303o", "São"),  # decomposed
        ("λ ≤ 1 ± 0", r"$\lambda$ $\leq$ 1 $\pm$ 0"),
        ("[1]*", "{[}1{]}{*}"),
        ("中", r"\texttt{U+4E2D}"),
        ("a\nb\x07", r"a b\textbackslash{}x07"),
    ],
)
def test_texts_are_shown_as_they_are(text: str, latex: str) -> None:
    assert escape_latex(text) == latex


def test_a_table_has_rules_a_caption_and_notes() -> None:
    found = sheet_latex(sheet("São Paulo", "-0.050 [-0.10, +0.02]", marked=True))
    assert r"\begin{tabular}{lr}" in found
    assert r"\textbf{São Paulo} & \textbf{$-$0.050 {[}$-$0.10, +0.02{]}} \\" in found
    assert [found.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    assert r"\caption{Caption São Paulo}" in found
    assert r"\label{tab:odd-1}" in found
    assert found.count(r"\footnotesize") == 2


def test_a_long_table_goes_on_in_the_next_environment() -> None:
    rows = tuple((str(number), "a") for number in range(2 * ROWS + 1))
    found = sheet_latex(Sheet("long", Table(("n", "x"), rows, "Many", frozenset({ROWS})), (), ("Note.",)))
    check_structure(found, columns=2)
    assert found.count(r"\begin{table}") == 3
    assert found.count("(continued)") == 2
    assert found.count(r"\label{") == found.count("Note.") == 1
    assert [line for line in found.splitlines() if r"\textbf" in line] == [rf"\textbf{{{ROWS}}} & \textbf{{a}} \\"]
    numbers = [int(row) for row in re.findall(r"^(?:\\textbf\{)?(\d+)\}? &", found, re.M)]
    assert numbers == list(range(2 * ROWS + 1))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=20), min_size=3, max_size=3), st.booleans())
def test_no_text_breaks_the_structure(cells: list[str], marked: bool) -> None:
    check_structure(sheet_latex(sheet(*cells, marked=marked)), columns=3)


@pytest.mark.parametrize("broken", ["{", "a & b", r"\begin{x}", "50%"])
def test_the_structural_check_can_fail(broken: str) -> None:
    whole = sheet_latex(sheet("one", "two"))
    with pytest.raises(AssertionError):
        check_structure(whole.replace("one & two", f"{broken} & two"), columns=2)


def test_every_sheet_is_in_the_document() -> None:
    found = document(ODD, [sheet("a"), Sheet("two", Table(("a",), ()), ())])
    assert re.findall(r"\\input\{(.*?)\}", found) == ["odd_1.tex", "two.tex"]
    assert Counter(re.findall(r"\\(begin|end)\{document\}", found)) == {"begin": 1, "end": 1}
    assert unescaped(found, "{") == unescaped(found, "}")


@pytest.mark.skipif(not any(map(shutil.which, ENGINES)), reason="no TeX engine on the PATH")
def test_it_compiles(tmp_path: Path) -> None:
    every = [sheet(ODD, "-0.050 [-0.10, +0.02]", "*", "[x]", marked=True)]
    (tmp_path / "odd_1.tex").write_text(sheet_latex(every[0]), encoding="utf-8")
    (tmp_path / "tables.tex").write_text(document(ODD, every), encoding="utf-8")
    engine = next(engine for engine in ENGINES if shutil.which(engine))
    options = [] if engine == "tectonic" else ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run([engine, *options, "tables.tex"], cwd=tmp_path, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "tables.pdf").stat().st_size > 1000
