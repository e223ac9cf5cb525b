"""What it costs to continue: replaying the records of a finished search, until the first new epoch could start.

    python -m benchmarks.replay [--trials 100,500,2000]

Simulated trials with the reports of real ones (10 kB each), in a results folder on disk; TPE, ASHA. The search is then continued with four more
trials, by the driver's own parts up to where it would start Ray: check the folder and tidy it, replay the memo, look at the best trial, ask the
sampler for what is new. Beside it, the same table by simulation, in memory: there the sampler is asked for every trial. CPU seconds, which
other work on the machine does not change, and seconds by the clock for the total. "growth" is the exponent p of CPU seconds ~ trials^p
between a line and the one before; n·log n is about 1.15 at these sizes.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.support import small_experiment
from tests.tuning.simulated import Clock
from tests.tuning.small_search import PREPARED, core_of, report, request
from tune_accent.base.files import folder_lock, remove_torn, write_json
from tune_accent.config.load import resolve
from tune_accent.tuning.core import Core, Grant, Trial
from tune_accent.tuning.driver import Request, judge, make_core, make_spec, summary
from tune_accent.tuning.folder import open_folder
from tune_accent.tuning.growth import note_change
from tune_accent.tuning.memo import DictMemo, FolderMemo, Memo, ReadOnlyMemo
from tune_accent.tuning.results import holds_best, write_tables

SLOTS, EPOCHS, MORE = 4, 9, 4
SPACE = """\
name: replay
method: bayes
metric: {name: score, goal: maximize}
run_cap: 4
early_terminate: {type: hyperband, min_iter: 3, eta: 3}
parameters:
  config: {value: small.yaml}
  lora_rank: {values: [2, 4, 8, 16, 32]}
  lora_alpha_ratio: {values: [1, 2, 4]}
  lr: {distribution: log_uniform_values, min: 0.0003, max: 0.02}
  leakage_weight: {distribution: log_uniform_values, min: 0.03, max: 10}
"""
PADDING = {f"figure_{number}": number / 7 for number in range(300)}  # a real report is this long


@dataclass(frozen=True)
class Row:
    """CPU seconds for one number of trials.

    Attributes:
        epochs: that are in the memo.
        simulate: the table made anew, in memory, the sampler asked for every trial.
        check: folder, lock, torn files.
        replay: the memo, up to the four new suggestions.
        change: the second replay that a changed number of trials costs, to say what it changed.
        best: look at the best trial.
        wall: seconds of these four by the clock.
    """

    trials: int
    epochs: int
    simulate: float
    check: float
    replay: float
    change: float
    best: float
    wall: float

    @property
    def total(self) -> float:
        """Until the first new epoch could start."""
        return self.check + self.replay + self.change + self.best


def timed(step: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of `step`, and what it returned."""
    started = time.process_time()
    result = step()
    return time.process_time() - started, result


def outcome(grant: Grant) -> dict[str, Any]:
    """A report as long as a real one."""
    return {**report(grant.params, grant.key, grant.epoch), **PADDING}


def search(folder: Path, trials: int) -> Request:
    """The request of a search of `trials` trials below `folder`."""
    experiment = resolve(small_experiment(Path("data")), {"tuning.slots": SLOTS, "training.epochs": EPOCHS})
    return request(folder, SPACE, experiment, run_cap=trials)


def simulate(asked: Request, memo: Memo) -> Core:
    """Run a whole search on a fake clock."""
    core = core_of(asked, memo)
    assert Clock(core, SLOTS, outcome=outcome).run()
    return core


def fill(asked: Request, memo: DictMemo, trials: Sequence[Trial]) -> None:
    """Put what `memo` knows into the results folder, as a launch leaves it: checkpoints of the newest two epochs included."""
    open_folder(asked.root, make_spec(asked, PREPARED), accept_environment=False)
    disk = FolderMemo(asked.root)
    for number, draw in memo.draws.items():
        disk.record_suggestion(number, draw)
    for key, epochs in memo.epochs.items():
        for epoch, metrics in epochs.items():
            disk.record(key, epoch, metrics)
            if epoch > len(epochs) - 2:
                write_json(disk.checkpoint(key, epoch) / "state.json", {})
    write_tables(asked.root, asked.experiment, asked.space.space, trials)


def continued(asked: Request) -> tuple[float, float, float, float, Core]:
    """Seconds of the driver's parts, and the core with its grants."""
    spec = make_spec(asked, PREPARED)

    def replayed(run_cap: int) -> Sequence[Trial]:
        return make_core(replace(asked, run_cap=run_cap), spec, ReadOnlyMemo(asked.root)).trials

    def check() -> None:
        open_folder(asked.root, spec, accept_environment=False)
        remove_torn(asked.root)

    def best(core: Core) -> None:
        found = core.best()
        if found is not None:
            holds_best(asked.root, summary(asked, core, found, judge(asked.experiment, found)))

    with folder_lock(asked.root):
        changing, _ = timed(lambda: note_change(asked.root, spec, replayed))
        checking, _ = timed(check)
        replaying, core = timed(lambda: make_core(asked, spec))
        looking, _ = timed(lambda: best(core))
    return checking, replaying, changing, looking, core


def measure(trials: int) -> Row:
    """Make, keep, and continue a search of `trials` trials."""
    with tempfile.TemporaryDirectory() as scratch:
        asked, memo = search(Path(scratch), trials), DictMemo()
        seconds, whole = timed(lambda: simulate(asked, memo))
        fill(asked, memo, whole.trials)
        started = time.perf_counter()
        checking, replaying, changing, looking, core = continued(replace(asked, run_cap=trials + MORE))
        wall = time.perf_counter() - started
        assert core.grants() and not any(grant.epoch in memo.epochs.get(grant.key, ()) for grant in core.grants()), (
            "trained twice"
        )
        assert_equal(make_core(asked, make_spec(asked, PREPARED)).trials, whole.trials)
        return Row(trials, sum(map(len, memo.epochs.values())), seconds, checking, replaying, changing, looking, wall)


def assert_equal(replayed: Sequence[Trial], simulated: Sequence[Trial]) -> None:
    """Both show the same trials."""
    shown = [[(trial.key, trial.state, trial.reports) for trial in trials] for trials in (replayed, simulated)]
    assert shown[0] == shown[1], "the replay differs"


def table(sizes: Sequence[int]) -> Iterator[str]:
    """The table, line by line."""
    yield f"{'trials':>7} {'epochs':>7} | {'simulate':>9} | {'check':>7} {'replay':>7} {'change':>7} {'best':>7} {'total':>8} {'growth':>7} {'wall s':>7}"
    before: Row | None = None
    for size in sizes:
        row = measure(size)
        growth = "" if before is None else f"{math.log(row.total / before.total) / math.log(row.trials / before.trials):.2f}"
        parts = " ".join(f"{seconds:>7.2f}" for seconds in (row.check, row.replay, row.change, row.best))
        yield f"{row.trials:>7} {row.epochs:>7} | {row.simulate:>9.2f} | {parts} {row.total:>8.2f} {growth:>7} {row.wall:>7.2f}"
        before = row


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", default="100,500,2000")
    arguments = parser.parse_args()
    for line in table([int(count) for count in arguments.trials.split(",")]):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
