"""Early stopping: the stopping rule of ASHA (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning"), by rounds.

Rungs lie at `min_iter · eta^k` epochs, below a full trial's length. A trial that reaches a rung goes on if its value is among the best
1/eta of all values seen at that rung so far (rounded up, ties go on): with eta 3 the first of three goes on, or two of four.
Bigger is better. `record` takes the values of a whole round before `decide` is asked about any of them, so that slots of one round
are judged against each other and not by who came first.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from typing import Literal

Decision = Literal["go", "stop"]


class Rungs:
    """Values at every rung, and who goes on.

    Args:
        min_iter: grace period in epochs, ≥ 1; None stops nothing.
        eta: reduction factor, > 1.
        max_epochs: length of a full trial; nobody is stopped there.
    """

    def __init__(self, min_iter: int | None, eta: float, max_epochs: int) -> None:
        self.levels = _levels(min_iter, eta, max_epochs) if min_iter else ()
        self._eta = eta
        self._values: dict[int, dict[int, float]] = {level: {} for level in self.levels}
        self._ordered: dict[int, list[float]] = {level: [] for level in self.levels}

    def record(self, trial: int, epoch: int, value: float) -> None:
        """`trial` was worth `value` after `epoch`; counts where `epoch` is a rung."""
        if epoch not in self._values or self._values[epoch].get(trial) == value:
            return
        ordered, before = self._ordered[epoch], self._values[epoch].get(trial)
        if before is not None:
            del ordered[bisect_left(ordered, before)]
        insort(ordered, value)
        self._values[epoch][trial] = value

    def decide(self, trial: int, epoch: int, value: float) -> Decision:
        """Whether `trial`, worth `value` after `epoch`, goes on; its value is recorded if it was not yet."""
        self.record(trial, epoch, value)
        if epoch not in self._values:
            return "go"
        ordered = self._ordered[epoch]
        better = len(ordered) - bisect_right(ordered, value)
        return "go" if better < math.ceil(len(ordered) / self._eta - 1e-9) else "stop"


def _levels(min_iter: int, eta: float, max_epochs: int) -> tuple[int, ...]:
    if min_iter < 1 or eta <= 1:
        raise ValueError(f"min_iter must be at least 1 and eta above 1, got {min_iter} and {eta}")
    levels: list[int] = []
    level = float(min_iter)
    while round(level) < max_epochs:
        if not levels or round(level) > levels[-1]:
            levels.append(round(level))
        level *= eta
    return tuple(levels)
