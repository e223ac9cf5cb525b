"""Turn the winner of a search into something that a reviewer can check; the same command again continues, or prints the result.

python -m tune_accent.rerun ray_results/lora
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tune_accent.base.entry import INTERRUPTED, guarded, same_command
from tune_accent.base.errors import UserError

FOUND_FAULTS = 1
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def main(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="results folder of a finished search, such as ray_results/lora")],
    config: Annotated[
        Path | None, typer.Option(help="take the sections `paper` and `record` from this experiment file; default: the search's")
    ] = None,
    reopen: Annotated[
        str | None, typer.Option(help="open the test split once more, for this reason; it is printed in every table")
    ] = None,
    max_hours: Annotated[
        float | None, typer.Option(help="stop training after this many hours; the same command continues")
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="check every hash and number of the folder; trains nothing")] = False,
) -> None:
    """Select on new seeds, re-run the winner deterministically, open the test split once, write paper/. The same command continues."""
    with guarded():
        if reopen is not None and not reopen.strip():
            raise UserError("the reason is empty", "--reopen", 'say why, e.g. --reopen "split of speaker 7 corrected"')
        if max_hours is not None and not max_hours > 0:
            raise UserError(f"must be above 0, got {max_hours:g}", "--max-hours", "e.g. --max-hours 8")
        if verify:
            _verify(folder)
        else:
            _rerun(folder, config, reopen, max_hours, same_command("tune_accent.rerun", _arguments(context)))


def _arguments(context: typer.Context) -> list[str]:
    return sys.argv[2:] if context.parent else sys.argv[1:]


def _verify(folder: Path) -> None:
    from tune_accent.paper.verify import verify

    faults, checked = verify(folder)
    for fault in faults:
        sys.stdout.write(f"{fault}\n")
    if faults:
        sys.stdout.write(f"{len(faults)} faults in {folder}\n")
        raise SystemExit(FOUND_FAULTS)
    sys.stdout.write(f"{folder}: {checked}\n")


def _rerun(folder: Path, config: Path | None, reopen: str | None, max_hours: float | None, again: str) -> None:
    from tune_accent.paper.run import Request, run_paper
    from tune_accent.paper.train import OutOfTime
    from tune_accent.paper.words import closing_words

    request = Request(folder, config, reopen, max_hours, again)
    try:
        results = run_paper(request)
    except KeyboardInterrupt:
        sys.stderr.write(f"\ninterrupted; every finished epoch and measurement is kept. To continue:\n  {again}\n")
        raise SystemExit(INTERRUPTED) from None
    except OutOfTime:
        sys.stdout.write(f"Stopped by --max-hours; nothing finished is lost. To continue:\n  {again}\n")
        return
    sys.stdout.write(closing_words(folder, results))


if __name__ == "__main__":
    app()
