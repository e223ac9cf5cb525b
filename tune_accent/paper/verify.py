"""Whether a results folder is what its search made, wherever it lies now: no data, no backbone, no training.

    faults = [*verify_search(root), *verify_checksums(root / "paper")]

Hashes first (spec, memo, checkpoints, `best/`); then the decisions of the search are made again from the memo, and `trials.csv`, `epochs.jsonl` and
`best.json` are compared with what follows, to the byte. What no hash of the search covers (`environment.json`, `timing.csv`, settings outside its
identity) is covered from the first paper run on, which signs it (`sign`). Covers damage and edits, not a person who makes every hash anew.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tune_accent.base.errors import DataError
from tune_accent.base.files import canonical_json
from tune_accent.models.adapter_base import NAME as BASE
from tune_accent.models.adapter_base import adapter_base
from tune_accent.paper.assemble import BUNDLE, FOLDER
from tune_accent.paper.bundle import bundle_faults
from tune_accent.paper.checksums import Fault, read_canonical, verify_checksums
from tune_accent.paper.derived import output_faults
from tune_accent.paper.hashes import search_spec
from tune_accent.paper.memo_faults import memo_faults
from tune_accent.paper.recorded import recorded_search, replay
from tune_accent.paper.signature import signature_faults
from tune_accent.paper.table_faults import csv_faults, json_faults, jsonl_faults
from tune_accent.tracking.provenance import decisive
from tune_accent.tuning.core import Core
from tune_accent.tuning.driver import Request, judge, summary
from tune_accent.tuning.folder import Spec
from tune_accent.tuning.results import TIMING, epochs_jsonl, timing_columns, trials_csv


def verify(root: Path) -> tuple[list[Fault], str]:
    """A results folder, with its paper where it has one: what is wrong with it, and in words what was looked at.

    Raises:
        DataError: there is no such folder, or it holds no search. StorageError: the disk refuses.
    """
    if not (root / "spec.sha256").is_file():
        fix = "give the results folder of a search, such as ray_results/lora"
        raise DataError("no such folder" if not root.is_dir() else "it holds no search: no spec.sha256", str(root), fix)
    faults = verify_search(root)
    if not (root / FOLDER).is_dir():
        return faults, "the search is what its records tell; it has no paper run yet"
    sealed = [Fault(f"{FOLDER}/{fault.file}", fault.what) for fault in verify_checksums(root / FOLDER)]
    faults = _once([*faults, *sealed, *_bundle_faults(root)])
    if faults:
        return faults, ""
    faults = [Fault(f"{FOLDER}/{fault.file}", fault.what) for fault in output_faults(root)]
    return faults, "search and paper run are what their records tell: hashes, tables and report were made again, and are equal"


def _bundle_faults(root: Path) -> list[Fault]:
    try:
        return [Fault(BUNDLE, what) for what in bundle_faults(root / FOLDER, root / BUNDLE)]
    except FileNotFoundError:
        return [Fault(BUNDLE, "is missing")]


def verify_search(root: Path) -> list[Fault]:
    """Everything that is wrong with the search in `root`; empty where it is whole.

    Args:
        root: a results folder of a search, finished or not; it is only read.

    Raises:
        StorageError: the disk refuses.
    """
    faults = [*_spec_faults(root), *_environment_faults(root), *signature_faults(root), *_best_folder_faults(root)]
    try:
        request, spec = recorded_search(root)
    except DataError as error:
        return _once([*faults, Fault("spec.yaml", error.what)])
    damaged = memo_faults(root, request.space)
    faults += damaged
    if not damaged:  # nothing can be derived from a memo that is not whole
        try:
            faults += _derived_faults(request, spec, replay(request, spec))
        except DataError as error:
            faults.append(Fault(_relative(root, error), error.what))
    return _once(faults)


def _spec_faults(root: Path) -> Iterator[Fault]:
    try:
        spec = search_spec(root)
    except DataError as error:
        yield Fault("spec.yaml", error.what)
        return
    if _text(root / "spec.yaml") != spec.text():
        yield Fault("spec.yaml", "its text is not as it was written: it was edited")
    if _text(root / "spec.sha256") != spec.sha256() + "\n":
        yield Fault("spec.sha256", "its text is not as it was written: it was edited")


def _environment_faults(root: Path) -> Iterator[Fault]:
    try:
        record = read_canonical(root / "environment.json")
        decisive(record)
    except FileNotFoundError:
        yield Fault("environment.json", "is missing")
    except DataError as error:
        yield Fault("environment.json", error.what)
    except (KeyError, TypeError, AttributeError):
        yield Fault("environment.json", "is no record of an environment")


def _best_folder_faults(root: Path) -> list[Fault]:
    if not (root / "best").is_dir():
        return []
    return [Fault(f"best/{fault.file}", fault.what) for fault in verify_checksums(root / "best")]


def _derived_faults(request: Request, spec: Spec, core: Core) -> Iterator[Fault]:
    """Tables and best trial, derived anew, beside the files."""
    root, trials = request.root, core.trials
    expected = trials_csv(request.experiment, request.space.space, trials)
    yield from csv_faults("trials.csv", expected, _text(root / "trials.csv"))
    yield from jsonl_faults("epochs.jsonl", epochs_jsonl(trials), _text(root / "epochs.jsonl"))
    yield from _timing_faults(request, core)
    best = core.best()
    if best is None:
        yield from (
            Fault(name, "should not be there: no trial ran its full length")
            for name in ("best.json", "best")
            if (root / name).exists()
        )
        return
    told = {
        name: json.loads(canonical_json(value))
        for name, value in summary(request, core, best, judge(request.experiment, best)).items()
    }
    yield from json_faults("best.json", json.dumps(told, indent=2, ensure_ascii=False) + "\n", _text(root / "best.json"))
    yield from _origin_faults(request, spec, root / "trials" / best.key / f"{len(best.reports):04d}")


def _origin_faults(request: Request, spec: Spec, checkpoint: Path) -> Iterator[Fault]:
    """`best/` beside the checkpoint that it was copied from, where that is still there, and what it says of its backbone."""
    best = request.root / "best"
    base = adapter_base(request.experiment, spec.data["backbone"]).model_dump(mode="json")
    yield from json_faults(f"best/{BASE}", json.dumps(base, indent=2, ensure_ascii=False) + "\n", _text(best / BASE))
    sources = [*sorted((checkpoint / "adapter").glob("*")), checkpoint / "heads.safetensors"] if checkpoint.is_dir() else []
    for source in sources:
        copy = best / source.name
        if not (source.is_file() and copy.is_file() and source.read_bytes() == copy.read_bytes()):
            yield Fault(f"best/{source.name}", f"is not that of the checkpoint {checkpoint.relative_to(request.root)}")


def _timing_faults(request: Request, core: Core) -> Iterator[Fault]:
    """Rows that cannot be, and more epochs without a row than kills can explain (a kill may lose the row of every worker)."""
    file = request.root / "timing.csv"
    lines = _text(file).splitlines()
    trained = {(t.number, e) for t in core.trials if t.state != "DUPLICATE" for e in range(1, len(t.reports) + 1)}
    if not lines and not trained:
        return
    columns = timing_columns(lines[0] if lines else "")
    if not lines or lines[0] != ",".join(columns):
        yield Fault("timing.csv", f"line 1: should be {','.join(TIMING)}")
        return
    rows = [dict(zip(columns, row, strict=False)) for row in csv.reader(lines[1:])]
    for number, row in enumerate(rows, 2):
        why = _row_fault(row, columns, request)
        if why is not None:
            yield Fault("timing.csv", f"line {number}: {why}")
    timed = {(row.get("trial"), row.get("epoch")) for row in rows}
    missing = [pair for pair in sorted(trained) if (str(pair[0]), str(pair[1])) not in timed]
    launches = len({row.get("launch") for row in rows})
    if len(missing) > core.settings.slots * (1 + core.settings.run_ahead) * (launches + 1):
        yield Fault(
            "timing.csv",
            f"epoch {missing[0][1]} of trial {missing[0][0]} and {len(missing) - 1} more were trained and have no row",
        )


def _row_fault(row: Mapping[str, str], columns: Sequence[str], request: Request) -> str | None:
    if set(row) != set(columns):
        return None if not row else "has too few cells"  # an empty line, or one that a power loss tore
    whole = {name: row[name] for name in ("launch", "trial", "epoch")}
    odd = [name for name, text in whole.items() if not text.isdecimal()]
    odd += [name for name in columns[TIMING.index("started") :] if not _finite(row[name])]
    if odd:
        return f"{odd[0]} is {row[odd[0]][:40]!r}"
    if not 1 <= int(whole["epoch"]) <= request.experiment.training.epochs:
        return f"epoch {whole['epoch']} is none of 1 … {request.experiment.training.epochs}"
    return None


def _finite(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and float(text) >= 0
    except ValueError:
        return False


def _relative(root: Path, error: DataError) -> str:
    path = Path(error.where or "")
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _once(faults: list[Fault]) -> list[Fault]:
    return list(dict.fromkeys(faults))


def _text(path: Path) -> str:
    """The text of a file to the byte; empty where it is not there."""
    return path.read_bytes().decode("utf-8", errors="replace") if path.is_file() else ""
