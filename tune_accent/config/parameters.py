"""The kinds of searched parameters, as frozen objects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

Scalar: TypeAlias = bool | int | float | str | None
MAX_GRID = 100_000


@dataclass(frozen=True)
class Categorical:
    """One of `values`, each as the experiment holds it (0 is 0.0 where the key takes numbers)."""

    name: str
    values: tuple[Scalar, ...]

    @property
    def edges(self) -> tuple[Scalar, ...]:
        """The values that stand for all others in checks."""
        return self.values

    @property
    def grid(self) -> tuple[Scalar, ...] | None:
        """Every value, for `method: grid`; None where they cannot be counted."""
        return self.values


@dataclass(frozen=True)
class Uniform:
    """A number from [low, high], uniform or log-uniform; with `q`, rounded to a multiple of it."""

    name: str
    low: float
    high: float
    log: bool = False
    q: float | None = None

    def snap(self, value: float) -> float:
        """`value` rounded to the nearest multiple of `q`, as W&B does: `round(value / q) · q`, half to even, not clipped to the bounds."""
        return value if self.q is None else float(round(value / self.q) * self.q)

    @property
    def edges(self) -> tuple[Scalar, ...]:
        """The bounds, rounded."""
        return self.snap(self.low), self.snap(self.high)

    @property
    def grid(self) -> tuple[Scalar, ...] | None:
        """low, low + q, ... below high, for q_uniform: W&B's grid is `numpy.arange(min, max, q)`, to the bit.

        So `max` is no point of it (but for the rounding of `arange`: 0.4 is one of min 0.1, max 0.4, q 0.1), and none is rounded to a multiple of
        q: both are otherwise where W&B draws at random. Where min is max, W&B has no trial at all; here it is the one point.
        """
        if self.q is None or self.log or (self.high - self.low) / self.q > MAX_GRID:
            return None
        step = (self.low + self.q) - self.low
        return tuple(self.low + place * step for place in range(max(1, math.ceil((self.high - self.low) / self.q))))


@dataclass(frozen=True)
class Integer:
    """A whole number from [low, high], both included."""

    name: str
    low: int
    high: int

    @property
    def edges(self) -> tuple[Scalar, ...]:
        """The bounds."""
        return self.low, self.high

    @property
    def grid(self) -> tuple[Scalar, ...] | None:
        """Every whole number of the range."""
        return None if self.high - self.low > MAX_GRID else tuple(range(self.low, self.high + 1))


@dataclass(frozen=True)
class Constant:
    """The same value in every trial."""

    name: str
    value: Scalar

    @property
    def edges(self) -> tuple[Scalar, ...]:
        """The value."""
        return (self.value,)

    @property
    def grid(self) -> tuple[Scalar, ...] | None:
        """The value."""
        return (self.value,)


Parameter: TypeAlias = Categorical | Uniform | Integer | Constant


def total(parameters: Sequence[Parameter]) -> int | None:
    """How many points the grid of `parameters` has; None where it cannot be counted."""
    sizes = [None if parameter.grid is None else len(parameter.grid) for parameter in parameters]
    return None if None in sizes else math.prod(size for size in sizes if size is not None)
