"""The test split is opened once; what for, when and why is on the disk before a test row is encoded.

    <root>/paper/test_split.json    {"openings": [{"time", "identity", "reason", "of"}], "sha256"}

The same identity goes on where it was: after a crash, or to print the result again. Another one needs a reason, which stays in the file and in every
table. Does not cover a person who removes the file together with everything that was made from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tune_accent.base.checksums import NAME as CHECKSUMS
from tune_accent.base.differences import differences
from tune_accent.base.errors import DataError, UserError
from tune_accent.base.files import folder_lock, read_json, sha256_json, write_json
from tune_accent.paper.results import Opening

NAME = "test_split.json"
FIRST = "first opening"
KEYS = {"time", "identity", "reason", "of"}


def open_test(
    root: Path, identity: Mapping[str, Any], reopen: str | None = None, now: datetime | None = None
) -> tuple[Opening, ...]:
    """Open the test split for `identity`, or go on where it is open for it already.

    Args:
        root: the results folder.
        identity: JSON values of everything that the test figures depend on (winner, arms, seeds, data).
        reopen: why it is opened for something else than before.
        now: the time; None: of the clock.

    Returns:
        Every opening so far, the first one first; they are on the disk.

    Raises:
        UserError: it was opened for something else and `reopen` is None or blank; or `test_split.json` was edited or removed. FolderInUse.
    """
    wanted = _plain(identity)
    with folder_lock(root / "paper" / ".test_split"):
        noted = read_openings(root)
        if not any(one["of"] == wanted for one in noted):
            noted = [*noted, _opened(root, noted, wanted, reopen, now or datetime.now(UTC))]
            content = {"openings": noted}
            write_json(root / "paper" / NAME, {**content, "sha256": sha256_json(content)})
        return _as_openings(noted)


def openings(root: Path) -> tuple[Opening, ...]:
    """Every opening so far, the first one first. `DataError` as in `read_openings`."""
    return _as_openings(read_openings(root))


def read_openings(root: Path) -> list[dict[str, Any]]:
    """The openings as the file holds them: `time`, `identity`, `reason` and `of`, the identity in full; none where there is no file.

    Raises:
        DataError: it was edited, or removed from a finished paper folder.
    """
    file = root / "paper" / NAME
    try:
        content = read_json(file)
    except FileNotFoundError:
        _refuse_removed(root)
        return []
    if not _whole(content):
        raise DataError(
            "the record of the test split's openings was edited: it no longer matches its own checksum",
            str(file),
            "bring the file back as it was; without it nothing tells how often the test speakers were heard",
        )
    return list(content["openings"])


def refuse_other(root: Path, part: Mapping[str, Any], reopen: str | None) -> None:
    """Refuse what `open_test` would refuse, as soon as a part of the identity is known and before anything is trained or written for it.

    Args:
        root: the results folder.
        part: some of the identity's entries.
        reopen: as for `open_test`.

    Raises:
        UserError: there is an opening, none has these entries, and no reason is given.
    """
    wanted, noted = _plain(part), read_openings(root)
    if (
        noted
        and not (reopen or "").strip()
        and not any(all(one["of"].get(key) == wanted[key] for key in wanted) for one in noted)
    ):
        raise _refusal(root, noted[-1], {**noted[-1]["of"], **wanted})


def _as_openings(noted: list[dict[str, Any]]) -> tuple[Opening, ...]:
    return tuple(Opening(one["time"], one["identity"], one["reason"]) for one in noted)


def _opened(root: Path, noted: list[dict[str, Any]], wanted: dict[str, Any], reopen: str | None, now: datetime) -> dict[str, Any]:
    reason = (reopen or "").strip()
    if noted and not reason:
        raise _refusal(root, noted[-1], wanted)
    time = now.astimezone(UTC).isoformat(timespec="seconds")
    return {"time": time, "identity": sha256_json(wanted), "reason": reason if noted else FIRST, "of": wanted}


def _refusal(root: Path, last: Mapping[str, Any], wanted: Mapping[str, Any]) -> UserError:
    lines = differences(last["of"], wanted)
    return UserError(
        "\n".join([f"the test split was opened at {last['time']} for something else; it was → it is now:", *lines]),
        str(root / "paper" / NAME),
        'go back to what it was opened for, or give --reopen "why": the reason is recorded, and printed in every table made from it',
    )


def _refuse_removed(root: Path) -> None:
    try:
        sealed = read_json(root / "paper" / CHECKSUMS)
    except FileNotFoundError:
        return
    if NAME in sealed:
        raise DataError(
            "the record of the test split's openings is missing, and this paper run had one",
            str(root / "paper" / NAME),
            "bring the file back; without it nothing tells how often the test speakers were heard",
        )


def _whole(content: Any) -> bool:
    try:
        same: bool = content["sha256"] == sha256_json({"openings": content["openings"]}) and len(content) == 2
        return same and all(set(one) == KEYS and one["identity"] == sha256_json(one["of"]) for one in content["openings"])
    except (KeyError, TypeError, ValueError):
        return False


def _plain(identity: Mapping[str, Any]) -> dict[str, Any]:
    """As the file gives it back: tuples are lists."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(identity), allow_nan=False))
    return plain
