"""What makes a prepared cache current and whole; slim to import, for whoever only asks whether there is something to do."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tune_accent.base.errors import DataError
from tune_accent.base.files import inside, read_json, sha256_file, sha256_json, write_json

FORMAT = 2  # counts up when the files of a cache are others; old ones are then left alone and new ones made
LIBRARIES = ("numpy", "scipy", "scikit-learn", "soundfile", "soxr", "pyloudnorm")  # their versions can change a bit of the cache
META = "prepared.json"
KEY_LENGTH = 24

log = logging.getLogger(__name__)


def codec_files(folder: Path) -> list[Path]:
    """The files of a codec that is loaded (`qwen`) which decide its codes."""
    return sorted([folder / "config.json", folder / "preprocessor_config.json", *folder.glob("*.safetensors")])


def codec_fingerprint(folder: Path) -> str:
    """SHA-256 over names and bytes of `codec_files`: the same wherever they lie.

    Raises:
        OSError: one of them cannot be read.
    """
    return sha256_json({path.name: sha256_file(path) for path in codec_files(folder)})


def key_of(request: Mapping[str, Any]) -> str:
    """The name of the cache with everything in `request` decided."""
    return sha256_json(dict(request))[:KEY_LENGTH]


def libraries() -> dict[str, str]:
    """The versions that are part of a request."""
    return {name: version(name) for name in LIBRARIES}


def is_current(folder: Path) -> bool:
    """Whether `folder` is a cache that this version with these libraries would make; says nothing about damage."""
    try:
        request = read_json(folder / META)["request"]
        return bool(request["format"] == FORMAT and request["libraries"] == libraries())
    except (OSError, DataError, KeyError, TypeError):
        return False


def faults(folder: Path) -> list[str]:
    """What is not as it was written: names of files, or why nothing can be said."""
    try:
        meta = read_json(folder / META)
        sums: dict[str, str] = meta["sha256"]
        if not sums or key_of(meta["request"]) != folder.name:
            return [f"{META} has changed"]
        files = {name: inside(folder, name) for name in sums}
        return [
            f"{name} {'has changed' if files[name].is_file() else 'is missing'}"
            for name, digest in sums.items()
            if not files[name].is_file() or sha256_file(files[name]) != digest
        ]
    except (OSError, DataError, KeyError, TypeError, AttributeError) as error:
        return [f"{META} cannot be read ({type(error).__name__})"]


def is_whole(folder: Path) -> bool:
    """Whether every file is the one that was written.

    Checksums are compared once; after that, as long as size and time of every file stay the same: a gigabyte is not read by every process that
    opens it. `prepare --check` always reads all of it.
    """
    if not folder.is_dir():
        return False
    seen, now = folder.with_name(f"{folder.name}.seen.json"), _stamps(folder)
    if _read(seen) == now:
        return True
    found = faults(folder)
    if found:
        log.warning("the prepared cache %s is damaged (%s) and is made again", folder, found[0])
        return False
    write_json(seen, now)
    return True


def _stamps(folder: Path) -> dict[str, list[int]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): [(stat := path.stat()).st_size, stat.st_mtime_ns] for path in files}


def _read(path: Path) -> Any:
    try:
        return read_json(path) if path.is_file() else None
    except DataError:
        return None
