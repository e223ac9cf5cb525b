"""`paper.zip`: the outputs and records of a paper run as one file, for a reviewer.

Entries are sorted, with one fixed time and mode: equal folders give equal bytes (of one version of zlib). Trained weights are in it from `adapter/` alone.
`SHA256SUMS` in it covers every other entry: `sha256sum -c SHA256SUMS` where it was unpacked.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from tune_accent.base.checksums import NAME as SEAL
from tune_accent.base.errors import DataError
from tune_accent.base.files import sha256_bytes, write_file

ADAPTER, AUDIO, SUMS = "adapter", "control_audio", "SHA256SUMS"
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".npy", ".npz")
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a ZIP can hold


def bundle(folder: Path, target: Path) -> None:
    """Pack `folder` into `target`, whole or absent; one that is there is replaced.

    Left out: hidden files, links, generated audio, trained weights outside `adapter/`, and the seal of the folder, which covers them.

    Args:
        folder: `<root>/paper`.
        target: the ZIP; it may lie in `folder`.

    Raises:
        DataError: there is nothing to pack.
    """
    files = {path.relative_to(folder).as_posix(): path for path in bundled(folder) if path != target}
    if not files:
        raise DataError("there is nothing to pack", str(folder), "the paper run writes it")

    def fill(temporary: Path) -> None:
        sums = []
        with zipfile.ZipFile(temporary, "w") as archive:
            for name, path in sorted(files.items()):
                content = path.read_bytes()
                sums.append(f"{sha256_bytes(content)}  {folder.name}/{name}\n")
                archive.writestr(_entry(f"{folder.name}/{name}"), content)
            archive.writestr(_entry(SUMS), "".join(sums))

    write_file(target, fill)


def bundle_faults(folder: Path, target: Path) -> Iterator[str]:
    """What `target` holds that is not as it lies in `folder`, in words.

    Raises:
        FileNotFoundError: there is no `target`.
    """
    expected = {f"{folder.name}/{path.relative_to(folder).as_posix()}": path for path in bundled(folder) if path != target}
    try:
        with zipfile.ZipFile(target) as archive:
            names = set(archive.namelist()) - {SUMS}
            yield from (f"lacks {name}" for name in sorted(expected.keys() - names))
            yield from (f"holds {name}, which the folder has not" for name in sorted(names - expected.keys()))
            for name in sorted(names & expected.keys()):
                if (
                    archive.getinfo(name).file_size != expected[name].stat().st_size
                    or archive.read(name) != expected[name].read_bytes()
                ):
                    yield f"holds another {name} than the folder"
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        yield f"is damaged: {error}"


def bundled(folder: Path) -> Iterator[Path]:
    """The files of `folder` that go into the bundle, in no order."""
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") for part in parts)
        if path.is_symlink() or not path.is_file() or hidden or parts == (SEAL,) or parts[0] == AUDIO:
            continue
        if parts[0] == ADAPTER or path.suffix not in WEIGHTS:
            yield path


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3  # Unix, wherever it is made
    entry.external_attr = 0o100644 << 16
    return entry
