"""Make the report of a search anew, from its results folder alone.

python -m tune_accent.report ray_results/lora
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tune_accent.base.entry import guarded

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def main(folder: Annotated[Path, typer.Argument(help="results folder of a search, such as ray_results/lora")]) -> None:
    """Write report/index.html: the best trial and its verdict, figures, every trial, the comparison. Nothing is trained or measured."""
    with guarded():
        from tune_accent.tuning.search_report import write_search_report

        sys.stdout.write(f"{write_search_report(folder)}\n")


if __name__ == "__main__":
    app()
