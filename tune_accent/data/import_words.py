"""What an import says at its end."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tune_accent.base.errors import visible
from tune_accent.data.corpus import PAGE
from tune_accent.data.importing import Imported
from tune_accent.data.sources.making import REJECTED
from tune_accent.data.split_report import HEADER, REPORT

MOST = 5  # reasons of rejected.csv that are shown


def closing_words(done: Imported) -> str:
    """Counts, census, accents, what was left out, confounds, and what keeps a search from running."""
    rows, root = done.manifest.rows, done.manifest.root
    hours = sum(row.duration_s for row in rows) / 3600
    lines = [f"{root}: {len(rows)} utterances, {len(done.manifest.speakers)} speakers, {hours:.1f} h", ""]
    if done.census:
        lines += [*aligned(["step", "rows", "speakers"], [[label, str(r), str(s)] for label, r, s in done.census]), ""]
    if done.accents:
        lines += [*aligned(HEADER, [accent.row() for accent in done.accents]), f"(speakers by gender; more in {REPORT})", ""]
    lines += [*_rejected(root / REJECTED), *_confounds(done), ""]
    for obstacle in done.obstacles:
        lines.append(f"a search of this corpus would be refused: {obstacle}")
    return visible("\n".join(lines).rstrip("\n")) + "\n"


def _rejected(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", newline="") as stream:
        reasons = Counter(_kind_of(row["reason"]) for row in csv.DictReader(stream))
    if not reasons:
        yield f"nothing was left out for its sound ({REJECTED})"
        return
    listed = "; ".join(f"{count} × {reason}" for reason, count in reasons.most_common(MOST))
    yield f"left out: {reasons.total()} ({REJECTED}): {listed}{'; ...' if len(reasons) > MOST else ''}"


def _kind_of(reason: str) -> str:
    """A reason without what is particular to one utterance."""
    return re.sub(r"\d+(\.\d+)?", "N", re.split(r" \(|: | as ", reason)[0]).strip()


def _confounds(done: Imported) -> Iterator[str]:
    for name, found in done.confounds.items():
        if found["verdict"] != "none":
            yield f"confound: accent × {name}: {found['effect']} effect, {found['verdict']} ({PAGE})"


def aligned(header: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """A table for the terminal; columns of numbers are aligned to the right."""
    cells = [list(header), *map(list, lines)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = [all(_is_number(cell) for cell in column[1:]) for column in zip(*cells, strict=True)]
    shown = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(line, widths, numeric, strict=True)
        )
        for line in cells
    ]
    return [line.rstrip() for line in shown]


def _is_number(cell: str) -> bool:
    return cell.replace(".", "", 1).isdigit()
