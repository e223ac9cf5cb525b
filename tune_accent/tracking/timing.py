"""What `timing.csv` says of epochs that were trained in earlier launches, for trackers that show them again."""

from __future__ import annotations

import csv
import math
from pathlib import Path

SHOWN = ("seconds", "peak_mb", "allocated_mb")
SINCE = "allocated_mb"  # a file that was begun before it was noted has no such column


def timings(root: Path) -> dict[tuple[int, int], dict[str, float]]:
    """(trial, epoch) → its seconds, peak and allocated MiB, of the last time it was executed; lines that make no sense are skipped."""
    path = root / "timing.csv"
    if not path.is_file():
        return {}
    found = {}
    rows = csv.DictReader(path.read_text(encoding="utf-8", errors="replace").splitlines())
    shown = [name for name in SHOWN if name != SINCE or SINCE in (rows.fieldnames or ())]
    for row in rows:
        try:
            values = {name: float(row[name]) for name in shown}
            place = int(row["trial"]), int(row["epoch"])
        except (KeyError, TypeError, ValueError):  # a torn line
            continue
        if all(map(math.isfinite, values.values())):
            found[place] = values
    return found
