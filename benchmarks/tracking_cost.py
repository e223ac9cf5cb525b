"""What W&B tracking costs a trial, offline: seconds of the search's own process, and processor seconds beside it; Ray's WandbLoggerCallback next to it.

    python -m benchmarks.tracking_cost [--trials 20] [--epochs 9]

The same simulated trials (the figures of an epoch of the demo) through our tracker, and through Ray's callback in a process of its own. Ours must
cost the search at most 0.1 s per trial; exits 1 above it. `to the end` is the wall clock until everything is on the disk, beside no training at all.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import small_experiment
from tests.tuning.small_search import PREPARED, report
from tune_accent.base.files import sha256_json, write_json
from tune_accent.config.schema import Tracking
from tune_accent.tracking.provenance import environment

LIMIT = 0.1  # seconds per trial
PARAMS = {"lora_rank": 8, "lr": 0.003, "leakage_weight": 1.0}
COLUMNS = ("own", "processor", "to_the_end")


@dataclass
class SimulatedTrial:
    """A trial as the tracker sees it."""

    number: int
    params: dict[str, Any]
    key: str = ""
    state: str = "RUNNING"
    reports: list[dict[str, Any]] = field(default_factory=list)


def ours(root: Path, count: int, epochs: int) -> dict[str, float]:
    """Seconds per trial of our tracker."""
    from tune_accent.tracking.wandb import Tracked, track_search

    tracking = Tracking.model_validate({"wandb": {"mode": "offline"}})
    experiment = small_experiment(root / "data").model_copy(update={"tracking": tracking})
    write_json(root / "environment.json", environment())  # as a search has done by then
    trials: list[SimulatedTrial] = []
    search = Tracked(experiment, root, sha256_json("benchmark"), {"data": vars(PREPARED)}, lambda: trials, lambda: None)
    began, used, own = time.perf_counter(), processor(), 0.0
    tracker = track_search(search)
    own += time.perf_counter() - began
    for number in range(count):
        trials.append(trial := SimulatedTrial(number, {**PARAMS, "lr": 0.003 + number * 1e-4}, f"{number:020d}"))
        for epoch in range(1, epochs + 1):
            metrics = {**report(trial.params, trial.key, epoch), "seconds": 0.5, "peak_mb": 1.0}
            start = time.perf_counter()
            tracker.epoch(number, epoch, metrics)
            own += time.perf_counter() - start
            trial.reports.append(metrics)
        trial.state = "COMPLETE"
    tracker.close()
    return per_trial(own, processor() - used, time.perf_counter() - began, count)


def rays(root: Path, count: int, epochs: int) -> dict[str, float]:
    """Seconds per trial of Ray's callback, in a Tune run of trials that train nothing; less the same run without it."""
    import ray
    from ray.air.integrations.wandb import WandbLoggerCallback

    watch = {"own": 0.0}

    class Timed(WandbLoggerCallback):  # type: ignore[misc]
        """Adds up what the driver spends in it."""

    for name in ("log_trial_start", "log_trial_result", "log_trial_end", "on_experiment_end"):
        setattr(Timed, name, timed(getattr(WandbLoggerCallback, name), watch))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    tune_seconds(root / "warm", 2, 1, [])
    plain = tune_seconds(root / "plain", count, epochs, [])
    whole = tune_seconds(root / "tracked", count, epochs, [Timed(project="p", mode="offline", dir=str(root))]) - plain
    ray.shutdown()
    return per_trial(watch["own"], float("nan"), whole, count)


def timed(method: Any, watch: dict[str, float]) -> Any:
    """`method`, with its seconds added to `watch`."""

    def call(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return method(*args, **kwargs)
        finally:
            watch["own"] += time.perf_counter() - start

    return call


def tune_seconds(root: Path, count: int, epochs: int, callbacks: list[Any]) -> float:
    """Wall clock of a Tune run of `count` trials, one after the other."""
    from ray import tune

    def trainable(config: dict[str, Any]) -> None:
        for epoch in range(1, epochs + 1):
            tune.report(report(PARAMS, "", epoch))

    tuner = tune.Tuner(
        trainable,
        param_space={"number": tune.grid_search(list(range(count)))},
        tune_config=tune.TuneConfig(max_concurrent_trials=1),
        run_config=tune.RunConfig(storage_path=str(root), callbacks=callbacks, verbose=0),
    )
    start = time.perf_counter()
    tuner.fit()
    return time.perf_counter() - start


def processor() -> float:
    """Processor seconds of this process and of those that it has waited for."""
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def per_trial(own: float, used: float, whole: float, count: int) -> dict[str, float]:
    """The three figures, each per trial."""
    return dict(zip(COLUMNS, (own / count, used / count, whole / count), strict=True))


def measured(which: str, count: int, epochs: int) -> dict[str, float]:
    """The figures of one of the two, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.tracking_cost", "--only", which, "--trials", str(count), "--epochs", str(epochs)]
    environment = {**os.environ, "WANDB_MODE": "offline", "WANDB_API_KEY": "0" * 40}  # Ray's asks for a key, also offline
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    """Print the table; 1 where ours costs a trial more than the limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tracking_cost")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--only", choices=("ours", "rays"))
    arguments = parser.parse_args()
    if arguments.only:
        with tempfile.TemporaryDirectory() as folder:
            cost = {"ours": ours, "rays": rays}[arguments.only](Path(folder), arguments.trials, arguments.epochs)
        sys.stdout.write("\n" + json.dumps(cost) + "\n")
        return 0
    sys.stdout.write(f"seconds per trial of {arguments.epochs} epochs, {arguments.trials} trials\n")
    sys.stdout.write(f"{'':24}{'the search waits':>18}{'processor':>12}{'to the end':>12}\n")
    costs = {}
    for which, name in (("ours", "ours"), ("rays", "WandbLoggerCallback")):
        costs[which] = measured(which, arguments.trials, arguments.epochs)
        own, used, whole = (costs[which][column] for column in COLUMNS)
        sys.stdout.write(f"{name:24}{own:18.4f}{used:12.3f}{whole:12.3f}\n")
        sys.stdout.flush()
    return int(costs["ours"]["own"] > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
