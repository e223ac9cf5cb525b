"""What a search costs beyond training: time per trial and memory, beside new workers for each trial and beside the other orders.

    python -m benchmarks.search_cost [--kinds simulated,demo] [--arms rounds,async,batches,paired,new] [--trials 16] [--epochs 9] [--workers 2] [--slots 4]

Every arm is a search through real Ray in a process of its own with an empty results folder; "simulated" epochs only sleep, "demo" is all that the
search command does on the prepared demo corpus. Arms:

    rounds   as shipped: trials wait for their round, workers are kept
    async    plain ASHA
    batches  decisions look only at earlier batches
    paired   rounds with as many slots as workers, workers are kept
    new      the same, but each trial starts a worker of its own

wall: from the command's start to its end. start: until the first epoch begins (imports, Ray, building the model). end: after the last epoch.
train: seconds of an epoch's training and evaluation, measured inside the worker. overhead = (wall − training/workers) / trials, with waiting for
rounds in it; "between" is the same without start and end. busy: training's share of the workers' time between start and end.
CPU s: processor time of the driver, the workers, and Ray's own processes; others: cores that something else kept busy meanwhile (workers run at
low priority, so anything above 0.2 makes every time here too long). Memory is the peak of the sum, with its parts.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.arms import ARMS, Arm, arms
from benchmarks.process_tree import ROLES, Watch, summed_by


@dataclass(frozen=True)
class Epoch:
    """An executed epoch: UNIX seconds of its start, seconds of training and evaluation."""

    started: float
    seconds: float


@dataclass(frozen=True)
class Run:
    """A measured search: when its command began and ended (UNIX seconds), its epochs, its trials (state, epochs).

    Attributes:
        memory_mb: at its peak, by role. cpu_s: processor time by role. others: cores busy with something else.
    """

    name: str
    workers: int
    began: float
    ended: float
    epochs: Sequence[Epoch]
    trials: Sequence[tuple[str, int]]
    memory_mb: Mapping[str, float]
    cpu_s: Mapping[str, float]
    others: float

    @property
    def wall(self) -> float:
        """Seconds of the whole command."""
        return self.ended - self.began

    @property
    def training(self) -> float:
        """Seconds of all epochs."""
        return sum(epoch.seconds for epoch in self.epochs)

    @property
    def start(self) -> float:
        """Seconds before the first epoch."""
        return min(epoch.started for epoch in self.epochs) - self.began

    @property
    def end(self) -> float:
        """Seconds after the last epoch."""
        return self.ended - max(epoch.started + epoch.seconds for epoch in self.epochs)

    def overhead(self, seconds: float) -> float:
        """Seconds per trial of which training is not the reason, out of `seconds` of wall clock."""
        return (seconds - self.training / self.workers) / len(self.trials)

    @property
    def middle(self) -> float:
        """Seconds between start and end."""
        return self.wall - self.start - self.end


def measure(name: str, arm: Arm) -> Run:
    """Run one arm in a process of its own.

    Raises:
        SystemExit: it failed; the message ends with what it said.
    """
    with tempfile.TemporaryDirectory(prefix="search_cost_") as folder:
        root, log = Path(folder) / "results", Path(folder) / "log"
        began = time.time()
        code, watch = _watched([sys.executable, "-m", "benchmarks.one_search", json.dumps(asdict(arm)), str(root)], log)
        ended = time.time()
        if code:
            raise SystemExit(f"{name}: exit {code}\n{log.read_text(encoding='utf-8', errors='replace')[-3000:]}")
        trials = json.loads((root / "trials.json").read_text(encoding="utf-8"))
        return Run(name, arm.workers, began, ended, epochs_of(root), trials, watch.parts_mb, watch.cpu_s(), watch.others)


def _watched(command: Sequence[str], log: Path) -> tuple[int, Watch]:
    """Exit code of `command`, and what it used; what it says goes to `log`. An interrupt ends it first."""
    with log.open("wb") as stream, subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT) as process:
        try:
            with Watch(process.pid) as watch:
                return process.wait(), watch
        except BaseException:
            process.terminate()
            process.wait()
            raise


def epochs_of(root: Path) -> list[Epoch]:
    """What `timing.csv` says."""
    with (root / "timing.csv").open(encoding="utf-8", newline="") as stream:
        return [Epoch(float(row["started"]), float(row["seconds"])) for row in csv.DictReader(stream)]


COLUMNS: Mapping[str, tuple[str, ...]] = {
    "": ("trials", "full", "epochs"),
    "wall clock, s": ("wall", "start", "end", "train/epoch"),
    "overhead, s/trial": ("all", "between", "busy"),
    "CPU s": ("driver", "workers", "Ray", "others"),
    "peak": ("driver", "workers", "Ray", "sum MB"),
}


def header(name: str, size: Arm) -> str:
    """Title and column names of a table."""
    asked = f"{size.trials} trials, {size.epochs} epochs for a full one, {size.workers} workers, {size.slots} slots (paired, new: {size.workers})"
    load = f"load before {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; memory is {summed_by()}"
    groups = "".join(f"  {group:<{sum(map(_width, columns)) - 2}}" for group, columns in COLUMNS.items())
    names = "".join(f"{column:>{_width(column)}}" for columns in COLUMNS.values() for column in columns)
    return f"\n{name}: {asked}; {load}\n{'':<8}{groups.rstrip()}\n{'search':<8}{names}"


def row(run: Run) -> str:
    """A line of the table."""
    full = sum(state == "COMPLETE" for state, _ in run.trials)
    cells = [
        *(f"{count}" for count in (len(run.trials), full, len(run.epochs))),
        *(f"{seconds:.1f}" for seconds in (run.wall, run.start, run.end)),
        *(f"{seconds:.2f}" for seconds in (run.training / len(run.epochs), run.overhead(run.wall), run.overhead(run.middle))),
        f"{run.training / run.workers / run.middle:.0%}",
        *(f"{run.cpu_s[role]:.0f}" for role in ROLES),
        f"{run.others:.1f}",
        *(f"{run.memory_mb[role]:.0f}" for role in ROLES),
        f"{sum(run.memory_mb.values()):.0f}",
    ]
    names = [column for columns in COLUMNS.values() for column in columns]
    return f"{run.name:<8}" + "".join(f"{cell:>{_width(column)}}" for cell, column in zip(cells, names, strict=True))


def _width(column: str) -> int:
    return max(8, len(column) + 2)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--kinds", default="simulated,demo")
    made.add_argument("--arms", default=",".join(ARMS))
    for field in ("trials", "epochs", "workers", "slots"):
        made.add_argument(f"--{field}", type=int, default=getattr(Arm, field))
    made.add_argument("--seconds", type=float, default=Arm.seconds, help="of a simulated epoch")
    made.add_argument("--space", default=Arm.space)
    made.add_argument("--config", default=Arm.config)
    return made


def main() -> None:
    """Measure and print, a line per search as it ends."""
    options = vars(parser().parse_args())
    kinds, names = options.pop("kinds").split(","), options.pop("arms").split(",")
    for kind in kinds:
        base = Arm(kind, **options)
        sys.stdout.write(header(kind, base) + "\n")
        for name, arm in arms(base, names):
            sys.stdout.flush()
            sys.stdout.write(row(measure(name, arm)) + "\n")


if __name__ == "__main__":
    main()
