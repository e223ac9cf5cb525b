"""What must hold of a search that was killed and continued, beside one that was not."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SAME = ("trials.csv", "epochs.jsonl", "best.json", "best/heads.safetensors")  # files that must be equal to the last bit
COLUMNS = ("faults", "searches", "same table", "lost", "extra", "again", "worst s")


@dataclass
class Tally:
    """A line of the table.

    Attributes:
        name: the fault.
        faults: how many were done.
        searches: how many searches they hit, each finished afterwards.
        same: how many of those have the trials.csv of the uninterrupted search.
        lost: finished epochs that were trained again.
        extra: trials, epochs or draws that the uninterrupted search does not have.
        again: epochs that were begun again, because a kill met them unfinished; None: not counted.
        worst_s: longest time from the fault to the end of the process; None: not measured.
        wrong: what did not hold, in words.
    """

    name: str
    faults: int = 0
    searches: int = 0
    same: int = 0
    lost: int = 0
    extra: int = 0
    again: int | None = None
    worst_s: float | None = None
    wrong: list[str] = field(default_factory=list)

    def finish(self, root: Path, reference: Path) -> None:
        """A search is finished: hold it against the uninterrupted one."""
        self.searches += 1
        self.same += digest(root) == digest(reference)
        self.extra += len(memo_files(root) - memo_files(reference))
        self.wrong += [f"{root.name}: {difference}" for difference in differences(root, reference)]

    def row(self) -> str:
        """Its line."""
        cells = (self.faults, self.searches, f"{self.same} of {self.searches}", self.lost, self.extra, self.again, self.worst_s)
        words = ["-" if cell is None else f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in cells]
        return f"{self.name:<38}" + "".join(f"{word:>12}" for word in words) + ("  NOT HELD" if self.wrong else "  held")


def header() -> str:
    """Names of the columns."""
    return f"{'':<38}" + "".join(f"{column:>12}" for column in COLUMNS)


def digest(root: Path) -> str:
    """SHA-256 of `trials.csv`; "absent" without one."""
    path = root / "trials.csv"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "absent"


def memo_files(root: Path) -> set[str]:
    """Every epoch, failure and draw that the memo holds, by path."""
    return {
        path.relative_to(root).as_posix() for pattern in ("trials/*/*.json", "suggestions/*.json") for path in root.glob(pattern)
    }


def finished_epochs(root: Path) -> set[tuple[str, int]]:
    """(key, epoch) of every epoch in the memo."""
    return {(path.parent.name, int(path.stem)) for path in root.glob("trials/*/[0-9]*.json")}


def differences(root: Path, reference: Path) -> list[str]:
    """In what a finished search differs from the uninterrupted one; empty where all is well."""
    found = [f"{name} differs" for name in SAME if _content(root / name) != _content(reference / name)]
    ours, theirs = memo_files(root), memo_files(reference)
    found += [f"{name} is in only one memo" for name in sorted(ours ^ theirs)]
    found += [f"{name} differs" for name in sorted(ours & theirs) if _content(root / name) != _content(reference / name)]
    found += [f"{path.relative_to(root)} was left behind" for path in sorted(root.rglob("*.tmp"))]
    return found + ([] if "RUNNING" not in _states(root) else ["a trial is still RUNNING"])


def memo_marks(root: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of every finished epoch's report: an epoch that is trained again gets a new file."""
    return {path.relative_to(root).as_posix(): _mark(path) for path in root.glob("trials/*/[0-9]*.json")}


def rewritten(before: dict[str, tuple[int, int]], root: Path) -> list[str]:
    """Reports of finished epochs that were written again, or are gone."""
    now = memo_marks(root)
    return sorted(name for name, mark in before.items() if now.get(name) != mark)


def repeated_rows(root: Path) -> list[tuple[str, str]]:
    """(trial, epoch) that `timing.csv` names more than once."""
    with (root / "timing.csv").open(encoding="utf-8", newline="") as stream:
        executed = [(row["trial"], row["epoch"]) for row in csv.DictReader(stream)]
    return sorted({row for row in executed if executed.count(row) > 1})


def report(tallies: Sequence[Tally], lines: Iterable[str] = ()) -> str:
    """The table, and below it whatever did not hold."""
    wrong = [f"NOT HELD, {tally.name}: {what}" for tally in tallies for what in tally.wrong]
    return "\n".join([header(), *(tally.row() for tally in tallies), *lines, *wrong]) + "\n"


def _states(root: Path) -> set[str]:
    with (root / "trials.csv").open(encoding="utf-8", newline="") as stream:
        return {row["state"] for row in csv.DictReader(stream)}


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _mark(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns
