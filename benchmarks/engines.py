"""How soon engines find good settings: TPE, GP, W&B's Bayes and random search on learning curves whose best is known.

    python -m benchmarks.engines [--sweeps .sweeps] [--seeds 10] [--trials 32] [--orders rounds,async]

The search's own core on a fake clock; only the trials are simulated. Families (maximised; the best at full length is known):

    hartmann3, hartmann6   MFHartmann: Hartmann's function with a fidelity that lowers the weights of its bumps (Kandasamy et al. 2017), as a
                           learning curve with the bias and the noise that shrink with the epochs (Mallik et al. 2023). Written from the formulas; the
                           package mf-prior-bench needs numpy < 2 and ConfigSpace.
    lora                   the demo-like surface of the tests: rank, lr, leakage weight, with a penalty for leakage
    demo                   what training the demo gave at 50 points of its space (benchmarks/demo_table.py); a learning rate counts as the nearest of five

A setting of the family is a shift of the optimum, drawn by the seed (lora: its noise; demo: none, engines alone differ). All engines with early stopping have grace 3, eta 3 of 9 epochs. "to random's best":
what the engine had begun (trials) or trained (epochs) when its best was as good as the median final best of plain random search in the same order; a median
over seeds, of which those that never got there are censored ("> n"). Regret is that of the true best at full length, of the trial with full length that
looked best, without its noise.
W&B's engine is `sweeps` 0.3.0 (tune_accent/comparing/sweeps_engine.py says how to get it); without it its rows are left out.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from benchmarks.demo_table import NAMES, read_table
from tests.tuning import simulated
from tune_accent.base.errors import MissingDependency
from tune_accent.base.files import sha256_json
from tune_accent.base.seeds import derive_seed, generator
from tune_accent.comparing.curves import Curve, Reach, median_time, time_to
from tune_accent.comparing.repeats import quartiles
from tune_accent.comparing.sweeps_engine import TARGET, SweepsCore, SweepsSuggester, load_sweeps
from tune_accent.config.parameters import Categorical, Uniform
from tune_accent.config.space import Space
from tune_accent.tuning.core import Core, Grant, Settings, State, Suggester
from tune_accent.tuning.memo import DictMemo
from tune_accent.tuning.suggest import make_suggester

EPOCHS, GRACE, ETA, SLOTS = 9, 3, 3.0, 4
BUDGETS = (0.5, 0.625)  # of the epochs that as many full trials take; searches that stop trials early end a little later
Order = Literal["rounds", "async"]
Floats = npt.NDArray[np.float64]

# Hartmann's constants (Surjanovic & Bingham, Virtual Library of Simulation Experiments): weights of the four bumps, their widths and places.
WEIGHTS = np.array([1.0, 1.2, 3.0, 3.2])
WIDTHS = {
    3: np.array([[3, 10, 30], [0.1, 10, 35], [3, 10, 30], [0.1, 10, 35]], dtype=np.float64),
    6: np.array([[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]),
}
PLACES = {
    3: np.array([[3689, 1170, 2673], [4699, 4387, 7470], [1091, 8732, 5547], [381, 5743, 8828]]) / 10_000,
    6: np.array(
        [
            [1312, 1696, 5569, 124, 8283, 5886],
            [2329, 4135, 8307, 3736, 1004, 9991],
            [2348, 1451, 3522, 2883, 3047, 6650],
            [4047, 8828, 8732, 5743, 1091, 381],
        ]
    )
    / 10_000,
}
BEST = {3: 3.86278, 6: 3.32237}


@dataclass(frozen=True)
class Family:
    """Learning curves over a space.

    Attributes:
        value: (params, epoch, seed) → the metric as reported, noise included.
        truth: (params, seed) → the metric at full length without noise.
        best: of `truth`.
    """

    name: str
    space: Space
    value: Callable[[Mapping[str, Any], int, int], float]
    truth: Callable[[Mapping[str, Any], int], float]
    best: float


def hartmann(dims: int, bias: float = 1.0, noise: float = 0.05) -> Family:
    """MFHartmann with `dims` 3 or 6: at share z of the epochs bump i has weight α_i - bias · 0.1 · (1 - z), and the height is learnt as 1 - 0.7 · (1 - z)².

    Args:
        bias: of low fidelities.
        noise: sd at the first epoch; it shrinks to a tenth.
    """
    names = [f"x{place}" for place in range(dims)]

    def point(params: Mapping[str, Any], seed: int) -> Floats:
        shift = generator(seed, "hartmann", dims).uniform(-0.1, 0.1, dims)
        return np.array([float(params[name]) for name in names]) + shift

    def height(x: Floats, share: float) -> float:
        weights = WEIGHTS - bias * 0.1 * (1 - share)
        return float(weights @ np.exp(-(WIDTHS[dims] * (x - PLACES[dims]) ** 2).sum(axis=1)))

    def value(params: Mapping[str, Any], epoch: int, seed: int) -> float:
        share = epoch / EPOCHS
        drawn = np.random.default_rng([int(sha256_json(dict(params))[:8], 16), seed, epoch]).normal()
        learnt = 1 - 0.7 * (1 - share) ** 2
        return learnt * height(point(params, seed), share) + noise * (1 - 0.9 * share) * float(drawn)

    # The optimum stays inside: it moves by at most .1 within bounds that are .2 wider than the cube.
    space = Space(tuple(Uniform(name, -0.2, 1.2) for name in names))
    return Family(f"hartmann{dims}", space, value, lambda params, seed: height(point(params, seed), 1.0), BEST[dims])


def lora() -> Family:
    """The surface of tests/tuning/simulated.py, with a seed in its noise; best: rank 8, lr .005, leakage within the limit."""

    def value(params: Mapping[str, Any], epoch: int, seed: int) -> float:
        key = sha256_json([dict(params), seed])
        return float(simulated.metrics_of(params, key, epoch)["score"])

    def truth(params: Mapping[str, Any], seed: int) -> float:
        rank, lr, weight = (float(params[name]) for name in ("lora_rank", "lr", "leakage_weight"))
        peak = 0.8 - 0.1 * abs(math.log10(lr / 5e-3)) - 0.02 * abs(math.log2(rank / 8))
        leakage = 0.4 / (1 + weight)
        return 0.33 + (peak - 0.33) * (1 - math.exp(-EPOCHS / 3)) - 3 * max(0.0, leakage - 0.3)

    return Family("lora", simulated.SPACE, value, truth, 0.33 + 0.47 * (1 - math.exp(-EPOCHS / 3)))


def demo() -> Family:
    """The demo, trained beforehand; noise is that of its training, and the best is the best of the table."""
    table = read_table()
    rates = sorted({point[NAMES.index("lr")] for point in table})
    ranks, weights = (tuple(sorted({point[place] for point in table})) for place in range(2))

    def value(params: Mapping[str, Any], epoch: int, seed: int) -> float:
        lr = min(rates, key=lambda rate: abs(math.log(rate / params["lr"])))
        return table[params["lora_rank"], params["leakage_weight"], lr][epoch - 1]

    space = Space(
        (Categorical("lora_rank", ranks), Categorical("leakage_weight", weights), Uniform("lr", rates[0], rates[-1], log=True))
    )
    best = max(scores[-1] for scores in table.values())
    return Family("demo", space, value, lambda params, seed: value(params, EPOCHS, seed), best)


FAMILIES: Mapping[str, Callable[[], Family]] = {
    "hartmann3": lambda: hartmann(3),
    "hartmann6": lambda: hartmann(6),
    "lora": lora,
    "demo": demo,
}


@dataclass(frozen=True)
class Engine:
    """A sampler, with or without early stopping."""

    sampler: Literal["TPE", "GP", "W&B bayes", "random"]
    early: bool

    @property
    def name(self) -> str:
        """As in the table."""
        return (
            f"{self.sampler}{' + hyperband' if self.early and self.sampler == 'W&B bayes' else ' + ASHA' if self.early else ''}"
        )


ENGINES = tuple(Engine(sampler, early) for sampler in ("random", "TPE", "GP", "W&B bayes") for early in (False, True))


@dataclass
class Timed:
    """A suggester whose suggestions are timed, in seconds of this process."""

    inner: Suggester
    seconds: list[float] = field(default_factory=list)

    def ask(self, number: int, attempt: int) -> Mapping[str, Any] | None:
        """As the inner one's."""
        begun = time.process_time()
        draw = self.inner.ask(number, attempt)
        self.seconds.append(time.process_time() - begun)
        return draw

    def accept(self, number: int, draw: Mapping[str, Any]) -> None:
        """As the inner one's."""
        self.inner.accept(number, draw)

    def params(self, draw: Mapping[str, Any]) -> dict[str, Any]:
        """As the inner one's."""
        return self.inner.params(draw)

    def tell(self, number: int, state: State, values: Sequence[float]) -> None:
        """As the inner one's."""
        self.inner.tell(number, state, values)


