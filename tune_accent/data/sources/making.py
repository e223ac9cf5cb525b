"""A source becomes a corpus folder: record of the source first, manifest last.

A folder with a manifest is whole. One without is begun again and its files are written over; only folders that are empty or that we
began ourselves are written to. Does not cover audio that is edited afterwards (`prepared.py` compares hashes when it reads audio).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tune_accent.base.errors import DataError
from tune_accent.base.files import canonical_json, folder_lock, read_json, remove, write_json, write_text
from tune_accent.base.progress import Progress
from tune_accent.data.manifest import Manifest, is_whole, read_manifest, write_manifest
from tune_accent.data.sources import Rejected, Source

RECORD, REJECTED = "source.json", "rejected.csv"
PARTS = ".parts"  # what a source keeps of an import that is not finished; gone once the manifest is there


def make_corpus(root: Path, source: Source, progress: Progress) -> Manifest:
    """Make the corpus of `source` in `root`, or read it where it is made already.

    Raises:
        DataError: the folder holds something else, or the corpus of a source with another record.
        UserError: what the source raises.
    """
    _assert_ours(root, source.record)
    if is_whole(root):
        _remove_parts(root)
        return read_manifest(root)
    with folder_lock(root):
        write_json(root / RECORD, dict(source.record))
        for torn in (root / "audio").rglob(".*.tmp"):  # of a making that was killed
            remove(torn)
        rows, rejected = source.fill(root, progress)
        _write_rejected(root / REJECTED, rejected)
        if not rows:
            raise _nothing_left(root, rejected)
        manifest = write_manifest(root, rows)
        _remove_parts(root)
        return manifest


def read_corpus(root: Path, options: Mapping[str, Any]) -> Manifest:
    """Read a corpus that was made before; what it was made from may be gone.

    Args:
        root: a folder with a manifest.
        options: the part of the source's record that does not need the source.

    Raises:
        DataError: the corpus was made with other options, or not by us.
    """
    found = read_json(root / RECORD) if (root / RECORD).exists() else {}
    _assert_ours(root, {**found, **options} if isinstance(found, dict) else options)
    return read_manifest(root)


def _nothing_left(root: Path, rejected: Sequence[Rejected]) -> DataError:
    if not rejected:
        return DataError("the source has no utterances", where=str(root), fix="look at what --from, or data.source, names")
    what = f"all {len(rejected)} utterances were rejected, so no corpus is made; the first: {rejected[0].utt_id}: {rejected[0].reason}"
    fix = f"{REJECTED} has the reason of each; correct the source, or widen data.min_duration_s to data.max_duration_s"
    return DataError(what, where=str(root / REJECTED), fix=fix)


def _remove_parts(root: Path) -> None:
    if (root / PARTS).is_dir():
        remove(root / PARTS)


def _assert_ours(root: Path, record: Mapping[str, Any]) -> None:
    if root.exists() and not root.is_dir():
        raise DataError("the path of the corpus is not a folder", where=str(root), fix="choose another data.root")
    if not (root / RECORD).exists():
        strangers = sorted(path.name for path in root.iterdir() if not path.name.startswith(".")) if root.exists() else []
        if strangers:
            what = f"the folder holds files that were not made here ({strangers[0]!r}), so no corpus is made in it"
            raise DataError(what, where=str(root), fix="choose another data.root, or set data.source.kind to prepared")
        return
    found = read_json(root / RECORD)
    if canonical_json(found) != canonical_json(dict(record)) and _has_content(root):
        difference = _difference(found if isinstance(found, dict) else {}, record)
        raise DataError(
            f"the folder holds a corpus that was made with {difference}",
            where=str(root),
            fix="choose another data.root, remove the folder, or go back to its parameters",
        )


def _has_content(root: Path) -> bool:
    """Not where an import failed before it made anything: then a corrected source may be used."""
    return is_whole(root) or any(path.is_file() for path in (root / "audio").rglob("*"))


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    keys = [key for key in sorted({*found, *wanted}) if found.get(key) != wanted.get(key)]
    return "; ".join(f"{key} {found.get(key)!r}, not {wanted.get(key)!r}" for key in keys)


def _write_rejected(path: Path, rejected: Sequence[Rejected]) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("utt_id", "reason"))
    writer.writerows((item.utt_id, item.reason) for item in rejected)
    write_text(path, buffer.getvalue())
