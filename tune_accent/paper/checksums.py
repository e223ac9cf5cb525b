"""Folders that know their own content, looked at without stopping at the first fault; and the seal of a finished paper folder.

Hidden files (locks, what a kill left behind) are no part of a folder's content here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tune_accent.base.checksums import NAME
from tune_accent.base.errors import DataError
from tune_accent.base.files import read_json, sha256_file, write_json


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a results folder.

    Attributes:
        file: relative to the folder that was looked at.
        what: in words: the row, line or key, what it should be and what it is.
    """

    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


def seal(folder: Path) -> None:
    """Note the SHA-256 of every file of `folder` in its `checksums.json`; to be called last."""
    write_json(folder / NAME, file_hashes(folder))


def verify_checksums(folder: Path) -> list[Fault]:
    """Every file of `folder` that is changed, missing or new since it was sealed; its `checksums.json` where that is missing or unreadable."""
    try:
        noted = read_canonical(folder / NAME)
    except FileNotFoundError:
        return [Fault(NAME, "is missing: nothing tells whether the files beside it are whole")]
    except DataError as error:
        return [Fault(NAME, error.what)]
    if not isinstance(noted, dict):
        return [Fault(NAME, "is none")]
    return compare_hashes({name: value for name, value in noted.items() if not _hidden(name)}, file_hashes(folder))


def compare_hashes(noted: dict[str, Any], found: dict[str, str]) -> list[Fault]:
    """What differs between two sets of hashes by file name."""
    faults = []
    for name in sorted({*noted, *found}):
        if noted.get(name) != found.get(name):
            state = (
                "is missing" if name not in found else "is new" if name not in noted else "was changed: it has another SHA-256"
            )
            faults.append(Fault(name, state))
    return faults


def file_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of `folder` but its own `checksums.json`, by relative name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / NAME)
    named = {path.relative_to(folder).as_posix(): path for path in files}
    return {name: sha256_file(path) for name, path in named.items() if not _hidden(name)}


def read_canonical(path: Path) -> Any:
    """A JSON file exactly as `write_json` writes it: of two texts for one number only one is right.

    Raises:
        FileNotFoundError. DataError: it is no JSON, or its text was edited.
    """
    value = read_json(path)
    try:
        same = path.read_text(encoding="utf-8") == json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError:
        same = False
    if not same:
        raise DataError("its text is not as it was written: it was edited", str(path), "bring the file back")
    return value


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))
