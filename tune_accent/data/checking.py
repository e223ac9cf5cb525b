"""`prepare --check`: is what lies on the disk still what was written?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tune_accent.base.errors import DataError
from tune_accent.base.files import inside, sha256_file
from tune_accent.base.progress import Progress
from tune_accent.config import speech
from tune_accent.data import splits
from tune_accent.data.cache_format import META, faults
from tune_accent.data.corpus import SPLITS, of_right_length
from tune_accent.data.manifest import Manifest, read_manifest

MOST = 10  # faults that are named


def check_corpus(cfg: speech.Data, progress: Progress) -> str:
    """Compare manifest, audio, splits and caches of a corpus with their hashes; nothing is written.

    Returns:
        What was checked.

    Raises:
        DataError: something is missing or not what was written; all of it is named, up to `MOST`.
    """
    root = Path(cfg.root)
    manifest = read_manifest(root)
    caches = sorted(path.parent for path in (root / "prepared").glob(f"*/{META}"))
    found = [*_audio(manifest, progress), *_splits(manifest, cfg), *(fault for cache in caches for fault in _cache(cache))]
    if found:
        rest = f", and {len(found) - MOST} more" if len(found) > MOST else ""
        fix = "restore the files, or remove the folder and make the corpus again; a damaged cache is made again by itself"
        raise DataError(f"not what was written: {'; '.join(found[:MOST])}{rest}", where=str(root), fix=fix)
    unfinished = len(list((root / "prepared").glob(".*.parts")))
    rest = f"; {unfinished} more not finished: the same command continues" if unfinished else ""
    return (
        f"{root} is whole: {len(manifest.rows)} utterances, {len(caches)} prepared cache{'s' if len(caches) != 1 else ''}{rest}"
    )


def _audio(manifest: Manifest, progress: Progress) -> Iterator[str]:
    for done, row in enumerate(manifest.rows, start=1):
        path = inside(manifest.root, row.audio_path)
        if not path.is_file():
            yield f"{row.audio_path} is missing"
        elif row.audio_sha256 is not None and sha256_file(path) != row.audio_sha256:
            yield f"{row.audio_path} has changed"
        progress("checking audio", done, len(manifest.rows))


def _splits(manifest: Manifest, cfg: speech.Data) -> Iterator[str]:
    path = manifest.root / SPLITS
    if not path.exists():
        return
    try:
        splits.load(path, of_right_length(manifest, cfg))
    except DataError as error:
        yield f"{SPLITS}: {error.what}"


def _cache(folder: Path) -> Iterator[str]:
    yield from (f"prepared/{folder.name}/{fault}" for fault in faults(folder))
