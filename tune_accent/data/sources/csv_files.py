"""The files of a corpus in CSV form, in a folder or a ZIP archive: found by relative path, read whole, never written."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from tune_accent.base.errors import DataError
from tune_accent.base.files import inside
from tune_accent.base.unzip import Archive

METADATA, TEXTS = "metadata.csv", "texts.json"


class Files(Protocol):
    """Files by relative path with forward slashes, in Unicode form NFC."""

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        ...

    def read(self, name: str, limit: int) -> bytes:
        """Its content.

        Raises:
            DataError: it is not there, cannot be read, or has more than `limit` bytes.
        """
        ...


class _Closing:
    """What has nothing to close."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass


class FolderFiles(_Closing):
    """A folder; links may not leave it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listings: dict[Path, dict[str, list[str]]] = {}

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        try:
            return self._path(name).is_file()
        except DataError:
            return False

    def read(self, name: str, limit: int) -> bytes:
        """Its content, bounded."""
        path = self._path(name)
        try:
            if not path.is_file():
                raise _missing(name)
            with path.open("rb") as stream:
                data = stream.read(limit + 1)
        except OSError as error:
            raise DataError(f"the file {name!r} cannot be read ({error.strerror})", where=str(self.root)) from error
        return _bounded(data, name, len(data), limit)

    def _path(self, name: str) -> Path:
        """The file whose name is `name` up to its Unicode form: macOS stores names decomposed."""
        folder, parts = self.root, []
        for part in name.split("/"):
            found = self._listing(folder).get(part, [])
            if not found:
                raise _missing(name)
            if len(found) > 1:
                raise DataError(f"the name {name!r} is there in two Unicode forms", where=str(self.root), fix="rename one")
            parts.append(found[0])
            folder = folder / found[0]
        return inside(self.root, "/".join(parts))

    def _listing(self, folder: Path) -> dict[str, list[str]]:
        if folder not in self._listings:
            names: dict[str, list[str]] = {}
            if folder.is_dir():
                for path in folder.iterdir():
                    names.setdefault(unicodedata.normalize("NFC", path.name), []).append(path.name)
            self._listings[folder] = names
        return self._listings[folder]


class ArchiveFiles(_Closing):
    """A checked archive. Its files may lie in one folder at the top, as they do when a folder is packed."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.names = frozenset(archive.names)
        tops = [name for name in archive.names if name.endswith(f"/{METADATA}") and name.count("/") == 1]
        self.prefix = tops[0].removesuffix(METADATA) if METADATA not in self.names and len(tops) == 1 else ""

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return self.prefix + name in self.names

    def read(self, name: str, limit: int) -> bytes:
        """Its content, bounded by the size that the directory gives."""
        if not self.has(name):
            raise _missing(name)
        size = self.archive.size(self.prefix + name)
        return _bounded(b"" if size > limit else self.archive.read(self.prefix + name), name, size, limit)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.archive.__exit__(kind, error, trace)


def open_files(path: Path) -> FolderFiles | ArchiveFiles:
    """The files of the folder or ZIP archive `path`; a context manager, which closes the archive.

    Raises:
        DataError: it is neither, or an archive that breaks a rule.
    """
    if path.is_dir():
        return FolderFiles(path)
    if path.is_file():
        return ArchiveFiles(Archive(path))
    raise DataError("there is no such folder or ZIP archive", where=str(path), fix="check the path")


def _missing(name: str) -> DataError:
    return DataError(f"there is no file {name!r}", fix="correct rel_path, or add the file")


def _bounded(data: bytes, name: str, size: int, limit: int) -> bytes:
    if size > limit:
        raise DataError(f"the file {name!r} has more than {limit} bytes", fix="leave it out")
    return data
