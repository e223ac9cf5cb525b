"""What finished epochs were worth: the search remembers here and nowhere else, so that resuming is running again.

A memo is keyed by what is trained (`key`: the hash of a trial's resolved config, seed, data and protocol), never by who trains it or when.
`FolderMemo` keeps it below `ray_results/<name>/`, where every file is whole or absent and carries the checksum of its own content and place:

    trials/<key>/NNNN/         the checkpoint after epoch N, written first by the program
    trials/<key>/NNNN.json     {"key", "epoch", "metrics", "sha256"}: this file makes the epoch count
    trials/<key>/failure.json  {"key", "failure", "sha256"}: why the trial ended early; final once written
    suggestions/NNNNN.json     {"number", "draw", "sha256"}: what the sampler drew for a trial

Does *not* cover two searches in one folder (the driver holds its lock), nor the content of checkpoints (the program checks them).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tune_accent.base.errors import DataError, Diverged, TrialFailure, visible
from tune_accent.base.files import read_json, remove, sha256_json, write_json

logger = logging.getLogger(__name__)
STATES = ("DIVERGED", "OOM", "TIMEOUT", "CRASHED")  # in which a failure leaves a trial
Fault = Callable[[Mapping[str, Any]], str | None]  # what is wrong with a report or a draw, in words


@dataclass(frozen=True)
class Failure:
    """Why a trial ended before its time.

    Args:
        state: one of `STATES`.
        epoch: the epoch that did not finish, from 1.
        message: one line for the table and the log.
    """

    state: str
    epoch: int
    message: str

    @classmethod
    def of(cls, error: TrialFailure, epoch: int) -> Failure:
        """The record of `error`, raised by epoch `epoch`."""
        return cls(error.state, epoch, str(error))


class Memo(Protocol):
    """Results of epochs, failures of trials and draws of the sampler, by key and number."""

    def reports(self, key: str) -> Sequence[Mapping[str, Any]]:
        """Metrics of the finished epochs 1…n, without a gap."""

    def failure(self, key: str) -> Failure | None:
        """The failure that ended `key`, if any."""

    def record(self, key: str, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Epoch `epoch` of `key` is finished, and its checkpoint is written. `Diverged` if a metric is not finite."""

    def record_failure(self, key: str, failure: Failure) -> None:
        """`key` ends here, for good."""

    def suggestion(self, number: int) -> Mapping[str, Any] | None:
        """What the sampler drew for trial `number`, if it was asked already."""

    def record_suggestion(self, number: int, draw: Mapping[str, Any]) -> None:
        """The sampler drew `draw` for trial `number`."""


def not_finite(metrics: Mapping[str, Any]) -> list[str]:
    """Names of the metrics that are NaN or infinite; None is a value ("not identifiable")."""
    return sorted(name for name, value in metrics.items() if isinstance(value, float) and not math.isfinite(value))


def refuse_not_finite(metrics: Mapping[str, Any]) -> None:
    """`Diverged` if a metric is NaN or infinite; step and gradient norm are taken from the metrics where they have them."""
    if names := not_finite(metrics):
        norm = metrics.get("grad_norm")
        finite = isinstance(norm, float) and math.isfinite(norm)
        raise Diverged(", ".join(names), int(metrics.get("step") or 0), norm if finite else None)


