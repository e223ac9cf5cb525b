"""Opens the test split of many folders for one winner, as fast as it can; started twice by the tests.

python -m tests.paper.opening_process FOLDER COUNT WINNER
"""

from __future__ import annotations

import sys
from pathlib import Path

from tune_accent.base.errors import FolderInUse, UserError
from tune_accent.paper.opening import open_test


def opened(root: Path, winner: int) -> str:
    """How it ends; while the other process is at it, it is asked again."""
    while True:
        try:
            open_test(root, {"winner": winner})
        except FolderInUse:
            continue
        except UserError:
            return "refused"
        return "opened"


if __name__ == "__main__":
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    for number in range(int(sys.argv[2])):
        sys.stdout.write(opened(Path(sys.argv[1]) / str(number), int(sys.argv[3])) + "\n")
