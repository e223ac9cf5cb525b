"""Names of utterances and of their files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tune_accent.base.files import sha256_bytes
from tune_accent.data.sources import brazil


def utterance_id(row: Mapping[str, Any]) -> str:
    """A readable name and a hash of what tells the row from others, which does not depend on how the corpus is cut into shards."""
    identity = [row["audio_name"], row["file_path"], row["speaker_code"], row["start_time"], row["end_time"]]
    stem = Path(str(row["file_path"] or row["audio_name"] or row["speaker_code"])).stem
    return f"{slug(stem)}-{sha256_bytes(repr(identity).encode())[:12]}"


def slug(text: str) -> str:
    """`text` as a part of a file name: lower-case letters, digits, `_` and `-`."""
    return re.sub(r"[^a-z0-9_-]+", "_", brazil.plain(text)).strip("_-")[:60] or "x"
