"""Train one configuration of the space; the program that a W&B agent starts.

python -m tune_accent.trial --config=configs/demo.yaml --lora_rank=8 --lr=0.003 --leakage_weight=1
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tune_accent.base.entry import guarded
from tune_accent.base.errors import UserError

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
ANY_PARAMETER = {"allow_extra_args": True, "ignore_unknown_options": True}
USAGE = "write --NAME=VALUE, NAME being lora_rank, lora_alpha, lora_alpha_ratio, lr, leakage_weight or a dotted key of the config"


@app.command(context_settings=ANY_PARAMETER)
def main(
    context: typer.Context,
    config: Annotated[Path, typer.Option(help="experiment config")] = Path("configs/demo.yaml"),
    out: Annotated[Path | None, typer.Option(help="folder for the checkpoint of every epoch")] = None,
) -> None:
    """Train one configuration and print a JSON line per epoch. Parameters are given as --NAME=VALUE, e.g. --lora_rank=8."""
    with guarded():
        _run(config, parameters(context.args), out)


def parameters(arguments: Sequence[str]) -> dict[str, Any]:
    """`["--lr=0.003", ...]` → values, read as YAML scalars.

    Raises:
        UserError: an argument is not `--NAME=VALUE`, or a name comes twice.
    """
    from tune_accent.config.load import parse_value

    found: dict[str, Any] = {}
    for argument in arguments:
        name, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or not equals or not name:
            raise UserError(f"cannot read the argument {argument!r}", "command line", USAGE)
        if name in found:
            raise UserError(f"--{name} is given twice", "command line", "keep one of them")
        found[name] = parse_value(value)
    return found


def _run(config: Path, params: dict[str, Any], out: Path | None) -> None:
    from tune_accent.config.load import load_experiment

    spec = load_experiment(config, params).experiment

    from tune_accent.training.device import default_device
    from tune_accent.training.measure import summary
    from tune_accent.training.preparation import ensure_prepared, open_inputs
    from tune_accent.training.trainer import train

    ensure_prepared(spec, show=True)
    run = train(spec, open_inputs(spec, default_device()))
    for report in run:
        if out is not None:
            from tune_accent.training.checkpoint import save_checkpoint

            save_checkpoint(out / f"{report.epoch:04d}", report.trial)
        line = {
            "epoch": report.epoch,
            **summary(report.metrics),
            "seconds": round(report.seconds, 3),
            "peak_mb": round(report.peak_mb),
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    app()
