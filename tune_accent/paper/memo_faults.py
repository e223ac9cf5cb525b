"""The memo of a search file by file: checksum, text, place and shape of every epoch, failure and draw; checksums of every checkpoint.

Also those that the search does not use now (its number of trials was lowered) are looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tune_accent.base.errors import DataError
from tune_accent.base.files import read_json, sha256_json
from tune_accent.config.space import LoadedSpace
from tune_accent.paper.checksums import Fault, read_canonical, verify_checksums
from tune_accent.tuning.memo import STATES, names_fault
from tune_accent.tuning.memo import Fault as Shape
from tune_accent.tuning.shapes import draw_fault, report_fault

EPOCH, DRAW = re.compile(r"(\d{4,})\.json"), re.compile(r"(\d{5,})\.json")


def memo_faults(root: Path, space: LoadedSpace) -> list[Fault]:
    """What is wrong with the files below `trials/` and `suggestions/` of a results folder."""
    found = [(path, _draw_fault(path, draw_fault(space))) for path in _visible(root / "suggestions")]
    for trial in _visible(root / "trials"):
        if not trial.is_dir():
            found.append((trial, "is no trial's folder"))
        found += [(path, _trial_file_fault(path)) for path in _visible(trial) if not path.is_dir()]
        found += [pair for path in _visible(trial) if path.is_dir() for pair in _checkpoint_faults(path)]
    return [Fault(path.relative_to(root).as_posix(), why) for path, why in found if why is not None]


def _trial_file_fault(path: Path) -> str | None:
    key = path.parent.name
    if path.name == "failure.json":
        return _fault(path, {"key": key}, "failure", _failure_fault)
    if number := EPOCH.fullmatch(path.name):
        return _fault(path, {"key": key, "epoch": int(number[1])}, "metrics", report_fault)
    return "is no file of a memo"


def _draw_fault(path: Path, shape: Shape) -> str | None:
    number = DRAW.fullmatch(path.name)
    return "is no file of a memo" if number is None else _fault(path, {"number": int(number[1])}, "draw", shape)


def _fault(path: Path, place: Mapping[str, Any], field: str, shape: Shape) -> str | None:
    try:
        content = read_canonical(path)
        checksum = content.pop("sha256")
        same = checksum == sha256_json(content)
    except DataError as error:
        return error.what
    except (AttributeError, KeyError, TypeError, ValueError):
        return "has no checksum"
    if not same:
        return f"does not match its own checksum: {field} or place was edited"
    why = names_fault(content, [*place, field])
    if why is None and any(content[name] != value or type(content[name]) is not type(value) for name, value in place.items()):
        return "belongs to another place"
    return why or (shape(content[field]) if isinstance(content[field], dict) else f"{field} is of another kind")


def _failure_fault(failure: Mapping[str, Any]) -> str | None:
    kinds: dict[str, type] = {"state": str, "epoch": int, "message": str}
    why = names_fault(failure, kinds)
    if why is None and any(type(failure[name]) is not kind for name, kind in kinds.items()):
        return "is of another kind"
    return why or (None if failure["state"] in STATES else f"the state of a failure is one of {', '.join(STATES)}")


def _checkpoint_faults(folder: Path) -> Iterator[tuple[Path, str]]:
    faults = verify_checksums(folder)
    yield from ((folder / fault.file, fault.what) for fault in faults)
    if faults or not folder.name.isdecimal() or not (folder / "state.json").is_file():
        return
    state = read_json(folder / "state.json")
    epoch = state.get("epoch") if isinstance(state, dict) else None
    if epoch != int(folder.name):
        yield folder / "state.json", f"is that of epoch {epoch}"


def _visible(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*")) if not path.name.startswith(".") and not path.is_symlink()]
