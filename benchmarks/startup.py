"""Do --help and --validate answer within a second, without torch?

    python -m benchmarks.startup [--repeats 5]

Wall seconds of the two commands, best of the repeats, with the heavy modules that each imports, beside a bare interpreter and beside one that
imports torch. The commands take turns, so that a busy machine is busy for all of them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

HEAVY = ("torch", "ray", "wandb", "optuna", "pandas", "sklearn", "scipy", "transformers", "peft", "qwen_tts", "matplotlib")
SEARCH = ("-m", "tune_accent.search")
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "python -c pass": ("-c", "pass"),
    "search --help": (*SEARCH, "--help"),
    "search lora.yaml --validate": (*SEARCH, "search_spaces/lora.yaml", "--validate"),
    "python -c 'import torch'": ("-c", "import torch"),
}
WATCHED = """
import json, runpy, sys
module, sys.argv = sys.argv[1], sys.argv[1:]
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
except SystemExit:
    pass
print("\\n" + json.dumps([len(sys.modules), [name for name in {heavy!r} if name in sys.modules]]))
"""


@dataclass(frozen=True)
class Row:
    """A command's best wall clock in seconds, and what it imports (None: it is no command of ours)."""

    name: str
    seconds: float
    modules: int | None
    heavy: tuple[str, ...]


def measure(commands: Mapping[str, Sequence[str]], repeats: int) -> list[Row]:
    """Run every command `repeats` times in turn, after one time that warms the disk's cache."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(repeats + 1):
        for name, options in commands.items():
            seconds = wall(options)
            if turn:
                times[name].append(seconds)
    return [Row(name, min(times[name]), *imports(options)) for name, options in commands.items()]


def wall(options: Sequence[str]) -> float:
    """Seconds that `python <options>` takes."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *options], check=True, capture_output=True)
    return time.perf_counter() - started


def imports(options: Sequence[str]) -> tuple[int | None, tuple[str, ...]]:
    """How many modules a `-m` command imports, and which heavy ones."""
    if options[0] != "-m":
        return None, ()
    command = [sys.executable, "-c", WATCHED.format(heavy=HEAVY), *options[1:]]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    count, heavy = json.loads(lines[-1])
    return count, tuple(heavy)


def table(rows: Sequence[Row]) -> str:
    """Seconds, and seconds above the first row, which is the bare interpreter."""
    lines = [f"{'command':<28} {'wall s':>7} {'above bare':>10} {'modules':>8}  heavy modules imported"]
    for row in rows:
        heavy = ", ".join(row.heavy) or "none"
        own = f"{row.modules:>8}  {heavy}" if row.modules is not None else ""
        lines.append(f"{row.name:<28} {row.seconds:>7.2f} {row.seconds - rows[0].seconds:>10.2f} {own}".rstrip())
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    sys.stdout.write(table(measure(COMMANDS, parser.parse_args().repeats)) + "\n")


if __name__ == "__main__":
    main()
