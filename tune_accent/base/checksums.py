"""A folder that knows its own content: `checksums.json` holds the SHA-256 of every other file in it, by name.

Written last, inside the fill of `write_folder`; a file that is changed, missing, renamed or added is found before anything of the folder is used.
Covers damage, not malice: who can change a file can change its checksum.
"""

from __future__ import annotations

from pathlib import Path

from tune_accent.base.errors import DataError
from tune_accent.base.files import read_json, sha256_file, write_json

NAME = "checksums.json"


def write_checksums(folder: Path) -> None:
    """Note the SHA-256 of every file of `folder`."""
    write_json(folder / NAME, _hashes(folder))


def check_folder(folder: Path) -> None:
    """Compare `folder` with its checksums.

    Raises:
        DataError: it is absent, or a file is changed, missing or new; the message names the first such file.
    """
    try:
        noted, found = read_json(folder / NAME), _hashes(folder)
    except OSError as error:
        raise _damaged(folder, f"it cannot be read: {error.strerror}") from error
    if not isinstance(noted, dict):
        raise _damaged(folder, f"{NAME} is none")
    for name in sorted({*noted, *found}):
        if noted.get(name) != found.get(name):
            state = "missing" if name not in found else "new" if name not in noted else "changed"
            raise _damaged(folder, f"{name} is {state}")


def _hashes(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in sorted(files) if path != folder / NAME}


def _damaged(folder: Path, why: str) -> DataError:
    return DataError(f"this folder is damaged: {why}", str(folder), "remove it to have it made again")
