"""Everything that a paper run writes for people: equal results give equal bytes, so that `--verify` can make the tables again.

tables/<name>.csv, .tex, .md    exact values; booktabs; Markdown.  tables/tables.tex holds them all
figures/<name>.pdf, .png
report.md, report.html, checklist.md, control.csv, environment.json, hashes.json, commands.txt
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tune_accent.base.files import make_folder, write_bytes, write_folder
from tune_accent.paper.arms import Measured, measure
from tune_accent.paper.bundle import bundle
from tune_accent.paper.checklist import checklist
from tune_accent.paper.figures import paper_figures
from tune_accent.paper.report import report_page
from tune_accent.paper.results import PaperResults
from tune_accent.paper.sheets import paper_sheets
from tune_accent.reporting.figures import Picture
from tune_accent.reporting.latex import document, sheet_latex
from tune_accent.reporting.page import to_html, to_markdown
from tune_accent.reporting.tables import Sheet, sheet_markdown, to_csv

__all__ = ["bundle", "figure_files", "page_files", "table_files", "write_outputs"]
TABLES, FIGURES = "tables", "figures"


def write_outputs(results: PaperResults, folder: Path) -> None:
    """Write all outputs into `folder`; tables and figures of an earlier run do not stay.

    Args:
        results: what to write.
        folder: `<root>/paper`; other files in it are left alone.
    """
    measured = measure(results)
    sheets, pictures = paper_sheets(measured), paper_figures(measured)
    _write_all(folder / TABLES, table_files(results, sheets))
    _write_all(folder / FIGURES, figure_files(pictures))
    make_folder(folder)
    for name, content in page_files(measured, sheets, pictures).items():
        write_bytes(folder / name, content)


def table_files(results: PaperResults, sheets: Mapping[str, Sheet] | None = None) -> dict[str, bytes]:
    """Files of `tables/` by name: what they must be for these results.

    Args:
        results: of the run.
        sheets: its tables, where they are made already.
    """
    every = paper_sheets(measure(results)) if sheets is None else sheets
    files: dict[str, str] = {}
    for name, sheet in every.items():
        files |= {f"{name}.csv": to_csv(sheet.records), f"{name}.tex": sheet_latex(sheet), f"{name}.md": sheet_markdown(sheet)}
    files["tables.tex"] = document(f"Paper run of {results.name}", list(every.values()))
    return {name: text.encode() for name, text in sorted(files.items())}


def figure_files(pictures: Mapping[str, Picture]) -> dict[str, bytes]:
    """Files of `figures/` by name."""
    return {f"{name}.{kind}": getattr(picture, kind) for name, picture in pictures.items() for kind in ("pdf", "png")}


def page_files(measured: Measured, sheets: Mapping[str, Sheet], pictures: Mapping[str, Picture]) -> dict[str, bytes]:
    """The files beside the two folders, by name."""
    results, page = measured.results, report_page(measured, sheets, pictures)
    files = {
        "report.md": to_markdown(page),
        "report.html": to_html(page),
        "checklist.md": checklist(measured),
        "environment.json": _json(results.environment),
        "hashes.json": _json(results.hashes),
        "commands.txt": "".join(f"{command}\n" for command in results.commands),
    }
    if results.control is not None:
        files["control.csv"] = to_csv(results.control.rows)
    return {name: text.encode() for name, text in files.items()}


def _write_all(folder: Path, files: Mapping[str, bytes]) -> None:
    def fill(empty: Path) -> None:
        for name, content in files.items():
            (empty / name).write_bytes(content)

    write_folder(folder, fill)


def _json(value: Mapping[str, Any]) -> str:
    """As `write_json` writes it."""
    return json.dumps(dict(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
