"""Set a search beside others of the same space: other engines run here, other results folders, W&B sweeps.

python -m tune_accent.compare ray_results/lora --with engine:random --with engine:wandb-bayes --repeats 6
python -m tune_accent.compare ray_results/lora --with entity/project/id
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tune_accent.base.entry import INTERRUPTED, guarded, same_command
from tune_accent.base.errors import UserError

PARTS = ("space", "metric", "data", "code")
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def main(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="results folder of a search, such as ray_results/lora")],
    target: Annotated[
        list[str],
        typer.Option(
            "--with",
            help="what to set beside it: a results folder, a folder of offline W&B runs, a sweep entity/project/id, "
            "engine:random, engine:wandb-bayes, engine:wandb-random, engine:own; may be given more than once",
        ),
    ],
    repeats: Annotated[int, typer.Option(help="searches per engine that is run here, and of this search itself")] = 1,
    ignore: Annotated[
        list[str] | None, typer.Option(help="compare although this differs: space, metric, data or code; every figure says so")
    ] = None,
    threshold: Annotated[
        list[float] | None, typer.Option(help="a score whose time to reach is shown; may be given more than once")
    ] = None,
    sweeps: Annotated[
        Path, typer.Option(help="where W&B's engine is: pip install --no-deps --target .sweeps sweeps==0.3.0 jsonref==1.1.0")
    ] = Path(".sweeps"),
) -> None:
    """Compare searches of one space by score, cost, wasted work and repeats. The same command continues an interrupted one."""
    with guarded():
        if repeats < 1:
            raise UserError(f"must be at least 1, got {repeats}", "--repeats", "6 are the fewest that can tell engines apart")
        unknown = sorted(set(ignore or ()) - set(PARTS))
        if unknown:
            raise UserError(f"{unknown[0]!r} is nothing that can be ignored", "--ignore", f"one of {', '.join(PARTS)}")
        _compare(
            folder,
            tuple(target),
            repeats,
            tuple(ignore or ()),
            tuple(threshold or ()),
            sweeps,
            same_command("tune_accent.compare", _arguments(context)),
        )


def _arguments(context: typer.Context) -> list[str]:
    return sys.argv[2:] if context.parent else sys.argv[1:]


def _compare(
    folder: Path,
    targets: tuple[str, ...],
    repeats: int,
    ignore: tuple[str, ...],
    thresholds: tuple[float, ...],
    sweeps: Path,
    again: str,
) -> None:
    from tune_accent.comparing.report import summary
    from tune_accent.comparing.run import Request, run_comparison

    try:
        found, written = run_comparison(Request(folder, targets, repeats, frozenset(ignore), thresholds, sweeps))
    except KeyboardInterrupt:
        sys.stderr.write(f"\ninterrupted; every finished epoch is kept. To continue:\n  {again}\n")
        raise SystemExit(INTERRUPTED) from None
    sys.stdout.write(summary(found, written))


if __name__ == "__main__":
    app()
