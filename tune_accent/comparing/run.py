"""One comparison: targets → campaigns → checks → figures, below `ray_results/<name>/comparison/`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tune_accent.base.errors import DataError, UserError
from tune_accent.comparing.folder import read_folder
from tune_accent.comparing.identity import refuse_others
from tune_accent.comparing.record import ENGINES, Campaign, Engine
from tune_accent.comparing.report import write_report
from tune_accent.comparing.results import Comparison, compare
from tune_accent.comparing.sweeps_engine import TARGET, load_sweeps
from tune_accent.comparing.wandb_runs import read_offline, read_sweep
from tune_accent.tuning.search_report import write_search_report

SWEEP = re.compile(r"[\w.-]+/[\w .-]+/[\w-]+")
KINDS = "a results folder, a folder of offline runs, a sweep entity/project/id, or " + ", ".join(
    f"engine:{name}" for name in ENGINES
)


@dataclass(frozen=True)
class Request:
    """What a person asked for.

    Attributes:
        root: the results folder that everything is set beside.
        targets: as given with `--with`.
        repeats: of every engine that is run here, and then of the search itself.
        ignore: parts of the identity that may differ.
        thresholds: scores whose time to reach is asked for.
        sweeps: where W&B's engine is installed.
    """

    root: Path
    targets: tuple[str, ...]
    repeats: int = 1
    ignore: frozenset[str] = frozenset()
    thresholds: tuple[float, ...] = ()
    sweeps: Path = TARGET


def run_comparison(request: Request) -> tuple[Comparison, Path]:
    """Compare, and write the report; the comparison and the folder of its files.

    Raises:
        UserError: a target is none, cannot be read or run, or is of another search.
        KeyboardInterrupt: at Ctrl-C while an engine runs; the same command continues.
    """
    kinds = {target: _kind(target) for target in dict.fromkeys(request.targets)}
    first = read_folder(request.root)
    if any(target in ("engine:wandb-bayes", "engine:wandb-random") for target in kinds):
        load_sweeps(request.sweeps)  # before hours of training
    others = [campaign for target, kind in kinds.items() for campaign in _campaigns(request, first, target, kind)]
    if request.repeats > 1 and any(kind == "engine" and target != "engine:own" for target, kind in kinds.items()):
        others += [] if "engine:own" in kinds else list(_engine(request, "own"))
    caveats = refuse_others([first, *others], request.ignore)
    found, folder = compare(first, others, caveats, request.thresholds), request.root / "comparison"
    write_report(found, folder)
    write_search_report(request.root)
    return found, folder


def _kind(target: str) -> str:
    """What a target is.

    Raises:
        UserError: nothing that can be compared.
    """
    if target.startswith("engine:"):
        if target.removeprefix("engine:") not in ENGINES:
            raise UserError("there is no such engine", target, f"one of {', '.join(f'engine:{name}' for name in ENGINES)}")
        return "engine"
    if Path(target).is_dir():
        return "folder" if (Path(target) / "spec.yaml").is_file() else "offline"
    if SWEEP.fullmatch(target) and not target.startswith("ray_results/"):
        return "sweep"
    raise UserError("this is nothing that can be compared", target, f"give {KINDS}")


def _campaigns(request: Request, first: Campaign, target: str, kind: str) -> list[Campaign]:
    if kind == "engine":
        return list(_engine(request, cast("Engine", target.removeprefix("engine:"))))
    if kind == "folder":
        if Path(target).resolve() == request.root.resolve():
            raise UserError("a search cannot be compared with itself", target, "give another folder")
        return [read_folder(Path(target))]
    if kind == "sweep":
        return [read_sweep(target, first, request.root / "comparison" / "snapshots")]
    campaigns, faults = read_offline(Path(target), first)
    _warn(faults)
    return campaigns


def _engine(request: Request, engine: Engine) -> Iterator[Campaign]:
    """The repeats of an engine; the first of `own` is the search itself."""
    from tune_accent.comparing.engines import engine_folder, run_engine  # brings Ray, which reading folders does not need

    for repeat in range(1 if engine == "own" else 0, max(request.repeats, 2 if engine == "own" else 1)):
        sys.stderr.write(f"{engine}, repeat {repeat} → {engine_folder(request.root, engine, repeat)}\n")
        yield read_folder(run_engine(request.root, engine, repeat, request.sweeps))


def _warn(faults: list[DataError]) -> None:
    for fault in faults:
        sys.stderr.write(f"warning: {fault}\n")
