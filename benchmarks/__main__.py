"""The benchmarks, with a line each; or run one of them, or all.

python -m benchmarks [NAME [its options] | all]
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
from pathlib import Path

BENCHMARKS = (
    "startup",
    "rounds",
    "evaluation_speed",
    "loading",
    "import_speed",
    "preparation_speed",
    "memo_cost",
    "replay",
    "step_time",
    "memory",
    "search_cost",
    "tracking_cost",
    "engines",
    "coverage",
    "chaos",
    "signal",
)  # the fastest first
WIDTH = max(map(len, BENCHMARKS))


def summary(name: str) -> str:
    """The first line of a benchmark's docstring; nothing is imported."""
    source = (Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def listing() -> str:
    """Every benchmark in one line."""
    lines = [f"  {name:<{WIDTH}}  {summary(name)}" for name in BENCHMARKS]
    return (
        "\n".join(["python -m benchmarks NAME [its options; --help shows them], or: python -m benchmarks all", "", *lines]) + "\n"
    )


def run(name: str, options: list[str]) -> int:
    """Run one in a process of its own; its exit code."""
    sys.stdout.write(f"== {name}: {summary(name)}\n")
    sys.stdout.flush()
    return subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=False).returncode


def main() -> int:
    """List or run; the first exit code that is not 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, add_help=False)
    parser.add_argument("name", nargs="?", choices=(*BENCHMARKS, "all"))
    arguments, options = parser.parse_known_args()
    if arguments.name is None:
        sys.stdout.write(listing())
        return 0
    names = BENCHMARKS if arguments.name == "all" else (arguments.name,)
    return next((code for name in names if (code := run(name, options))), 0)


if __name__ == "__main__":
    sys.exit(main())
