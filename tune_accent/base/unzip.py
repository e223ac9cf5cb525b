"""ZIP archives of strangers: everything is checked before a byte of content is read, and members are read into memory, one at a time.

Nothing is ever extracted, so no entry decides where anything is written. Refused as a whole, with a `DataError` that names the entry: names that are
absolute, leave their folder, or mean different things to different systems; links and devices; encrypted entries; two entries with one name (case and
Unicode form ignored) or in one place; local headers that contradict the directory; too many entries, too large ones, too good a compression.
Methods other than "stored" and "deflated" are not read. Does not cover archives that are changed while they are read.
"""

from __future__ import annotations

import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import IO

from tune_accent.base.errors import DataError, visible

ENCRYPTED = 0x1 | 0x40 | 0x2000  # bits of the flags: encrypted, strongly, with a masked directory
PATCH, UTF8 = 0x20, 0x800
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(\..*)?", re.IGNORECASE)
LOCAL = struct.Struct("<4s5H3L2H")  # header before the content of an entry
DIRECTORY_ENTRY = 46  # bytes, at least
END, END_BYTES, COMMENT = b"PK\x05\x06", 22, 1 << 16
BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, ValueError, OverflowError)


@dataclass(frozen=True)
class Limits:
    """What an archive may hold; sizes in bytes."""

    entries: int = 1_000_000
    entry: int = 512 * 2**20  # size of one entry, unpacked
    total: int = 1 << 40  # of all, unpacked
    ratio: int = 200  # unpacked to packed, of an entry of more than `small`
    small: int = 1 << 20
    name: int = 1024  # bytes of a whole name; 255 of each part


