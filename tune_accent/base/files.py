"""Files are whole or absent: temporary file, fsync, rename, fsync of the folder.

Every write of a results or data folder goes through this module. Covers crashes and kills of the process and power loss on a
file system that honours fsync; does *not* cover two writers of one path (take a `folder_lock`) nor disks that lie about fsync.
What a disk refuses (full, read-only, not allowed, input/output error) is a `StorageError`; what was there before stays.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from tune_accent.base.errors import DataError, FolderInUse
from tune_accent.base.storage import explained

TORN = ".tmp"  # ends the hidden name of everything that is being written, replaced or removed
REPLACED = ".old.tmp"
GONE = ".gone.tmp"


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces, UTF-8 text and `repr` floats: equal values give equal bytes. NaN is an error."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_bytes(data: bytes) -> str:
    """Hex SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_json(value: Any) -> str:
    """Hex SHA-256 of the canonical JSON of `value`."""
    return sha256_bytes(canonical_json(value).encode())


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fsync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make `folder` and those above it, durably; harmless where it is there."""
    with explained(folder):
        if not folder.is_dir():
            make_folder(folder.parent)
            folder.mkdir(exist_ok=True)
            fsync_folder(folder.parent)


def write_file(path: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write a temporary file beside `path`, then fsync and rename it: `path` is never seen half-written.

    Args:
        path: the final place; its folder is made.
        fill: writes the whole content to the path it is given.
    """
    with explained(path):
        make_folder(path.parent)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=TORN)
        os.close(descriptor)
        temporary = Path(name)
        try:
            fill(temporary)
            temporary.chmod(0o644)
            _fsync_file(temporary)
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        fsync_folder(path.parent)


def write_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write into a temporary folder beside `path`, fsync every file of it, and rename it: `path` is whole or absent.

    A folder already at `path` is moved aside first; after a kill between the two renames `remove_torn`, or the next write, moves it back.
    """
    with explained(path):
        make_folder(path.parent)
        _restore(path)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=TORN))
        try:
            fill(temporary)
            temporary.chmod(0o755)
            _fsync_tree(temporary)
            if path.exists():
                path.rename(_aside(path))
            temporary.rename(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            with suppress(OSError):
                _restore(path)
            raise
        fsync_folder(path.parent)
        _restore(path)


def write_link(path: Path, target: str) -> None:
    """Let the symbolic link `path` point to `target`, which is relative to the link's folder; a link that is there is replaced, never missing."""
    with explained(path):
        make_folder(path.parent)
        temporary = path.with_name(f".{path.name}.link{TORN}")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        temporary.replace(path)
        fsync_folder(path.parent)


def _aside(path: Path) -> Path:
    """Where the folder waits that is being replaced at `path`."""
    return path.with_name(f".{path.name}{REPLACED}")


def _restore(path: Path) -> None:
    """Settle an interrupted replacement: the old folder comes back where there is no new one, and goes where there is."""
    old = _aside(path)
    if old.exists() and path.exists():
        shutil.rmtree(old)
    elif old.exists():
        old.rename(path)


def _fsync_file(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _fsync_tree(root: Path) -> None:
    entries = sorted(root.rglob("*"))
    for entry in entries:
        if entry.is_file():
            _fsync_file(entry)
    for folder in (*(entry for entry in entries if entry.is_dir()), root):
        fsync_folder(folder)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder if it is there. A kill on the way leaves a folder whole, or gone with a rest for `remove_torn`."""
    with explained(path):
        if path.is_dir() and not path.is_symlink():
            doomed = path.with_name(f".{path.name}{GONE}")
            if doomed.exists():
                shutil.rmtree(doomed)
            path.rename(doomed)
            shutil.rmtree(doomed)
        else:
            path.unlink(missing_ok=True)


def move(path: Path, target: Path) -> None:
    """Rename `path` to `target`, a name that is free."""
    with explained(path):
        path.rename(target)
        fsync_folder(target.parent)


def set_aside(root: Path) -> Path | None:
    """Move an existing folder to the first free `<name>.old-N`, and say where that is; nothing is deleted."""
    if not root.exists():
        return None
    number = 1
    while (target := root.with_name(f"{root.name}.old-{number}")).exists():
        number += 1
    move(root, target)
    return target


def remove_torn(root: Path) -> None:
    """Remove what killed writers left below `root`; a folder whose replacement was cut short comes back."""
    with explained(root):
        for torn in sorted(root.rglob(f".*{TORN}")):
            if torn.name.endswith(REPLACED):
                _restore(torn.with_name(torn.name[1 : -len(REPLACED)]))
            elif torn.is_dir() and not torn.is_symlink():
                shutil.rmtree(torn, ignore_errors=True)
            else:
                torn.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""

    def fill(temporary: Path) -> None:
        temporary.write_bytes(data)

    write_file(path, fill)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 `text` to `path`, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all. NaN is an error."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file written by us; a damaged one is a `DataError` that names it."""
    try:
        with explained(path):
            return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no JSON, no text, a number of too many digits, too deep
        raise DataError(f"not a JSON file: {error}", where=str(path), fix="remove it to have it made again") from error


def append_line(path: Path, line: str) -> None:
    """Append one line and fsync: a line that cannot be written whole is taken back, one torn by power loss is ended first.

    A torn line is the reader's to skip.
    """
    with explained(path):
        make_folder(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            end = os.fstat(descriptor).st_size
            torn = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"
            data = ("\n" * torn + line.rstrip("\n") + "\n").encode()
            try:
                _write_all(descriptor, data)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, end)
                raise
        finally:
            os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    """A disk that fills up takes the part that still fits, and refuses at the next call."""
    while data:
        data = data[os.write(descriptor, data) :]


def inside(root: Path, relative: str) -> Path:
    """The path of `relative` under `root`; a `DataError` if it is absolute or leaves `root` (`..`, links)."""
    base = root.resolve()
    path = (base / relative).resolve()
    if Path(relative).is_absolute() or not path.is_relative_to(base):
        raise DataError(f"path {relative!r} leaves its folder", where=str(root), fix="use a path below that folder")
    return path


@contextmanager
def folder_lock(folder: Path, fix: str = "wait for it, or stop it") -> Iterator[None]:
    """Hold `folder/.lock` for this process; the kernel releases it when the process dies.

    Args:
        folder: made where it is not there.
        fix: what a person can do while another process holds it.

    Raises:
        FolderInUse: another process holds it; the message names its pid.
    """
    with explained(folder):
        make_folder(folder)
        stream = (folder / ".lock").open("a+", encoding="utf-8")
    with stream:
        with explained(folder):
            _claim(stream, folder, fix)
        yield


def _claim(stream: IO[str], folder: Path, fix: str) -> None:
    """Lock `stream`, and leave this process's id in it."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.seek(0)
        holder = stream.read().strip() or "unknown"
        raise FolderInUse(f"process {holder} is working in this folder", str(folder), fix) from None
    os.ftruncate(stream.fileno(), 0)
    _write_all(stream.fileno(), f"{os.getpid()}\n".encode())
