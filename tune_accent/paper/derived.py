"""The outputs of a paper run made again from its records, beside the files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tune_accent.base.errors import DataError
from tune_accent.paper.arms import measure
from tune_accent.paper.assemble import FOLDER, Base, assemble
from tune_accent.paper.checksums import Fault
from tune_accent.paper.figures import paper_figures
from tune_accent.paper.outputs import TABLES, page_files, table_files
from tune_accent.paper.recorded import recorded_search, replay
from tune_accent.paper.sheets import paper_sheets
from tune_accent.paper.stored import read_run

DRAWN = ("report.html",)  # holds pictures, whose bytes depend on the version of matplotlib and its fonts


def output_faults(root: Path) -> Iterator[Fault]:
    """Tables, report and checklist that are not what the records come to; files are named relative to `paper/`.

    Pictures are covered by the folder's seal alone.
    """
    folder = root / FOLDER
    try:
        run = read_run(folder)
        if run is None:
            yield Fault("run.json", "is missing")
            return
        search, spec = recorded_search(root)
        base = Base(search, spec, replay(search, spec), run.applied(search.experiment))
        measured = measure(assemble(base, run))
    except DataError as error:
        yield Fault(str(error.where), error.what)
        return
    sheets = paper_sheets(measured)
    pages = page_files(measured, sheets, paper_figures(measured))
    expected = {f"{TABLES}/{name}": content for name, content in table_files(measured.results, sheets).items()}
    expected |= {name: content for name, content in pages.items() if name not in DRAWN}
    for name, content in expected.items():
        found = (folder / name).read_bytes() if (folder / name).is_file() else None
        if found != content:
            yield Fault(name, "is missing" if found is None else "is not what the records come to")
