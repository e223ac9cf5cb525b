"""Searches that are killed and interrupted, beside searches that are not: the same table to the last bit, and no finished epoch trained again.

    python -m benchmarks.chaos [--kills 100] [--driver-kills 5] [--worker-kills 5] [--signals 5] [--seed 0]

kills          SIGKILL of the process that drives simulated trials, several per search; all of the search command but speech and Ray
driver-kills   SIGKILL of the real search command on a small demo corpus, in turn with all its processes and alone
worker-kills   SIGKILL of single Ray workers of the same search
signals        launches that get SIGINT, as many that get SIGTERM, as many that get a second signal within a second

All at seeded times, but what they meet there depends on the machine. same table: searches whose trials.csv has the SHA-256 of the uninterrupted
search. lost: finished epochs that were trained again. extra: trials, epochs or draws that the uninterrupted search does not have. again: epochs begun
again because a kill met them unfinished. worst s: longest time from the (second) signal to the end. Exits 1 if anything did not hold.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import chaos_commands, chaos_simulated
from benchmarks.chaos_checks import Tally, report
from benchmarks.chaos_commands import RealSearch, SignalledSearch


def say(text: str) -> None:
    """Progress, on one line where there is a terminal."""
    end = "\r" if sys.stderr.isatty() else "\n"
    sys.stderr.write(f"{text:<100}{end}")
    sys.stderr.flush()


def run(arguments: argparse.Namespace, folder: Path) -> Iterator[Tally]:
    """Every fault that is asked for."""
    seed = arguments.seed
    if arguments.kills:
        yield chaos_simulated.simulated_kills(folder / "simulated", arguments.kills, seed, say)
    if arguments.driver_kills or arguments.worker_kills:
        real = RealSearch(folder / "real")
        if arguments.driver_kills:
            yield chaos_commands.driver_kills(real, arguments.driver_kills, seed, say)
        if arguments.worker_kills:
            yield chaos_commands.worker_kills(real, arguments.worker_kills, seed, say)
    if arguments.signals:
        search = SignalledSearch(folder / "signals")
        for numbers in ((signal.SIGINT,), (signal.SIGTERM,), (signal.SIGINT, signal.SIGTERM)):
            name = " and ".join(number.name for number in numbers)
            yield chaos_commands.signals(search, name, numbers, arguments.signals, seed, say)


def main() -> int:
    """Print the table; 1 if anything did not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--driver-kills", type=int, default=5)
    parser.add_argument("--worker-kills", type=int, default=5)
    parser.add_argument("--signals", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos_") as folder:
        tallies = list(run(arguments, Path(folder)))
    sys.stdout.write(report(tallies, [f"{time.monotonic() - began:.0f} s"]))
    return int(any(tally.wrong for tally in tallies))


if __name__ == "__main__":
    sys.exit(main())
