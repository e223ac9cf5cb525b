"""Can the results folder be trusted? A search relies on flock, fsync and atomic renames there, and on enough space.

Network and FUSE file systems may promise all three and keep them on one machine only, or not at all: what passes here may still fail on power loss or
between nodes. Nothing is left behind but the folder itself.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tune_accent.base.errors import FolderInUse, StorageError
from tune_accent.base.files import folder_lock, remove, write_text
from tune_accent.checking.finding import Finding

MOUNTS = Path("/proc/self/mountinfo")
NETWORK = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "lustre",
    "gpfs",
    "beegfs",
    "ceph",
    "glusterfs",
    "afs",
    "9p",
    "virtiofs",
    "ncpfs",
    "orangefs",
}
VOLATILE = {"tmpfs", "ramfs"}
LAYERED = {"overlay", "aufs"}
SLOW_FSYNC_S = 0.1
PROBE = ".doctor"
ESCAPED = re.compile(r"\\([0-7]{3})")  # how mountinfo writes space, tab, newline and backslash
CLAIM = """
import fcntl, sys
with open(sys.argv[1], "a+") as stream:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(3)
"""
REFUSED = 3


@dataclass(frozen=True)
class Mount:
    """A mounted file system: where, of which type, from what."""

    point: str
    kind: str
    source: str


def mount_of(path: Path, mountinfo: str) -> Mount | None:
    """The file system that holds `path`: the longest mount point above it, the last one where several are mounted over each other.

    Args:
        path: absolute, resolved.
        mountinfo: text of /proc/self/mountinfo (proc(5)).
    """
    found: Mount | None = None
    for line in mountinfo.splitlines():
        left, separator, right = line.partition(" - ")
        before, after = left.split(), right.split()
        if not separator or len(before) < 5 or len(after) < 2:
            continue
        point = ESCAPED.sub(lambda match: chr(int(match[1], 8)), before[4])
        if path.is_relative_to(point) and (found is None or len(point) >= len(found.point)):
            found = Mount(point, after[0], after[1])
    return found


def judged_kind(mount: Mount) -> Finding:
    """Whether a file system of this type keeps what a search relies on."""
    words = f"{mount.kind} at {mount.point}"
    kind = mount.kind.partition(".")[0]
    if mount.kind in NETWORK:
        fix = "keep ray_results on a local disk and copy finished searches; on a share, never start one search on two machines"
        return Finding(
            "file system", "warning", f"{words}: a network file system; locks and fsync may not hold between machines", fix
        )
    if kind in ("fuse", "fuseblk"):
        fix = "keep ray_results on a local disk; object stores and synchronised folders (s3fs, rclone, sshfs) lose renames and locks"
        return Finding("file system", "warning", f"{words}: a FUSE file system; locks, fsync and renames may not hold", fix)
    if mount.kind in VOLATILE:
        return Finding("file system", "warning", f"{words}: in memory; a reboot loses the search", "keep ray_results on a disk")
    if mount.kind in LAYERED:
        fix = "mount a volume at ray_results; what is in the container's own layer is gone with the container"
        return Finding("file system", "warning", f"{words}: a container's own layer", fix)
    return Finding("file system", "ok", words)


def check_kind(folder: Path) -> Iterator[Finding]:
    """The type of the file system that holds `folder`, which need not be there yet."""
    if not MOUNTS.is_file():
        yield Finding("file system", "skipped", "this system does not tell (no /proc/self/mountinfo)")
        return
    mount = mount_of(existing(folder).resolve(), MOUNTS.read_text(encoding="utf-8", errors="replace"))
    yield judged_kind(mount) if mount else Finding("file system", "warning", "no mount point of the results folder is listed")


def existing(folder: Path) -> Path:
    """`folder`, or the nearest folder above it that is there."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def check_locks(folder: Path) -> Iterator[Finding]:
    """A second process must be refused what this one has locked, and get it afterwards.

    Raises:
        StorageError: the folder cannot be written.
    """
    probe = folder / PROBE
    try:
        with writable(folder), folder_lock(probe):
            held = _claimed_elsewhere(probe / ".lock")
        released = _claimed_elsewhere(probe / ".lock")
    except FolderInUse:
        yield Finding("locks", "skipped", f"another doctor is at work in {folder}")
        return
    remove(probe)
    if not held and released:
        yield Finding("locks", "ok", "flock keeps a second process out, and lets it in afterwards")
    else:
        what = "two processes hold the same lock at once" if held else "a lock that was given back stays locked"
        yield Finding("locks", "failed", f"flock does not work in {folder}: {what}", "keep ray_results on a local disk")


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Whatever the system says against writing into `folder`, also what base/storage.py has no words for, is the folder's fault.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        what = f"cannot be written ({error.strerror or error})"
        raise StorageError(what, str(folder), "give another folder with --results, on a disk that you may write to") from error


def _claimed_elsewhere(file: Path) -> bool:
    """Whether another process gets the lock.

    Raises:
        RuntimeError: it could not try.
    """
    done = subprocess.run([sys.executable, "-c", CLAIM, str(file)], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode not in (0, REFUSED):
        raise RuntimeError(f"the second process failed: {done.stderr.strip()}")
    return done.returncode == 0


def check_writes(folder: Path) -> Iterator[Finding]:
    """Write, fsync and rename over a file that is open: the old content must stay whole for its reader, the new one be there for the next.

    Raises:
        StorageError: the folder cannot be written.
    """
    file = folder / f"{PROBE}-{os.getpid()}"
    started = time.perf_counter()
    try:
        with writable(folder):
            write_text(file, "old")
        took = time.perf_counter() - started
        with file.open(encoding="utf-8") as reader:
            write_text(file, "new")
            kept, seen = reader.read(), file.read_text(encoding="utf-8")
    finally:
        remove(file)
    if (kept, seen) != ("old", "new"):
        what = f"a rename in {folder} is not atomic: an open file reads {kept!r}, its name {seen!r}"
        yield Finding("writes", "failed", what, "keep ray_results on a local disk")
    elif took > SLOW_FSYNC_S:
        what = f"renames are atomic; a durable write takes {1000 * took:.0f} ms, and each epoch makes about ten"
        yield Finding("writes", "warning", what, "a local disk is faster; harmless where epochs take minutes")
    else:
        yield Finding("writes", "ok", f"fsync is taken, renames are atomic; a durable write takes {1000 * took:.1f} ms")


def check_space(folder: Path, needed: float, what: str) -> Iterator[Finding]:
    """Whether `needed` bytes are free where `folder` is or will be."""
    free = shutil.disk_usage(existing(folder)).free
    words = f"{gib(needed)} for {what} (estimate), {gib(free)} free"
    if free < needed:
        yield Finding("disk", "failed", words, "free some space, or keep ray_results on another disk")
    elif free < 2 * needed:
        yield Finding("disk", "warning", words, "it fits, with less than as much again to spare")
    else:
        yield Finding("disk", "ok", words)


def gib(count: float) -> str:
    """Bytes in words."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
