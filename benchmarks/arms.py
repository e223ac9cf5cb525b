"""The searches that `benchmarks.search_cost` measures, and in what they differ. Imports nothing, so that the one who measures stays small."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

ARMS = ("rounds", "async", "batches", "paired", "new")


@dataclass(frozen=True)
class Arm:
    """A search to be measured.

    Attributes:
        kind: "simulated" (epochs that sleep, no command around the search) or "demo" (all that the command does, on real speech).
        order: as in `benchmarks.orders`.
        reuse: whether workers are kept from trial to trial, or a new process is started for each.
        slots, workers, trials, epochs, min_iter: size of the search; `epochs` for a full trial, early stopping from `min_iter`.
        seconds: of a simulated epoch.
        space, config: files of the demo search, whose early stopping is the space's.
    """

    kind: Literal["simulated", "demo"]
    order: Literal["rounds", "async", "batches"] = "rounds"
    reuse: bool = True
    slots: int = 4
    workers: int = 2
    trials: int = 16
    epochs: int = 9
    min_iter: int = 3
    seconds: float = 0.25
    space: str = "search_spaces/lora.yaml"
    config: str = "configs/demo.yaml"


def arms(base: Arm, names: Sequence[str]) -> Iterator[tuple[str, Arm]]:
    """The named variants of a search."""
    paired = replace(base, slots=base.workers)
    variants = {
        "rounds": base,
        "async": replace(base, order="async"),
        "batches": replace(base, order="batches"),
        "paired": paired,
        "new": replace(paired, reuse=False),
    }
    yield from ((name, variants[name]) for name in names)
