"""What search and paper run have spent, from their `timing.csv`: a row per epoch that was executed, those of failed and stopped runs and repeated ones too.

An epoch that failed before its end has no row: what it took is not known. A line that a power loss tore is left out.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tune_accent.base.storage import explained
from tune_accent.paper.results import Compute, TrainedRun
from tune_accent.tuning.core import Trial
from tune_accent.tuning.results import timing_columns

logger = logging.getLogger(__name__)
PARTS = ("search", "paper")
OUTSIDE = "OUTSIDE"  # epochs of runs that are none of these results: of a larger number of trials, or of other arms or seeds
STATES = ("COMPLETE", "STOPPED", "DIVERGED", "OOM", "CRASHED", "TIMEOUT", "DUPLICATE", "RUNNING", OUTSIDE)


@dataclass(frozen=True)
class Executed:
    """One row of a `timing.csv`.

    Attributes:
        run: number of a search's trial, key of a paper run.
        epoch: from 1.
        seconds: wall clock of training and evaluation.
        peak_mb: peak memory; 0 where the worker was lost.
    """

    run: str
    epoch: int
    seconds: float
    peak_mb: float


def compute_used(root: Path, trials: Sequence[Trial], runs: Sequence[TrainedRun]) -> Compute:
    """Runs, epochs and hours by part and state.

    Args:
        root: the results folder; `timing.csv` and `paper/timing.csv` in it are read, where they are.
        trials: of the search.
        runs: of the paper run; one that stands under several arms' names counts once.

    Returns:
        Rows {"part", "state", "runs", "epochs", "repeated", "hours"}: `epochs` counts executions, `repeated` those of them whose epoch had been
        executed before (a worker was lost, or a checkpoint damaged). `OUTSIDE` are epochs of runs that belong to neither `trials` nor `runs`.
    """
    executed = {"search": read_timing(root / "timing.csv"), "paper": read_timing(root / "paper" / "timing.csv")}
    states = {
        "search": {str(trial.number): str(trial.state) for trial in trials},
        "paper": {run.key: run.state for run in runs},
    }
    rows = [row for part in PARTS for row in _rows(part, executed[part], states[part])]
    peaks = [one.peak_mb for part in PARTS for one in executed[part]]
    return Compute(rows, max(peaks, default=None))


def read_timing(path: Path) -> list[Executed]:
    """The rows of a `timing.csv`; none where there is no such file. A torn line is left out, with a message in the log."""
    if not path.is_file():
        return []
    with explained(path):
        *lines, torn = path.read_text(encoding="utf-8", errors="replace").split("\n")
    columns = timing_columns(lines[0] if lines else "")
    found = [(line, _executed(line, columns)) for line in lines if line != ",".join(columns)]
    for line in [*(line for line, row in found if row is None and line), *([torn] if torn else [])]:
        logger.info("%s: %r is no whole line, and left out", path, line[:80])
    return [row for _, row in found if row is not None]


def _executed(line: str, columns: Sequence[str]) -> Executed | None:
    cells = line.rstrip("\r").split(",")
    if len(cells) != len(columns):
        return None
    named = dict(zip(columns, cells, strict=True))
    try:
        row = Executed(named["trial"], int(named["epoch"]), float(named["seconds"]), float(named["peak_mb"]))
    except ValueError:
        return None
    return row if math.isfinite(row.seconds) and math.isfinite(row.peak_mb) else None


def _rows(part: str, executed: Sequence[Executed], states: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    outside = {one.run: OUTSIDE for one in executed if one.run not in states}
    every = {**states, **outside}
    runs = Counter(every.values())
    for state in sorted(runs, key=_place):
        own = [one for one in executed if every[one.run] == state]
        epochs = {(one.run, one.epoch) for one in own}
        yield {
            "part": part,
            "state": state,
            "runs": runs[state],
            "epochs": len(own),
            "repeated": len(own) - len(epochs),
            "hours": math.fsum(one.seconds for one in own) / 3600,
        }


def _place(state: str) -> tuple[int, str]:
    return (STATES.index(state) if state in STATES else len(STATES), state)