class DictMemo:
    """A memo in memory, for simulations."""

    def __init__(self) -> None:
        self.epochs: dict[str, dict[int, Mapping[str, Any]]] = {}
        self.failures: dict[str, Failure] = {}
        self.draws: dict[int, Mapping[str, Any]] = {}

    def reports(self, key: str) -> Sequence[Mapping[str, Any]]:
        """Metrics of the finished epochs 1…n, without a gap."""
        known = self.epochs.get(key, {})
        return [known[epoch] for epoch in _contiguous(known)]

    def failure(self, key: str) -> Failure | None:
        """The failure that ended `key`, if any."""
        return self.failures.get(key)

    def record(self, key: str, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Epoch `epoch` of `key` is finished. `Diverged` if a metric is not finite."""
        refuse_not_finite(metrics)
        self.epochs.setdefault(key, {})[epoch] = dict(metrics)

    def record_failure(self, key: str, failure: Failure) -> None:
        """`key` ends here, for good."""
        self.failures[key] = failure

    def suggestion(self, number: int) -> Mapping[str, Any] | None:
        """What the sampler drew for trial `number`, if it was asked already."""
        return self.draws.get(number)

    def record_suggestion(self, number: int, draw: Mapping[str, Any]) -> None:
        """The sampler drew `draw` for trial `number`."""
        self.draws[number] = dict(draw)


class FolderMemo:
    """A memo in the results folder `root`; see the module's docstring for its files.

    A damaged file is as good as absent, with a warning that names it: its epoch is trained again, its failure met again, its draw made again.
    One whose checksum is right and whose shape is wrong is no accident, but another version or a person: it is refused (`DataError`).

    Args:
        root: the results folder.
        report_fault: what a search finds wrong with a report that it reads.
        draw_fault: the same for a draw.
    """

    def __init__(self, root: Path, report_fault: Fault = lambda metrics: None, draw_fault: Fault = lambda draw: None) -> None:
        self.root, self._report_fault, self._draw_fault = root, report_fault, draw_fault

    def trial_folder(self, key: str) -> Path:
        """Where the epochs and checkpoints of `key` are."""
        return self.root / "trials" / key

    def checkpoint(self, key: str, epoch: int) -> Path:
        """Where the program keeps its checkpoint after `epoch`."""
        return self.trial_folder(key) / f"{epoch:04d}"

    def reports(self, key: str) -> Sequence[Mapping[str, Any]]:
        """Metrics of the finished epochs 1…n, without a gap; n ends before the first damaged file."""
        found: list[Mapping[str, Any]] = []
        while (content := self._report(key, len(found) + 1)) is not None:
            found.append(content)
        return found

    def forget(self, key: str, epoch: int) -> None:
        """Epoch `epoch` of `key` does not count any more: it will be granted and trained again."""
        remove(self._epoch_file(key, epoch))

    def failure(self, key: str) -> Failure | None:
        """The failure that ended `key`, if any."""
        content = _read(self.trial_folder(key) / "failure.json", {"key": key}, "failure", _failure_fault)
        return None if content is None else Failure(**content)

    def record(self, key: str, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Epoch `epoch` of `key` is finished, and its checkpoint is written. `Diverged` if a metric is not finite."""
        refuse_not_finite(metrics)
        _write(self._epoch_file(key, epoch), {"key": key, "epoch": epoch, "metrics": dict(metrics)})

    def record_failure(self, key: str, failure: Failure) -> None:
        """`key` ends here, for good."""
        content = {"state": failure.state, "epoch": failure.epoch, "message": failure.message}
        _write(self.trial_folder(key) / "failure.json", {"key": key, "failure": content})

    def suggestion(self, number: int) -> Mapping[str, Any] | None:
        """What the sampler drew for trial `number`, if it was asked already."""
        return _read(self._suggestion_file(number), {"number": number}, "draw", self._draw_fault)

    def record_suggestion(self, number: int, draw: Mapping[str, Any]) -> None:
        """The sampler drew `draw` for trial `number`."""
        _write(self._suggestion_file(number), {"number": number, "draw": dict(draw)})

    def _report(self, key: str, epoch: int) -> dict[str, Any] | None:
        return _read(self._epoch_file(key, epoch), {"key": key, "epoch": epoch}, "metrics", self._report_fault)

    def _epoch_file(self, key: str, epoch: int) -> Path:
        return self.trial_folder(key) / f"{epoch:04d}.json"

    def _suggestion_file(self, number: int) -> Path:
        return self.root / "suggestions" / f"{number:05d}.json"


class ReadOnlyMemo(FolderMemo):
    """A folder's memo for a replay that only looks: what it would add is dropped."""

    def record(self, key: str, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Nothing is written."""

    def record_failure(self, key: str, failure: Failure) -> None:
        """Nothing is written."""

    def record_suggestion(self, number: int, draw: Mapping[str, Any]) -> None:
        """Nothing is written."""


def _contiguous(epochs: Iterable[int]) -> range:
    """1…n, where n is the last epoch before the first gap."""
    known, last = set(epochs), 0
    while last + 1 in known:
        last += 1
    return range(1, last + 1)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_json(path, {**content, "sha256": sha256_json(content)})


def _read(path: Path, place: Mapping[str, Any], field: str, fault: Fault) -> dict[str, Any] | None:
    """`field` of the file at `path`; None where it is absent, or damaged, or belongs to another `place` (then with a warning).

    Raises:
        DataError: its checksum is right, and its shape is not.
    """
    try:
        content = read_json(path)
        whole = content.pop("sha256") == sha256_json(content)
    except FileNotFoundError:
        return None
    except (DataError, AttributeError, KeyError, TypeError, ValueError, RecursionError):
        whole = False
    if not whole or (right := _checked(path, content, place, field, fault)) is None:
        logger.warning("%s is damaged: it is left out, and what it held is made again", path)
        return None
    return right


def _checked(path: Path, content: Mapping[str, Any], place: Mapping[str, Any], field: str, fault: Fault) -> dict[str, Any] | None:
    why = names_fault(content, [*place, field])
    if why is None:
        kinds = {**{name: type(expected) for name, expected in place.items()}, field: dict}
        other = [name for name, kind in kinds.items() if type(content[name]) is not kind]
        why = f"{other[0]} is of another kind" if other else fault(content[field])
    if why is not None:
        raise DataError(
            f"its checksum is right, but {visible(why)}: another version of tune_accent wrote it, or somebody changed it",
            str(path),
            "remove it: the same command then makes anew what it held",
        )
    return dict(content[field]) if all(content[name] == expected for name, expected in place.items()) else None


def names_fault(content: Mapping[str, Any], names: Iterable[str]) -> str | None:
    """In words, which of `names` is not in `content`, or what else is; None where they agree."""
    expected = set(names)
    missing, more = sorted(expected - set(content)), sorted(set(content) - expected)
    if missing:
        return f"{missing[0]} is missing"
    return f"{more[0][:40]!r} has no meaning" if more else None


def _failure_fault(content: Mapping[str, Any]) -> str | None:
    why = names_fault(content, ("state", "epoch", "message"))
    if why is not None:
        return why
    if content["state"] not in STATES:
        return f"the state of a failure is one of {', '.join(STATES)}"
    if type(content["epoch"]) is not int or content["epoch"] < 1:
        return "epoch is no number of an epoch"
    return None if isinstance(content["message"], str) else "message is no text"
