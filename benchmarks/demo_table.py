"""What the demo reaches at every point of a grid, epoch by epoch: real training, recorded once, on which engines can be set beside each other.

python -m tune_accent.search benchmarks/demo_table.yaml
python -m benchmarks.demo_table ray_results/demo_table    # writes benchmarks/demo_table.csv
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from tune_accent.base.files import write_text

PATH = Path(__file__).with_suffix(".csv")
NAMES = ("lora_rank", "leakage_weight", "lr")
Point = tuple[float, ...]  # the values of `NAMES`


@cache
def read_table() -> Mapping[Point, tuple[float, ...]]:
    """Point → its score after epochs 1…9."""
    rows = list(csv.DictReader(PATH.read_text(encoding="utf-8").splitlines()))
    epochs = [name for name in rows[0] if name.isdigit()]
    return {tuple(float(row[name]) for name in NAMES): tuple(float(row[epoch]) for epoch in epochs) for row in rows}


def table_of(root: Path) -> str:
    """The table of a finished search, as CSV."""
    scores: dict[int, list[float]] = {}
    for line in (root / "epochs.jsonl").read_text(encoding="utf-8").splitlines():
        told = json.loads(line)
        scores.setdefault(told["trial"], []).append(told["score"])
    with (root / "trials.csv").open(encoding="utf-8", newline="") as stream:
        trials = list(csv.DictReader(stream))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*NAMES, *range(1, len(scores[0]) + 1)])
    writer.writerows([*(trial[name] for name in NAMES), *scores[int(trial["trial"])]] for trial in trials)
    return out.getvalue()


if __name__ == "__main__":
    write_text(PATH, table_of(Path(sys.argv[1])))
