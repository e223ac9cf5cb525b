"""What exactness costs: rounds of one epoch beside plain ASHA (async), beside rounds in step (nobody runs ahead) and beside whole batches.

    python -m benchmarks.rounds [--workers 2,4,8] [--trials 32] [--seeds 3]

The search's own core, its own sampler and a fake clock; only the trials are simulated. An epoch takes 1 on average, more or less by the jitter,
drawn per epoch (a busy machine) or per trial (a large rank is slower). Without early stopping all of them train the same epochs, so the
makespans differ by waiting alone; with ASHA they also differ by what is stopped. "equal" is how many trials of the async search are the same
in a second run whose epochs take other times; for the other orders all of them must be, or this fails.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.orders import ORDERS, Order, simulated_core
from tests.tuning.simulated import Clock
from tune_accent.tuning.core import Grant, Settings
from tune_accent.tuning.memo import DictMemo

EPOCHS, GRACE = 9, 3


@dataclass(frozen=True)
class Case:
    """Workers, slots, and how much epoch times vary: ± `jitter` of 1, drawn per "epoch" or per "trial"."""

    workers: int
    slots: int
    jitter: float
    per: str

    def seconds(self, seed: int) -> Callable[[Grant], float]:
        """Time of a granted epoch."""

        def draw(grant: Grant) -> float:
            place = [grant.trial, grant.epoch] if self.per == "epoch" else [grant.trial]
            return 1.0 + self.jitter * float(np.random.default_rng([seed, *place]).uniform(-1, 1))

        return draw


def cases(workers: Sequence[int]) -> Iterator[Case]:
    """Every number of workers with one and two slots per worker, and with slots that they do not divide, under every jitter."""
    for jitter, per in ((0.0, "epoch"), (0.2, "epoch"), (0.5, "epoch"), (0.5, "trial")):
        for count in workers:
            yield from (Case(count, slots, jitter, per) for slots in (count, count + 1, 2 * count))


def search(case: Case, order: Order, trials: int, asha: bool, seed: int, clock_seed: int) -> tuple[float, list[str]]:
    """Makespan of one search, and its trials as text."""
    settings = Settings(trials, case.slots, EPOCHS, GRACE if asha else None, seed=seed)
    core = simulated_core(order, settings, DictMemo(), "bayes" if asha else "random")
    clock = Clock(core, case.workers, case.seconds(clock_seed))
    assert clock.run()
    return clock.now, [repr((trial.key, trial.state, trial.reports)) for trial in core.trials]


def measure(case: Case, trials: int, asha: bool, seeds: int) -> tuple[list[float], float]:
    """Mean makespan of every order over `seeds` searches, and the share of async trials that a second run repeats."""
    spans, equal = np.zeros((len(ORDERS), seeds)), 0
    for seed in range(seeds):
        for index, order in enumerate(ORDERS):
            spans[index, seed], first = search(case, order, trials, asha, seed, clock_seed=seed)
            if asha:
                again = search(case, order, trials, asha, seed, clock_seed=seed + seeds)[1]
                same = sum(one == other for one, other in zip(first, again, strict=True))
                assert order == "async" or same == trials, f"{order} depends on the clock: {same} of {trials} trials are equal"
                equal += same if order == "async" else 0
    return [float(span) for span in spans.mean(axis=1)], equal / (trials * seeds)


def row(case: Case, trials: int, seeds: int) -> str:
    """A line of the table."""
    (plain, _), (asha, equal) = (measure(case, trials, early, seeds) for early in (False, True))
    cells = " ".join(
        f"{spans[0]:>8.1f} {_above(spans, 1):>8} {_above(spans, 2):>8} {_above(spans, 3):>8}  " for spans in (plain, asha)
    )
    return f"±{case.jitter:<4.0%} {case.per:<6} {case.workers:>7} {case.slots:>6}  {cells}{equal:>7.0%}"


def _above(spans: Sequence[float], index: int) -> str:
    return f"{spans[index] / spans[0] - 1:+.0%}"


def table(workers: Sequence[int], trials: int, seeds: int) -> Iterator[str]:
    """The table, line by line."""
    yield f"makespan in mean epochs; {trials} trials of {EPOCHS} epochs; ASHA from epoch {GRACE}; mean of {seeds} searches; +n % is above async"
    yield f"{'':<29}{'without early stopping':^37} {'ASHA':^37}"
    names = " ".join(f"{name:>8}" for name in ORDERS)
    yield f"{'jitter per':<12} {'workers':>7} {'slots':>6}  {names}   {names}    equal"
    yield from (row(case, trials, seeds) for case in cases(workers))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="2,4,8")
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    for line in table([int(count) for count in arguments.workers.split(",")], arguments.trials, arguments.seeds):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
