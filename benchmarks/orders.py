"""The orders that are set beside each other, over the simulated space of the tests: "async", "rounds", rounds "in step", and whole batches.

In step: nobody runs ahead of a round, so that every worker waits for the slowest epoch.

Whole batches are the other exact order, the one that rounds of one epoch replace: decisions look only at earlier batches of trials. The trials of
a batch go on without waiting for each other; early stopping judges each against the batches before it; the sampler is asked again when the
whole batch has ended. This is as reproducible as rounds, but workers wait for the last trial of every batch, and nobody stops the first batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from tests.tuning.simulated import SPACE, key_of
from tune_accent.tuning.core import Core, Grant, Metrics, Settings, Suggester, Trial
from tune_accent.tuning.memo import Failure, Memo
from tune_accent.tuning.suggest import Method, make_suggester

Order: TypeAlias = Literal["async", "rounds", "in step", "batches"]
ORDERS: tuple[Order, ...] = ("async", "rounds", "in step", "batches")


class WholeBatches(Core):
    """A core whose rounds are whole trials. Arguments as those of `Core`; `settings.order` is overruled."""

    def __init__(self, settings: Settings, suggester: Suggester, key_of: Callable[[Mapping[str, Any]], str], memo: Memo) -> None:
        super().__init__(replace(settings, order="async"), suggester, key_of, memo)
        self._earlier = copy.deepcopy(self._rungs)
        self._between = True

    def _settle(self, grant: Grant, result: Metrics | Failure) -> None:
        self._rungs = copy.deepcopy(self._earlier)
        super()._settle(grant, result)

    def _begin(self) -> None:
        self._between = all(slot is None for slot in self._slots)
        if self._between:
            for trial in self._trials:
                for epoch, metrics in enumerate(trial.reports, 1):
                    self._earlier.record(trial.number, epoch, self._value(metrics))
        super()._begin()

    def _next_trial(self) -> Trial | None:
        return super()._next_trial() if self._between else None


def simulated_core(order: Order, settings: Settings, memo: Memo, method: Method = "bayes") -> Core:
    """A core over the simulated space that decides in `order`."""
    made: type[Core] = WholeBatches if order == "batches" else Core
    settings = replace(settings, order="async" if order == "async" else "rounds")
    settings = replace(settings, run_ahead=0) if order == "in step" else settings
    return made(settings, make_suggester(SPACE, settings, method=method), key_of, memo)
