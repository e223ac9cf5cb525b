"""A search in a process of its own, for tests that send it signals: python -m tests.tuning.search_process ROOT SECONDS_PER_EPOCH"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.tuning.simulated import make_core, make_simulated
from tune_accent.tuning.memo import FolderMemo
from tune_accent.tuning.ray_adapter import run_with_ray
from tune_accent.tuning.relay import EpochDone, EpochStarted, Event


def show(event: Event) -> None:
    """A line per started and finished epoch."""
    if isinstance(event, EpochDone | EpochStarted):
        sys.stdout.write(f"{type(event).__name__} {event.trial} {event.epoch}\n")
        sys.stdout.flush()


def main() -> int:
    """130 after an interrupt."""
    root = Path(sys.argv[1])
    core = make_core(FolderMemo(root), run_cap=6, epochs=4, min_iter=2)
    spec = {"root": str(root), "seconds": float(sys.argv[2])}
    try:
        run_with_ray(
            core, make_simulated, spec, workers=2, resources={"cpu": 1, "gpu": 0}, scratch=root / "scratch", on_event=show
        )
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
