"""Who is told what Ray does while it trains: the person, and the files that grow with every epoch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from tune_accent.tuning.relay import Decision, EpochDone, Event


class Shown(AbstractContextManager[Any], Protocol):
    """What a person sees while Ray trains; it is open as long as that lasts."""

    def epoch_done(self) -> None:
        """An epoch was trained."""

    def trial_ended(self) -> None:
        """A trial has ended."""


@dataclass(frozen=True)
class Watch:
    """Who is told what Ray does.

    Attributes:
        shown: the person.
        on_epoch: told every finished epoch, before the core is.
        on_decision: called when a trial has ended.
    """

    shown: Shown
    on_epoch: Callable[[EpochDone], None]
    on_decision: Callable[[], None] = lambda: None

    def hear(self, event: Event) -> None:
        """Pass an event on."""
        if isinstance(event, EpochDone):
            self.on_epoch(event)
            self.shown.epoch_done()
        if isinstance(event, Decision):
            self.shown.trial_ended()
            self.on_decision()
