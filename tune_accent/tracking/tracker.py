"""What every tracker is: told the figures of each epoch, closed at the end, and harmless."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tune_accent.base.files import canonical_json


class Tracker(Protocol):
    """Where figures go. A tracker never harms the search."""

    def epoch(self, trial: int, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Note the figures of one finished epoch."""

    def close(self) -> None:
        """Flush and release."""


class NoTracker:
    """Tracks nothing."""

    def epoch(self, trial: int, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Note nothing."""

    def stopped(self) -> None:
        """Note nothing."""

    def close(self) -> None:
        """Nothing to release."""


class Several:
    """Tells all of `trackers`, in order; none of them is a tracker as well."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self.trackers = tuple(trackers)

    def epoch(self, trial: int, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Tell each."""
        for tracker in self.trackers:
            tracker.epoch(trial, epoch, metrics)

    def close(self) -> None:
        """Close each."""
        for tracker in self.trackers:
            tracker.close()


class TrackedTrial(Protocol):
    """What a tracker asks of a trial; `state` is RUNNING until it has ended."""

    @property
    def number(self) -> int: ...

    @property
    def key(self) -> str: ...

    @property
    def params(self) -> Mapping[str, Any]: ...

    @property
    def state(self) -> str: ...

    @property
    def reports(self) -> Sequence[Mapping[str, Any]]: ...


def logged(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """`metrics` as values that a tracker keeps under the same names: numbers, booleans, null and text as they are, records as canonical JSON text."""
    return {name: value if _plain(value) else canonical_json(value) for name, value in metrics.items()}


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)
