"""What W&B tracking costs a trial, offline, beside Ray's own WandbLoggerCallback: the same simulated trials, with the same figures, in the same run.

    python -m benchmarks.tracking_cost [--trials 20] [--epochs 9]

The figures of an epoch are the demo's, without training. Columns, all per trial: what the process of the search waits for, on the clock and in seconds
of its processor (of the thread that calls); processor seconds of every process, W&B's too; the clock until everything is on the disk. Ray's callback
runs in a Tune run, and its last two columns are less the same run without it. Ours must let the search wait at most 0.1 s per trial; exits 1 above it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.support import small_experiment
from tests.tuning.small_search import PREPARED, report
from tune_accent.base.files import sha256_json, write_json
from tune_accent.config.schema import Tracking
from tune_accent.tracking.provenance import environment

LIMIT = 0.1  # seconds per trial
PARAMS = {"lora_rank": 8, "lr": 0.003, "leakage_weight": 1.0}
COLUMNS = ("own", "own_processor", "processor", "to_the_end")
LOOK_S = 0.05  # between two looks at the processes


@dataclass
class SimulatedTrial:
    """A trial as the tracker sees it."""

    number: int
    params: dict[str, Any]
    key: str = ""
    state: str = "RUNNING"
    reports: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Waited:
    """Seconds that the search has spent in a tracker: on the clock, and of the calling thread's processor."""

    clock: float = 0.0
    processor: float = 0.0

    def call(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        """`method`, timed."""
        clock, used = time.perf_counter(), time.thread_time()
        try:
            return method(*args, **kwargs)
        finally:
            self.clock += time.perf_counter() - clock
            self.processor += time.thread_time() - used


class Processors:
    """Processor seconds of this process and of everything below it, looked up while it runs: Ray's workers are waited for by others."""

    def __init__(self) -> None:
        self._known: dict[
            tuple[int, float], tuple[psutil.Process, float, float]
        ] = {}  # process: its seconds at first sight, at the last
        self._own, self._stop, self._spent = psutil.Process(), threading.Event(), 0.0
        self._look(first=True)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def end(self) -> float:
        """Seconds since the beginning, without those of looking."""
        self._stop.set()
        self._thread.join()
        self._look()
        return sum(last - begun for _, begun, last in self._known.values()) - self._spent

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_S):
            self._look()
        self._spent = time.thread_time()

    def _look(self, first: bool = False) -> None:
        seen = {(one.pid, one.create_time()): one for one in [self._own, *self._own.children(recursive=True)]}
        for key, one in {**seen, **{key: known[0] for key, known in self._known.items()}}.items():
            with suppress(psutil.NoSuchProcess):
                used = one.cpu_times()
                total = used.user + used.system
                begun = self._known[key][1] if key in self._known else total if first else 0.0
                self._known[key] = one, begun, total


def ours(root: Path, count: int, epochs: int) -> dict[str, float]:
    """Seconds per trial of our tracker."""
    from tune_accent.tracking.wandb import Tracked, track_search

    tracking = Tracking.model_validate({"wandb": {"mode": "offline"}})
    experiment = small_experiment(root / "data").model_copy(update={"tracking": tracking})
    write_json(root / "environment.json", environment())  # as a search has done by then
    trials: list[SimulatedTrial] = []
    search = Tracked(experiment, root, sha256_json("benchmark"), {"data": vars(PREPARED)}, lambda: trials, lambda: None, dict)
    waited, used, began = Waited(), Processors(), time.perf_counter()
    tracker = waited.call(track_search, search)
    for number in range(count):
        trials.append(trial := SimulatedTrial(number, {**PARAMS, "lr": 0.003 + number * 1e-4}, f"{number:020d}"))
        for epoch in range(1, epochs + 1):
            metrics = {**report(trial.params, trial.key, epoch), "seconds": 0.5, "peak_mb": 1.0}
            waited.call(tracker.epoch, number, epoch, metrics)
            trial.reports.append(metrics)
        trial.state = "COMPLETE"
    tracker.close()
    whole = time.perf_counter() - began
    return per_trial(waited, used.end(), whole, count)


def rays(root: Path, count: int, epochs: int) -> dict[str, float]:
    """Seconds per trial of Ray's callback, in a Tune run of trials that train nothing; less the same run without it."""
    import ray
    from ray.air.integrations.wandb import WandbLoggerCallback

    waited = Waited()

    class Timed(WandbLoggerCallback):  # type: ignore[misc]
        """Adds up what the driver spends in it."""

    for name in ("log_trial_start", "log_trial_result", "log_trial_end", "on_experiment_end"):
        setattr(Timed, name, timed(getattr(WandbLoggerCallback, name), waited))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    tune_seconds(root / "warm", 2, 1, [])
    plain, plain_used = tune_seconds(root / "plain", count, epochs, [])
    whole, used = tune_seconds(root / "tracked", count, epochs, [Timed(project="p", mode="offline", dir=str(root))])
    ray.shutdown()
    return per_trial(waited, used - plain_used, whole - plain, count)


def timed(method: Any, waited: Waited) -> Any:
    """`method`, with its seconds added to `waited`."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return waited.call(method, *args, **kwargs)

    return call


def tune_seconds(root: Path, count: int, epochs: int, callbacks: list[Any]) -> tuple[float, float]:
    """Wall clock, and processor seconds of every process, of a Tune run of `count` trials, one after the other."""
    from ray import tune

    def trainable(config: dict[str, Any]) -> None:
        for epoch in range(1, epochs + 1):
            params = {**PARAMS, "lr": 0.003 + config["number"] * 1e-4}
            tune.report({**report(params, "", epoch), "seconds": 0.5, "peak_mb": 1.0})

    tuner = tune.Tuner(
        trainable,
        param_space={"number": tune.grid_search(list(range(count)))},
        tune_config=tune.TuneConfig(max_concurrent_trials=1),
        run_config=tune.RunConfig(storage_path=str(root), callbacks=callbacks, verbose=0),
    )
    used, start = Processors(), time.perf_counter()
    tuner.fit()
    whole = time.perf_counter() - start
    return whole, used.end()


def per_trial(waited: Waited, used: float, whole: float, count: int) -> dict[str, float]:
    """The figures of `COLUMNS`, each per trial."""
    return {name: value / count for name, value in zip(COLUMNS, (waited.clock, waited.processor, used, whole), strict=True)}


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
    sys.stdout.write(f"{'':24}{'the search waits':>18}{'its processor':>15}{'all processes':>15}{'to the end':>12}\n")
    costs = {}
    for which, name in (("ours", "ours"), ("rays", "WandbLoggerCallback")):
        costs[which] = measured(which, arguments.trials, arguments.epochs)
        own, own_used, used, whole = (costs[which][column] for column in COLUMNS)
        sys.stdout.write(f"{name:24}{own:18.4f}{own_used:15.4f}{used:15.3f}{whole:12.3f}\n")
        sys.stdout.flush()
    return int(costs["ours"]["own"] > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
