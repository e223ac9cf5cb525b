"""The cache of an audit: one folder per layer, named by a hash of all that its numbers depend on, and filled chunk by chunk.

    <name>-<key>/     features.npy (N, D) float32, request.json (what the key is the hash of), checksums.json
    parts/<key>/NNNNN/    the chunks of an extraction under way; an interrupted one goes on where it stopped

A folder is whole or absent, and checked against its checksums before it is used; a damaged one is made again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import safe_open

from tune_accent.base.checksums import check_folder, write_checksums
from tune_accent.base.errors import DataError
from tune_accent.base.files import folder_lock, remove, remove_torn, sha256_json, write_folder, write_json
from tune_accent.base.progress import Progress

log = logging.getLogger(__name__)

FEATURES, REQUEST, PARTS, PART = "features.npy", "request.json", "parts", "features.safetensors"
Rows = npt.NDArray[np.int64]
Matrix = npt.NDArray[np.float32]
Compute = Callable[[Rows, Sequence[str]], Mapping[str, Matrix]]


@dataclass(frozen=True)
class Extraction:
    """One pass over all utterances that gives several matrices.

    Attributes:
        label: for the person who waits.
        request: everything that the numbers depend on but the name, as JSON values.
        names: of the matrices.
        open: loads what is needed, and gives (rows, names) → name → (len(rows), D). Called only where something is missing.
    """

    label: str
    request: Mapping[str, Any]
    names: tuple[str, ...]
    open: Callable[[], Compute]

    def folder(self, cache: Path, name: str) -> Path:
        """Where the matrix `name` is."""
        return cache / f"{name}-{sha256_json({'name': name, **self.request})[:16]}"


def complete(cache: Path, extraction: Extraction, chunks: Sequence[Rows], progress: Progress) -> None:
    """Compute what is missing of an extraction.

    Args:
        cache: the folder of the cache.
        extraction: what to compute.
        chunks: every row number 0 … N - 1 once; the rows that are computed together.
        progress: told about utterances.

    Raises:
        FolderInUse: another process is filling this cache.
    """
    if not _missing(cache, extraction):
        return
    with folder_lock(cache):
        remove_torn(cache)
        missing = _missing(cache, extraction)
        parts = cache / PARTS / sha256_json([dict(extraction.request), [len(rows) for rows in chunks]])[:16]
        _fill(parts, extraction, missing, chunks, progress)
        for name in missing:
            _assemble(extraction.folder(cache, name), extraction.request, name, parts, chunks)
        remove(parts)


def _missing(cache: Path, extraction: Extraction) -> list[str]:
    return [name for name in extraction.names if not _is_whole(extraction.folder(cache, name))]


def _is_whole(folder: Path) -> bool:
    """Whether a folder is there and undamaged; a damaged one is logged."""
    if not folder.is_dir():
        return False
    try:
        check_folder(folder)
    except DataError as error:
        log.warning("%s; it is made again", str(error).splitlines()[0])
        return False
    return True


def _fill(parts: Path, extraction: Extraction, names: Sequence[str], chunks: Sequence[Rows], progress: Progress) -> None:
    """Compute the chunks that are not there yet."""
    compute: Compute | None = None
    done, total = 0, sum(map(len, chunks))
    for number, rows in enumerate(chunks):
        part = parts / f"{number:05d}"
        if not (_is_whole(part) and set(names) <= _names(part)):
            compute = compute or extraction.open()
            _write_part(part, compute(rows, names))
        done += len(rows)
        progress(extraction.label, done, total)


def _names(part: Path) -> set[str]:
    with safe_open(part / PART, framework="numpy") as tensors:
        return set(tensors.keys())


def _write_part(part: Path, found: Mapping[str, Matrix]) -> None:
    data = safetensors.numpy.save({name: np.ascontiguousarray(found[name], dtype=np.float32) for name in sorted(found)})

    def fill_part(empty: Path) -> None:
        (empty / PART).write_bytes(data)
        write_checksums(empty)

    write_folder(part, fill_part)


def _assemble(folder: Path, request: Mapping[str, Any], name: str, parts: Path, chunks: Sequence[Rows]) -> None:
    """Put the chunks of one matrix into the order of the rows."""
    blocks = []
    for number in range(len(chunks)):
        with safe_open(parts / f"{number:05d}" / PART, framework="numpy") as tensors:
            blocks.append(tensors.get_tensor(name))
    stacked = np.concatenate(blocks)
    matrix = np.empty_like(stacked)
    matrix[np.concatenate(chunks)] = stacked

    def fill_matrix(empty: Path) -> None:
        np.save(empty / FEATURES, matrix, allow_pickle=False)
        write_json(empty / REQUEST, {"name": name, **request})
        write_checksums(empty)

    write_folder(folder, fill_matrix)
