"""What remembering costs: seconds that an uninterrupted search spends on checkpoints, memo and tables, beside the seconds of its epochs.

    python -m benchmarks.memo_cost [--config configs/demo.yaml] [--epochs 6] [--rank 32]

One trial of the config, trained by a worker's own program in this process; then the driver's own files for the same epochs: a row of timing.csv
each, and trials.csv whenever a trial ends (here: every second epoch). The baseline is the same epochs without any of it. The limit is 3 %; exits
1 above it. Data that are not there are made first.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from tests.tuning.simulated import SPACE, Clock, make_core
from tune_accent.base.files import write_text
from tune_accent.config.load import load_experiment
from tune_accent.config.schema import Experiment
from tune_accent.tuning.memo import DictMemo
from tune_accent.tuning.results import append_timing, trials_csv

LIMIT = 0.03
PARAMS = {"lora_alpha_ratio": 2.0, "lr": 5e-3, "leakage_weight": 1.0}


class Watch:
    """Adds up seconds of functions by name."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, with its seconds added to `name`."""

        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[name] += time.perf_counter() - began

        return call


@contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """What a worker writes is timed."""
    from tune_accent.tuning import program
    from tune_accent.tuning.memo import FolderMemo

    parts = ((program, "save_checkpoint"), (FolderMemo, "record"), (program.SpeechProgram, "_forget_old_checkpoints"))
    with ExitStack() as stack:
        for owner, name in parts:
            stack.enter_context(mock.patch.object(owner, name, watch.timed(name.strip("_"), getattr(owner, name))))
        yield


def worker(experiment: Experiment, root: Path, epochs: int, rank: int) -> tuple[Watch, float]:
    """Seconds of what a worker writes in `epochs` epochs, and of the whole."""
    import torch

    from tune_accent.training.preparation import open_inputs
    from tune_accent.training.seeding import configure_torch
    from tune_accent.tuning.memo import FolderMemo
    from tune_accent.tuning.program import SpeechProgram

    configure_torch(experiment.training)
    watch = Watch()
    with watched(watch):
        program = SpeechProgram(experiment, open_inputs(experiment, torch.device("cpu")), FolderMemo(root))
        program.epoch({**PARAMS, "lora_rank": rank}, "trial", 1)  # the first one also warms up
        watch.seconds.clear()
        began = time.perf_counter()
        for epoch in range(2, epochs + 2):
            program.epoch({**PARAMS, "lora_rank": rank}, "trial", epoch)
        return watch, time.perf_counter() - began


def driver(experiment: Experiment, root: Path, epochs: int, watch: Watch) -> None:
    """The driver's files for as many epochs, with a table of 16 trials."""
    clock = Clock(make_core(DictMemo(), run_cap=16), 4)
    assert clock.run()
    row = {
        "launch": 1,
        "trial": 1,
        "epoch": 1,
        "worker": "192.0.2.1:12345",
        "started": time.time(),
        "seconds": 1.0,
        "peak_mb": 500.0,
    }
    write_table = watch.timed(
        "trials.csv", lambda: write_text(root / "trials.csv", trials_csv(experiment, SPACE, clock.core.trials))
    )
    for epoch in range(epochs):
        watch.timed("timing.csv", append_timing)(root, row)
        if epoch % 2:
            write_table()


def table(watch: Watch, whole: float, epochs: int) -> tuple[str, float]:
    """The figures per epoch, and the share of the epochs without them."""
    spent = {name: seconds / epochs for name, seconds in watch.seconds.items()}
    inside = sum(seconds for name, seconds in spent.items() if not name.endswith(".csv"))
    plain, total = whole / epochs - inside, sum(spent.values())
    lines = [f"{name:<24}{1e3 * seconds:>9.2f} ms an epoch" for name, seconds in spent.items()]
    share = total / plain
    last = f"{'together':<24}{1e3 * total:>9.2f} ms an epoch, {share:.2%} of {plain:.3f} s (training and evaluation alone); limit {LIMIT:.0%}"
    return "\n".join([*lines, last]) + "\n", share


def main() -> int:
    """Print the table; 1 above the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/demo.yaml")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--rank", type=int, default=32)
    arguments = parser.parse_args()
    experiment = load_experiment(arguments.config, {"training.epochs": arguments.epochs + 1}).experiment
    with tempfile.TemporaryDirectory(prefix="memo_cost_", dir=Path.cwd()) as folder:  # beside the results, on the same disk
        watch, whole = worker(experiment, Path(folder), arguments.epochs, arguments.rank)
        driver(experiment, Path(folder), arguments.epochs, watch)
    text, share = table(watch, whole, arguments.epochs)
    sys.stdout.write(text)
    return int(share > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
