"""What another number of trials does to the trials that were there already, so that a person is told why a row of the table changed.

With `run_cap` raised the table becomes that of an uninterrupted larger search. A trial that began in the same round as a new one is then judged
beside it: it may be trained further than before (from its last checkpoint), or end earlier, and its later epochs stay in the memo, unused.
With `run_cap` lowered the table becomes that of the smaller search, and the memo keeps the rest.

`earlier.json` in the results folder holds how far every trial had come when the number was last changed. Nothing but these words reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tune_accent.base.errors import DataError
from tune_accent.base.files import read_json, write_json
from tune_accent.tuning.core import Trial
from tune_accent.tuning.folder import Spec, read_spec

SHOWN = 8  # trials that are named


@dataclass(frozen=True)
class Earlier:
    """The search before its number of trials was changed.

    Attributes:
        run_cap: the number.
        epochs: epochs that each trial that had ended was judged by, in order of the trials; None: it had not ended.
    """

    run_cap: int
    epochs: tuple[int | None, ...]


def note_change(root: Path, spec: Spec, replay: Callable[[int], Sequence[Trial]]) -> int | None:
    """Before a folder is continued: keep how far its trials have come, if this launch wants another number of them.

    Args:
        root: the results folder.
        spec: of this launch.
        replay: the trials of the search with the given number, from the memo alone.

    Returns:
        The earlier number of trials; None where it is the same, or the folder is new or another search's.
    """
    before = read_spec(root)
    if before is None or before.sha256() != spec.sha256():
        return None
    number = before.space.get("run_cap")
    if not isinstance(number, int) or number < 1 or number == spec.space["run_cap"]:
        return None
    epochs = [None if trial.state == "RUNNING" else len(trial.reports) for trial in replay(number)]
    write_json(root / "earlier.json", asdict(Earlier(number, tuple(epochs))))
    return number


def read_earlier(root: Path, run_cap: int) -> Earlier | None:
    """What `note_change` kept; None where there is nothing, or it is about the present number of trials."""
    try:
        content = read_json(root / "earlier.json")
        earlier = Earlier(int(content["run_cap"]), tuple(None if epochs is None else int(epochs) for epochs in content["epochs"]))
    except (FileNotFoundError, DataError, KeyError, TypeError, ValueError, OverflowError):
        return None
    return None if earlier.run_cap == run_cap else earlier


def change_words(earlier: Earlier | None, trials: Sequence[Trial], run_cap: int) -> list[str]:
    """Lines for the end of a launch; none where nothing is to be said.

    Args:
        earlier: the search before its number of trials was changed.
        trials: all of the search as it stands.
        run_cap: their number.
    """
    lines = []
    if earlier is not None and earlier.run_cap < run_cap:
        lines += _further(earlier, trials)
    if earlier is not None and earlier.run_cap > run_cap:
        lines.append(
            f"  This folder has held a search of {earlier.run_cap} trials; the table is that of {run_cap}, as if there had never been more. "
            "The rest stays in the memo: raise the number again, and it counts again."
        )
    return lines + _unused(trials)


def _further(earlier: Earlier, trials: Sequence[Trial]) -> list[str]:
    known = [
        (trial, epochs)
        for trial, epochs in zip(trials, earlier.epochs, strict=False)
        if trial.state != "DUPLICATE" and epochs is not None
    ]
    further = [(trial, epochs) for trial, epochs in known if len(trial.reports) > epochs]
    if not further:
        return []
    told = _list(f"{trial.number} (epoch {epochs} → {len(trial.reports)}, {trial.state.lower()})" for trial, epochs in further)
    return [
        f"  In the search of {earlier.run_cap} trials these ended earlier; beside the new ones they were trained further: {told}."
    ]


def _unused(trials: Sequence[Trial]) -> list[str]:
    left = [(trial, trial.unused()) for trial in trials if trial.unused()]
    if not left:
        return []
    told = _list(f"{trial.number} ({trial.state.lower()} after {len(trial.reports)}, {count} more)" for trial, count in left)
    count = sum(count for _, count in left)
    return [
        f"  {count} finished epoch{'s' if count > 1 else ''} in the memo {'are' if count > 1 else 'is'} not used by this search: trial {told}."
    ]


def _list(items: Iterable[str]) -> str:
    every = list(items)
    rest = f" and {len(every) - SHOWN} more trials" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + rest
