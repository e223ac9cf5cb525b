r"""Tables as LaTeX: booktabs files for `\input`, and a document that holds them all.

Every text is escaped, whatever it holds. Latin letters with accents stay UTF-8; symbols become commands, so that pdfTeX, XeTeX and LuaTeX set
the same; a letter of a script that the fonts do not have is written as its code point.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from tune_accent.base.errors import visible
from tune_accent.reporting.tables import Sheet, is_number

PREAMBLE = r"""\documentclass{article}
\usepackage[a4paper,landscape,margin=18mm]{geometry}
\usepackage{iftex}
\ifPDFTeX
  \usepackage[utf8]{inputenc}
  \usepackage[T1]{fontenc}
  \usepackage{textcomp}
  \IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}
\fi
\usepackage{booktabs}
\usepackage{graphicx}
"""
ROWS = 30  # of one table environment: a landscape page
# Latin-1 and Latin Extended-A as far as the T1 encoding has them
LETTERS = frozenset(
    "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõöøùúûüýþÿĂăĄąĆćČčĎďĐđĘęĚěĞğİıĹĺĽľŁłŃńŇňŐőŒœŔŕŘřŚśŞşŠšŢţŤťŮůŰűŸŹźŻżŽž"
)
COMMANDS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "%": r"\%",
    "&": r"\&",
    "_": r"\_",
    "#": r"\#",
    "$": r"\$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    "[": "{[}",  # after \\ it would begin an optional argument
    "]": "{]}",
    "*": "{*}",  # the same
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "‘": r"\textquoteleft{}",
    "’": r"\textquoteright{}",
    "“": r"\textquotedblleft{}",
    "”": r"\textquotedblright{}",
    "…": r"\ldots{}",
    "§": r"\S{}",
    "°": r"\textdegree{}",
    "ª": r"\textordfeminine{}",
    "º": r"\textordmasculine{}",
    "·": r"$\cdot$",
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≠": r"$\neq$",
    "→": r"$\rightarrow$",
    "↓": r"$\downarrow$",
    "∅": r"$\emptyset$",
    "Δ": r"$\Delta$",
    "β": r"$\beta$",
    "κ": r"$\kappa$",
    "λ": r"$\lambda$",
    "σ": r"$\sigma$",
    "τ": r"$\tau$",
    "²": "$^{2}$",
}


def escape_latex(text: str) -> str:
    """`text` as one line that LaTeX shows as it is."""
    plain = " ".join(visible(unicodedata.normalize("NFC", text)).split())
    return "".join(map(_letter, plain))


def sheet_latex(sheet: Sheet) -> str:
    r"""`table` environments for `\input`: caption, booktabs rows, notes.

    A table that is wider than the line is shrunk to it; one of more than `ROWS` rows goes on in the next environment.
    """
    table = sheet.table
    starts = range(0, max(len(table.rows), 1), ROWS)
    return "".join(_environment(sheet, start, start == starts[-1]) for start in starts)


def _environment(sheet: Sheet, start: int, last: bool) -> str:
    table = sheet.table
    columns = "".join("r" if right else "l" for right in table.right)
    rows = [_row(row, start + place in table.marked) for place, row in enumerate(table.rows[start : start + ROWS])]
    notes = [rf"\par\smallskip{{\footnotesize {escape_latex(note)}\par}}" for note in sheet.notes] if last else []
    label = [] if start else [rf"\label{{tab:{re.sub('[^A-Za-z0-9]', '-', sheet.name)}}}"]
    lines = [
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{escape_latex(table.caption)}{' (continued)' if start else ''}}}",
        *label,
        r"\resizebox{\ifdim\width>\linewidth \linewidth\else \width\fi}{!}{%",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _row(table.columns),
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}}",
        *notes,
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def document(title: str, sheets: Sequence[Sheet]) -> str:
    r"""A document that inputs `<name>.tex` of every sheet; compile it in the folder that holds them."""
    body = "".join(f"\\input{{{sheet.name}.tex}}\n\\clearpage\n" for sheet in sheets)
    return f"{PREAMBLE}\\begin{{document}}\n\\section*{{{escape_latex(title)}}}\n{body}\\end{{document}}\n"


def _row(cells: Sequence[str], marked: bool = False) -> str:
    shown = [_cell(cell) for cell in cells]
    return " & ".join(rf"\textbf{{{cell}}}" if marked and cell else cell for cell in shown) + r" \\"


def _cell(text: str) -> str:
    """A cell; the hyphens of a number are minus signs."""
    return escape_latex(text.replace("-", "−") if is_number(text) else text)


def _letter(letter: str) -> str:
    if letter in COMMANDS:
        return COMMANDS[letter]
    if letter.isascii() or letter in LETTERS:
        return letter
    return rf"\texttt{{U+{ord(letter):04X}}}"