class Archive:
    """A checked ZIP; use as a context manager.

    Attributes:
        names: names of its files in Unicode form NFC, sorted.

    Raises:
        DataError: it cannot be read or breaks a rule.
    """

    def __init__(self, path: Path, limits: Limits = Limits()) -> None:
        self.path, self.limits = path, limits
        with _refusals(path):
            _check_directory_size(path, limits)
            self._zip = zipfile.ZipFile(path)
            try:
                self._infos = _checked(self._zip, path, limits)
            except BaseException:
                self._zip.close()
                raise
        self.names = tuple(sorted(self._infos))

    def size(self, name: str) -> int:
        """Bytes of a file, unpacked."""
        return self._infos[name].file_size

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            DataError: it is corrupt.
        """
        info = self._infos[name]
        try:
            with self._zip.open(name=info) as stream:
                data = stream.read(info.file_size)
                if stream.read(1) or len(data) != info.file_size:
                    raise zipfile.BadZipFile("its size is not the one announced")
            return data
        except BROKEN as error:
            raise _refused(self.path, f"entry {name!r} is corrupt ({error})") from error

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._zip.close()


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except BROKEN as error:
        raise _refused(path, f"not a ZIP archive that can be read ({error})") from error
    except OSError as error:
        raise DataError(f"it cannot be read ({error.strerror or error})", where=str(path), fix="check the path") from error


def _refused(path: Path, what: str) -> DataError:
    return DataError(visible(what), where=str(path), fix="pack the corpus again as a plain ZIP, or give the unpacked folder")


def _check_directory_size(path: Path, limits: Limits) -> None:
    """The directory is parsed as a whole by `zipfile`, so its size is bounded before; 64-bit sizes are found by their own record."""
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - END_BYTES - COMMENT - 76))  # 76: the 64-bit end record and its locator
        tail = stream.read()
    place = tail.rfind(END)
    if place < 0 or len(tail) < place + END_BYTES:
        raise zipfile.BadZipFile("no end of the directory")
    entries, directory = struct.unpack_from("<HL", tail, place + 10)
    large = place - 76
    if large >= 0 and tail[large : large + 4] == b"PK\x06\x06":
        entries, directory = struct.unpack_from("<QQ", tail, large + 32)
    if entries > limits.entries or directory > limits.entries * (DIRECTORY_ENTRY + 300):
        raise zipfile.BadZipFile(
            f"its directory lists {entries} entries in {directory} bytes, at most {limits.entries} entries are read"
        )


def _checked(archive: zipfile.ZipFile, path: Path, limits: Limits) -> dict[str, zipfile.ZipInfo]:
    """Name → entry of every file, after all checks."""
    infos = archive.infolist()
    if len(infos) > limits.entries:
        raise _refused(path, f"it has {len(infos)} entries, at most {limits.entries} are read")
    names = [_name(info) for info in infos]
    for name, info in zip(names, infos, strict=True):
        problem = name_problem(name, limits) or _entry_problem(info, limits)
        if problem:
            raise _refused(path, f"entry {name[:200]!r} {problem}")
    total = sum(info.file_size for info in infos)
    if total > limits.total:
        raise _refused(path, f"it unpacks to {total} bytes, at most {limits.total} are read")
    _check_clashes(names, path)
    assert archive.fp is not None
    _check_places(archive.fp, infos, archive.start_dir, path)
    return {unicodedata.normalize("NFC", name): info for name, info in zip(names, infos, strict=True) if not name.endswith("/")}


def _name(info: zipfile.ZipInfo) -> str:
    """The name as packed: some programs write UTF-8 without the flag that says so, which `zipfile` reads as CP437."""
    if info.flag_bits & UTF8:
        return info.orig_filename
    try:
        return info.orig_filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.orig_filename


def name_problem(name: str, limits: Limits = Limits()) -> str | None:
    """What is wrong with a relative path of slashes that shall mean the same on every system, or None; a last slash marks a folder."""
    parts = name.removesuffix("/").split("/")
    if (
        not name
        or len(name.encode("utf-8", "replace")) > limits.name
        or any(len(p.encode("utf-8", "replace")) > 255 for p in parts)
    ):
        return "has no name, or one that is too long"
    if "\\" in name or ":" in name or name.startswith("/") or not all(mark.isprintable() for mark in name):
        return "has a name with a backslash, a colon, a control character or a slash at its start"
    if any(part in {"", ".", ".."} for part in parts):
        return "has a name with an empty part, `.` or `..`"
    if any(part.endswith((" ", ".")) or DEVICES.fullmatch(part) for part in parts):
        return "has a name that some systems take for another one"
    return None


def _entry_problem(info: zipfile.ZipInfo, limits: Limits) -> str | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if info.flag_bits & ENCRYPTED:
        return "is encrypted"
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR} or ((kind == stat.S_IFDIR) != info.orig_filename.endswith("/") and kind != 0):
        return "is a link or a device, or a folder with the name of a file"
    if info.compress_type not in METHODS or info.flag_bits & PATCH:
        return f"is packed by method {info.compress_type}; only `stored` and `deflated` are read"
    if info.volume:
        return "lies on another volume"
    if info.file_size > limits.entry or (info.orig_filename.endswith("/") and info.file_size):
        return f"unpacks to {info.file_size} bytes, at most {limits.entry} are read, and none for a folder"
    if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
        return "is stored, but not in its own size"
    if info.file_size > limits.small and info.file_size > limits.ratio * max(info.compress_size, 1):
        return f"unpacks {info.compress_size} bytes to {info.file_size}, more than {limits.ratio} times as many"
    return None


def _check_clashes(names: list[str], path: Path) -> None:
    """Two names are one where only case or Unicode form differ; a file is no folder of another."""
    seen: dict[str, str] = {}
    for name in names:
        key = plain(name)
        if key in seen:
            raise _refused(path, f"entries {seen[key]!r} and {name!r} have the same name on some systems")
        seen[key] = name
    files = {key: name for key, name in seen.items() if not name.endswith("/")}
    for key, name in seen.items():
        folders = key.split("/")[:-1]
        for depth in range(1, len(folders) + 1):
            if "/".join(folders[:depth]) in files:
                raise _refused(path, f"entry {name!r} lies in a file")


def plain(name: str) -> str:
    """`name` as a system would see it that knows neither case nor Unicode forms."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).removesuffix("/")


def _check_places(stream: IO[bytes], infos: list[zipfile.ZipInfo], directory: int, path: Path) -> None:
    """No two entries share a byte, none lies in the directory, and each local header says what the directory says."""
    spans: list[tuple[int, int, str]] = []
    for info in infos:
        if not 0 <= info.header_offset <= directory - LOCAL.size:
            raise _refused(path, f"entry {info.filename!r} does not lie before the directory")
        stream.seek(info.header_offset)
        magic, _, flags, method, _, _, _, _, _, name, extra = LOCAL.unpack(stream.read(LOCAL.size))
        local = stream.read(name)
        if magic != b"PK\x03\x04" or method != info.compress_type or flags & ENCRYPTED or local != _packed(info):
            raise _refused(path, f"the header of entry {info.filename!r} contradicts the directory")
        spans.append((info.header_offset, info.header_offset + LOCAL.size + name + extra + info.compress_size, info.filename))
    spans.sort()
    for (_, end, one), (start, _, other) in pairwise([*spans, (directory, directory, "the directory")]):
        if end > start:
            raise _refused(path, f"entry {one!r} overlaps {other!r}")


def _packed(info: zipfile.ZipInfo) -> bytes:
    return info.orig_filename.encode("utf-8" if info.flag_bits & UTF8 else "cp437")
