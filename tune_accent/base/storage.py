"""What a disk refuses, in words: `OSError` becomes `StorageError` (what, where, fix) at the boundary in base/files.py.

Does not cover what is no fault of the disk: a missing file stays a `FileNotFoundError`.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tune_accent.base.errors import StorageError

AGAIN = "nothing is lost: the same command then continues"
_OTHER = ("a file is in the way of a folder, or a folder of a file", f"move it away; {AGAIN}")
_DENIED = ("it cannot be accessed: permission denied", f"give yourself read and write access (chown, chmod); {AGAIN}")
_BROKEN = (
    "the disk reports an input/output error",
    f"look at the disk or share (dmesg, df), or copy the folder to a sound one; {AGAIN}",
)
REASONS = {
    errno.ENOSPC: ("the disk is full", f"free some space; {AGAIN}"),
    errno.EDQUOT: ("the disk quota is used up", f"free some space; {AGAIN}"),
    errno.EFBIG: ("the file would be larger than this system allows", f"raise the limit (ulimit -f); {AGAIN}"),
    errno.EROFS: ("the file system is read-only", f"make it writable (mount -o remount,rw); {AGAIN}"),
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EIO: _BROKEN,
    errno.ESTALE: _BROKEN,
    errno.ENOTDIR: _OTHER,
    errno.EISDIR: _OTHER,
    errno.EEXIST: _OTHER,
}
_FOREIGN = re.compile(r"\(os error (\d+)\)")  # libraries written in Rust (safetensors) hide the number in their text


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what the disk refuses inside the block into a `StorageError` that names `path`; everything else passes.

    Raises:
        StorageError: one of `REASONS`; the innermost block names the place.
    """
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        number = _number(error)
        if number not in REASONS:
            raise
        what, fix = REASONS[number]
        raise StorageError(what, str(path), fix) from error


def _number(error: Exception) -> int | None:
    if isinstance(error, OSError) and error.errno is None and " requested and " in str(error):
        return errno.ENOSPC  # numpy counts the bytes instead
    if isinstance(error, OSError):
        return error.errno
    found = _FOREIGN.search(str(error))
    return int(found.group(1)) if found else None
