"""Train one configuration of the space; the program that a W&B agent starts.

python -m tune_accent.trial --config=configs/demo.yaml --lora_rank=8 --lr=0.003 --leakage_weight=1
python -m tune_accent.trial --config=configs/demo.yaml --out=runs/first    # checkpoints; the same command continues an interrupted run

Started by an agent (`WANDB_SWEEP_ID` is set), it logs to the sweep's run, keeps its checkpoints in `ray_results/sweep-<id>/<run>`, and ends with exit
code 0 when the sweep stops it (SIGTERM).
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tune_accent.base.entry import guarded
from tune_accent.base.errors import UserError

if TYPE_CHECKING:
    from tune_accent.config.schema import Experiment
    from tune_accent.tracking.tracker import NoTracker
    from tune_accent.tracking.wandb import WandbTrial
    from tune_accent.training.kept import Kept
    from tune_accent.training.preparation import PreparedRecord

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
IN_USE = "wait for it, stop it, or use another --out"
ANY_PARAMETER = {"allow_extra_args": True, "ignore_unknown_options": True}
USAGE = "write --NAME=VALUE, NAME being lora_rank, lora_alpha, lora_alpha_ratio, lr, leakage_weight or a dotted key of the config"


@app.command(context_settings=ANY_PARAMETER)
def main(
    context: typer.Context,
    config: Annotated[Path, typer.Option(help="experiment config")] = Path("configs/demo.yaml"),
    out: Annotated[Path | None, typer.Option(help="folder for checkpoints; the same command continues there")] = None,
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
        found[name] = None if value == "None" else parse_value(value)  # what an agent writes for null
    return found


class StoppedBySweep(KeyboardInterrupt):
    """The agent asks the trial to end, because its sweep terminates it early."""


def _run(config: Path, params: dict[str, Any], out: Path | None) -> None:
    from tune_accent.config.load import load_experiment

    spec = load_experiment(config, params).experiment
    sweep = os.environ.get("WANDB_SWEEP_ID")
    if not sweep:
        _prepare_and_train(spec, out, False)
        return
    signal.signal(signal.SIGTERM, _stop)
    out = out or Path("ray_results", *(re.sub(r"[^\w-]", "_", name) for name in (f"sweep-{sweep}", os.environ["WANDB_RUN_ID"])))
    try:
        _prepare_and_train(spec, out, True)
    except StoppedBySweep:
        sys.stderr.write(f"stopped by the sweep; {out} has the checkpoints\n")


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise StoppedBySweep


def _prepare_and_train(spec: Experiment, out: Path | None, sweep: bool) -> None:
    from tune_accent.base.files import folder_lock
    from tune_accent.training.kept import open_kept
    from tune_accent.training.preparation import ensure_prepared

    record = ensure_prepared(spec, show=True)
    if out is None:
        _train(spec, record, None, sweep)
        return
    with folder_lock(out, IN_USE):
        kept = open_kept(out, spec, record)
        if kept.finished():
            sys.stderr.write(f"{out} holds a finished run: latest is {kept.latest()}\n")
        else:
            _train(spec, record, kept, sweep)


def _train(spec: Experiment, record: PreparedRecord, kept: Kept | None, sweep: bool) -> None:
    """Train and track."""
    tracker = _tracker(spec, record, kept, sweep)
    try:
        _epochs(spec, kept, tracker)
    except StoppedBySweep:
        tracker.stopped()
        raise
    finally:
        tracker.close()


def _epochs(spec: Experiment, kept: Kept | None, tracker: WandbTrial | NoTracker) -> None:
    """Train, from the latest checkpoint where epochs are kept; a line per epoch."""
    from tune_accent.training.device import default_device
    from tune_accent.training.measure import summary
    from tune_accent.training.preparation import open_inputs
    from tune_accent.training.trainer import train

    for report in train(spec, open_inputs(spec, default_device()), kept.latest() if kept else None):
        if kept is not None:
            kept.save(report)
        memory = {"peak_mb": report.peak_mb, "allocated_mb": report.allocated_mb}
        tracker.epoch(0, report.epoch, {**report.metrics, "seconds": report.seconds, **memory})
        timing = {"seconds": round(report.seconds, 3), **{name: round(value) for name, value in memory.items()}}
        sys.stdout.write(json.dumps({"epoch": report.epoch, **summary(report.metrics), **timing}) + "\n")
        sys.stdout.flush()


def _tracker(spec: Experiment, record: PreparedRecord, kept: Kept | None, sweep: bool) -> WandbTrial | NoTracker:
    """W&B where a sweep's agent started this, or the config says so."""
    from tune_accent.base.files import sha256_json
    from tune_accent.config.schema import NO_IDENTITY
    from tune_accent.tracking.tracker import NoTracker

    if not sweep and spec.tracking.wandb.mode == "off":
        return NoTracker()
    from tune_accent.tracking.wandb import WandbTrial

    identity = spec.model_dump(mode="json", exclude=set(NO_IDENTITY))
    key = sha256_json({"config": identity, "data": vars(record)})[:16]
    return WandbTrial(spec, vars(record), key, kept.root if kept else None, sweep)


if __name__ == "__main__":
    app()