@dataclass(frozen=True)
class Search:
    """One search: its best full-length trial's reported value by trials and by epochs, regret after each of `BUDGETS` and at the end, and time per
    suggestion."""

    trials: Curve
    epochs: Curve
    regrets: tuple[float | None, ...]
    regret: float | None
    ms: float


def search(family: Family, engine: Engine, order: Order, trials: int, seed: int, sweeps: Any) -> Search:
    """Run one search of `trials` trials on four workers of equal pace, ± 30 % per epoch."""
    settings = Settings(
        trials, SLOTS, EPOCHS, GRACE if engine.early else None, ETA, order, derive_seed(seed, engine.sampler), metric="value"
    )
    core, timed = _core(family, engine, settings, sweeps)

    def outcome(grant: Grant) -> dict[str, float]:
        return {"value": family.value(grant.params, grant.epoch, seed)}

    def seconds(grant: Grant) -> float:
        return 1.0 + 0.3 * float(np.random.default_rng([seed, grant.trial, grant.epoch]).uniform(-1, 1))

    clock = simulated.Clock(core, SLOTS, seconds, outcome)
    assert clock.run()
    return _measured(core, clock, family, seed, 1000 * median(timed.seconds))


def _core(family: Family, engine: Engine, settings: Settings, sweeps: Any) -> tuple[Core, Timed]:
    if engine.sampler == "W&B bayes":
        drawn = Timed(SweepsSuggester(sweeps, family.space, settings, "bayes"))
        return SweepsCore(settings, drawn, simulated.key_of, DictMemo(), sweeps), drawn
    name: Literal["tpe", "gp", "random"] = "tpe" if engine.sampler == "TPE" else "gp" if engine.sampler == "GP" else "random"
    ours = Timed(make_suggester(family.space, settings, method="bayes", sampler=name))
    return Core(settings, ours, simulated.key_of, DictMemo()), ours


