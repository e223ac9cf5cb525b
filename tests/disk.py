"""A disk that can fail: every step that changes a folder is counted, and the process can be killed or refused at any of them.

A step is a call of `os` that makes, writes, syncs, renames or removes something, or half of a content that is written. The state before a
step is the state after the one before it, so stopping before each step covers both sides. A killed process does nothing any more: every
later step raises as well, also those of clean-up code. Linux only (`/proc/self/fd`).
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

CALLS = ("mkdir", "rmdir", "unlink", "remove", "rename", "replace", "chmod", "fsync", "ftruncate")


class Killed(BaseException):
    """The process is gone: nothing may swallow this."""


def refusal(number: int) -> Callable[[], OSError]:
    """What a disk answers."""
    return lambda: OSError(number, os.strerror(number))


class Disk:
    """Counts the steps below `root` while it is on.

    Args:
        root: the folder that is watched.
        fail_at: index of the step that fails, and every later one with it; None: none fails.
        error: what is raised there.
    """

    def __init__(self, root: Path, fail_at: int | None = None, error: Callable[[], BaseException] = Killed) -> None:
        self.root, self.fail_at, self.error = str(root.resolve()), fail_at, error
        self.steps: list[str] = []

    @property
    def failed(self) -> bool:
        """Whether the step to fail was reached."""
        return self.fail_at is not None and len(self.steps) > self.fail_at

    def step(self, name: str, place: str, torn: Callable[[], object] = lambda: None) -> None:
        """Note a step, or fail; `torn` leaves half of a content behind, unless the failure came before."""
        if not place.startswith(self.root):
            return
        first = not self.failed
        self.steps.append(f"{name} {place.removeprefix(self.root)}")
        if self.failed:
            if first:
                torn()
            raise self.error()

    @contextmanager
    def on(self) -> Iterator[Self]:
        """Watch."""
        with pytest.MonkeyPatch.context() as patch:
            for name in CALLS:
                patch.setattr(os, name, self._call(name, getattr(os, name)))
            patch.setattr(os, "open", self._open(os.open))
            patch.setattr(os, "write", self._write(os.write))
            for name in ("write_bytes", "write_text"):
                patch.setattr(Path, name, self._content(name, getattr(Path, name)))
            patch.setattr(shutil, "copyfile", self._copy(shutil.copyfile))
            yield self

    def _call(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(target: Any, *args: Any, **kwargs: Any) -> Any:
            self.step(name, _place(target, kwargs.get("dir_fd")))
            return original(target, *args, **kwargs)

        return call

    def _open(self, original: Callable[..., int]) -> Callable[..., int]:
        def open_(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
            if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
                self.step("open", _place(path, kwargs.get("dir_fd")))
            return original(path, flags, *args, **kwargs)

        return open_

    def _write(self, original: Callable[[int, bytes], int]) -> Callable[[int, bytes], int]:
        def write(descriptor: int, data: bytes) -> int:
            place = _place(descriptor, None)
            self.step("write", place)
            self.step("write half of", place, lambda: original(descriptor, data[: len(data) // 2]))
            return original(descriptor, data)

        return write

    def _content(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def write(path: Path, data: Any, *args: Any, **kwargs: Any) -> Any:
            self.step(name, str(path.resolve()))
            self.step("half of", str(path.resolve()), lambda: original(path, data[: len(data) // 2], *args, **kwargs))
            return original(path, data, *args, **kwargs)

        return write

    def _copy(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def copy(source: Any, target: Any, **kwargs: Any) -> Any:
            self.step("copy", _place(target, None))
            return original(source, target, **kwargs)

        return copy


class Filling(Disk):
    """A disk that takes so many bytes below `root`, the last content as far as it fits, and from then on refuses.

    Where it is full, contents are refused; where it is broken (EIO) also every fsync; where it has become read-only (EROFS) everything.

    Args:
        root: the folder that is watched.
        room: bytes, over all files together; nothing is ever given back.
        number: what is answered then.

    Attributes:
        written: bytes so far.
    """

    def __init__(self, root: Path, room: int, number: int = errno.ENOSPC) -> None:
        super().__init__(root)
        self.room, self.number, self.written = room, number, 0

    def step(self, name: str, place: str, torn: Callable[[], object] = lambda: None) -> None:
        """Refuse what such a disk refuses beside contents."""
        concerned = self.number == errno.EROFS or (self.number == errno.EIO and name == "fsync")
        if place.startswith(self.root) and concerned and self.written >= self.room:
            raise OSError(self.number, os.strerror(self.number), place)

    def _fits(self, size: int, place: str) -> int:
        """How many of `size` bytes are taken; a short count first, then the refusal."""
        if not place.startswith(self.root):
            return size
        taken = min(size, self.room - self.written)
        if taken == 0 < size:
            raise OSError(self.number, os.strerror(self.number), place)
        self.written += taken
        return taken

    def _write(self, original: Callable[[int, bytes], int]) -> Callable[[int, bytes], int]:
        def write(descriptor: int, data: bytes) -> int:
            return original(descriptor, data[: self._fits(len(data), _place(descriptor, None))])

        return write

    def _content(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def write(path: Path, data: bytes | str, *args: Any, **kwargs: Any) -> int:
            return self._put(path, data.encode() if isinstance(data, str) else data)

        return write

    def _copy(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def copy(source: Any, target: Any, **kwargs: Any) -> Any:
            self._put(Path(target), Path(source).read_bytes())
            return target

        return copy

    def _put(self, path: Path, data: bytes) -> int:
        place = str(path.resolve())
        with path.open("wb") as stream:
            taken = self._fits(len(data), place)
            stream.write(data[:taken])
        return taken if taken == len(data) else self._fits(len(data) - taken, place)


def _place(target: Any, folder: int | None) -> str:
    """Where `target` is; asked for at every step, and `os` answers several times faster than `Path`."""
    if isinstance(target, int):
        return os.readlink(f"/proc/self/fd/{target}")  # noqa: PTH115
    start = os.getcwd() if folder is None else os.readlink(f"/proc/self/fd/{folder}")  # noqa: PTH109, PTH115
    return os.path.normpath(os.path.join(start, target))  # noqa: PTH118


RANDOM = re.compile(r"[a-z0-9_]{8}(?=\.tmp)")  # in the names that `tempfile` gives
TIME = re.compile(rb"1[0-9]{9}\.[0-9]+")  # seconds since 1970
State = frozenset[tuple[str, int, bytes, int]]


def content_of(path: str) -> bytes:
    """The bytes of a file."""
    with open(path, "rb", buffering=0) as stream:  # noqa: PTH123
        return stream.read()


def state(root: Path) -> State:
    """All that what reads `root` can see of it: names, modes and bytes, but for the time, the random part of a name, and the lines of a log.

    Whatever goes on from two equal states does the same, so that it need be done once.
    """
    found: list[tuple[str, int, bytes]] = []
    for folder, _, files in os.walk(root):
        for path in (folder, *(f"{folder}/{name}" for name in files)):
            name = RANDOM.sub("", path.removeprefix(str(root)))
            content = b"" if path == folder or name.endswith(".log") else TIME.sub(b"", content_of(path))
            found.append((name, os.stat(path).st_mode, content))  # noqa: PTH116
    return frozenset((*entry, count) for entry, count in Counter(found).items())


@contextmanager
def quick_folder() -> Iterator[Path]:
    """A folder in main memory where the system has such a place: a disk that is only counted is no disk that one waits for."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name).resolve()
