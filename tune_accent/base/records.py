"""A record: what a long computation came to, with the key of everything that it depends on and the checksum of its own content.

    {"key", "content", "sha256"}

One that is absent, damaged, or of another key is computed again; nothing else is.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tune_accent.base.errors import DataError
from tune_accent.base.files import read_json, sha256_json, write_json

logger = logging.getLogger(__name__)


def load_record(path: Path, key: str) -> Mapping[str, Any] | None:
    """The content of the record at `path`, or None where there is none with this key that is whole; a damaged one is warned of."""
    if not path.is_file():
        return None
    try:
        record = read_json(path)
        whole = record["sha256"] == sha256_json({"key": record["key"], "content": record["content"]})
    except (DataError, KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        logger.warning("%s is damaged and is computed again", path)
        return None
    content: Mapping[str, Any] = record["content"]
    return content if record["key"] == key else None


def save_record(path: Path, key: str, content: Mapping[str, Any]) -> None:
    """Write a record of JSON values; from now on it counts."""
    body = {"key": key, "content": dict(content)}
    write_json(path, {**body, "sha256": sha256_json(body)})