def _measured(core: Core, clock: simulated.Clock, family: Family, seed: int, ms: float) -> Search:
    full = {trial.key: trial for trial in core.trials if trial.state == "COMPLETE"}
    by_trial = _rising((trial.number + 1.0, core.value(trial.reports[-1])) for trial in full.values())
    ended = [(float(cost), key) for cost, (key, epoch) in enumerate(clock.trained, 1) if key in full and epoch == EPOCHS]
    by_epoch = _rising((cost, core.value(full[key].reports[-1])) for cost, key in ended)

    def regret(keys: Sequence[str]) -> float | None:
        best = max(keys, key=lambda key: core.value(full[key].reports[-1]), default=None)
        return None if best is None else family.best - family.truth(full[best].params, seed)

    budgets = tuple(regret([key for cost, key in ended if cost <= spent(share, core.settings.run_cap)]) for share in BUDGETS)
    return Search(
        Curve(by_trial, float(len(core.trials))), Curve(by_epoch, float(len(clock.trained))), budgets, regret(list(full)), ms
    )


def spent(share: float, trials: int) -> int:
    """Epochs that are `share` of what as many full trials take."""
    return int(share * trials * EPOCHS)


def _rising(points: Iterator[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    found: list[tuple[float, float]] = []
    for cost, value in points:
        if not found or value > found[-1][1]:
            found.append((cost, value))
    return tuple(found)


def row(engine: Engine, order: Order, found: Sequence[Search], random: Sequence[Search]) -> str:
    """A line of the table."""
    target = median(one.epochs.final for one in random if one.epochs.final is not None)
    trials, epochs = [time_to(one.trials, target) for one in found], [time_to(one.epochs, target) for one in found]
    in_all = median(one.epochs.end for one in found)
    regrets = [_regret([one.regrets[place] for one in found]) for place in range(len(BUDGETS))]
    reached = sum(reach.reached for reach in epochs)
    return (
        f"{engine.name:<22} {order:<7} {_cost(trials):>7} {_cost(epochs):>7} {reached:>4}/{len(found):<3} {in_all:>7.0f}  "
        f"{'  '.join(f'{one:>22}' for one in regrets)}  {_regret([one.regret for one in found]):>22} {median(one.ms for one in found):>8.1f}"
    )


def _regret(found: Sequence[float | None]) -> str:
    low, middle, high = quartiles([None if value is None else -value for value in found])
    best, usual, worst = ("none" if value is None else f"{max(0.0, -value):.3f}" for value in (high, middle, low))
    return f"{usual} [{best}, {worst}]"


def _cost(reaches: Sequence[Reach]) -> str:
    found = median_time(reaches)
    return f"{found:.0f}" if found is not None else f"> {max(reach.cost for reach in reaches):.0f}"


def table(
    families: Sequence[str], orders: Sequence[Order], engines: Sequence[str], trials: int, seeds: int, sweeps: Any
) -> Iterator[str]:
    """The table, line by line; random search without early stopping, the yardstick, is always run."""
    yield f"{trials} trials of {EPOCHS} epochs, {SLOTS} slots and workers, {seeds} seeds; regret: median [quartiles]; ms: CPU, median"
    budgets = "  ".join(f"{f'regret, {spent(share, trials)} epochs':>22}" for share in BUDGETS)
    for name in families:
        family = FAMILIES[name]()

        @cache
        def searches(engine: Engine, order: Order, family: Family = family) -> list[Search]:
            return [search(family, engine, order, trials, seed, sweeps) for seed in range(seeds)]

        yield f"\n{name:<22} {'order':<7} {'to random’s median best':^24} {'epochs':>7}"
        yield f"{'':<22} {'':<7} {'trials':>7} {'epochs':>7} {'reached':>8} {'in all':>7}  {budgets}  {'regret at the end':>22} {'ms each':>8}"
        for order in orders:
            random = searches(ENGINES[0], order)
            for engine in ENGINES:
                if engine.name in engines and (engine.sampler != "W&B bayes" or sweeps is not None):
                    yield row(engine, order, searches(engine, order), random)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=Path, default=TARGET)
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--orders", default="rounds,async")
    parser.add_argument("--engines", default=",".join(engine.name for engine in ENGINES))
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    try:
        sweeps = load_sweeps(arguments.sweeps)
    except MissingDependency as error:
        sys.stdout.write(f"{error}\n")
        sweeps = None
    orders: list[Order] = ["async" if name == "async" else "rounds" for name in arguments.orders.split(",")]
    engines = arguments.engines.split(",")
    for line in table(arguments.families.split(","), orders, engines, arguments.trials, arguments.seeds, sweeps):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
