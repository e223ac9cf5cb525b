"""Search LoRA rank, alpha, learning rate and leakage weight; the same command again continues an interrupted search.

python -m tune_accent.search search_spaces/lora.yaml
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tune_accent.base.entry import INTERRUPTED, guarded, same_command
from tune_accent.base.errors import UserError

if TYPE_CHECKING:
    from tune_accent.config.load import LoadedExperiment
    from tune_accent.config.space import LoadedSpace
    from tune_accent.tuning.driver import Request

RESULTS = Path("ray_results")
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def main(
    context: typer.Context,
    space: Annotated[Path, typer.Argument(help="search space, a W&B sweep file such as search_spaces/lora.yaml")],
    config: Annotated[Path | None, typer.Option(help="experiment config; default: the one that the space file names")] = None,
    trials: Annotated[int | None, typer.Option(help="total number of trials; default: run_cap of the space file")] = None,
    name: Annotated[str | None, typer.Option(help="results folder below ray_results/; default: the space file's name")] = None,
    max_hours: Annotated[float | None, typer.Option(help="stop after this many hours; the same command continues")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="move an existing results folder aside and start over")] = False,
    accept_environment: Annotated[
        bool, typer.Option("--accept-environment", help="continue with other versions of libraries or tune_accent; recorded")
    ] = False,
    validate: Annotated[bool, typer.Option("--validate", help="check the two files and stop")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show what would run, and stop")] = False,
) -> None:
    """Search the space with Ray Tune, Optuna and ASHA. The same command again continues an interrupted search."""
    with guarded():
        from tune_accent.config.check import load_search

        loaded_space, experiment = load_search(space, config)
        run_cap = total_trials(loaded_space, trials)
        root = RESULTS / folder_name(name or space.stem)
        if max_hours is not None and not max_hours > 0:
            raise UserError(f"must be above 0, got {max_hours:g}", "--max-hours", "e.g. --max-hours 8")
        for note in loaded_space.notes:
            sys.stderr.write(f"note: {note}\n")
        if validate:
            sys.stdout.write(f"{space} and {experiment.path} are fine: {described(loaded_space, experiment, run_cap)}\n")
        elif dry_run:
            _dry_run(loaded_space, experiment, run_cap, root)
        else:
            from tune_accent.tuning.driver import Request

            sys.stderr.write(f"{described(loaded_space, experiment, run_cap)} → {root}\n")
            request = Request(experiment.experiment, loaded_space, run_cap, root, fresh, accept_environment, max_hours)
            _search(request, same_command("tune_accent.search", sys.argv[2:] if context.parent else sys.argv[1:]))


def total_trials(space: LoadedSpace, trials: int | None) -> int:
    """`--trials`, else the file's `run_cap`, else the size of a grid.

    Raises:
        UserError: none of them says a number, or it is below 1.
    """
    if trials is not None and trials < 1:
        raise UserError(f"must be at least 1, got {trials}", "--trials", "it is the total number of trials, e.g. --trials 16")
    total = trials or space.run_cap or (space.space.grid_size if space.method == "grid" else None)
    if total is None:
        raise UserError("nothing says how many trials to run", str(space.path), "add `run_cap: 16`, or give --trials 16")
    return total


def folder_name(name: str) -> str:
    """`name` if it can be one folder below `ray_results/`.

    Raises:
        UserError: it cannot.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise UserError(f"{name!r} cannot name a results folder", "--name", "use letters, digits, `_`, `-` and `.`")
    return name


def described(space: LoadedSpace, experiment: LoadedExperiment, run_cap: int) -> str:
    """The search in one line."""
    searched = ", ".join(parameter.name for parameter in space.space.searched)
    stopping = f"ASHA from epoch {space.min_iter}, eta {space.eta}" if space.min_iter else "no early stopping"
    epochs = experiment.experiment.training.epochs
    return f"{run_cap} trials of {searched} ({space.method}), {epochs} epochs at most, {stopping}"


def _dry_run(space: LoadedSpace, experiment: LoadedExperiment, run_cap: int, root: Path) -> None:
    from tune_accent.tuning.forecast import forecast

    sys.stdout.write(forecast(space, experiment.experiment, run_cap, root))


def _search(request: Request, again: str) -> None:
    from tune_accent.tuning.driver import run_search
    from tune_accent.tuning.summary import closing_words

    outcome = run_search(request)
    sys.stdout.write(closing_words(request, outcome, again))
    if outcome.stopped == "Ctrl-C":
        raise SystemExit(INTERRUPTED)


if __name__ == "__main__":
    app()
