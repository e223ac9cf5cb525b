"""Runs that W&B's client wrote to disk (`run-<id>.wandb`), read back without network: configuration, summary, every history row.

    runs, faults = read_runs(Path("ray_results/lora/wandb"))

The format is W&B's transaction log: a header of 7 bytes, then LevelDB's log format (blocks of 32 KiB; records of CRC-32, length, kind, content, split
over blocks where they do not fit), each record one protobuf `Record`. Every checksum is checked: a torn or altered file is a `DataError` that says where.
A file is whole once the process that wrote it has ended.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from tune_accent.base.errors import DataError
from tune_accent.base.storage import explained

BLOCK, START = 32 * 1024, struct.pack("<4sHB", b":W&B", 0xBEE1, 0)
HEADER = struct.Struct("<IHB")  # CRC-32 of kind and content, length, kind
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
MAX_BYTES = 2**30


@dataclass(frozen=True)
class OfflineRun:
    """A run as its file tells it.

    Attributes:
        path: the file.
        id: of the run; two files can hold parts of one.
        name: as a person sees it.
        project, entity, group, sweep: None where the run has none.
        tags: in order.
        config: W&B's own entries (`_wandb`) left out.
        summary: the last values.
        history: a row per `log` call, by step; `_step`, `_timestamp` and `_runtime` (seconds) are W&B's.
        exit_code: None where the run was never finished (it runs, or its process was killed).
    """

    path: Path
    id: str
    name: str
    project: str | None
    entity: str | None
    group: str | None
    sweep: str | None
    tags: tuple[str, ...]
    config: dict[str, Any]
    summary: dict[str, Any]
    history: tuple[dict[str, Any], ...]
    exit_code: int | None


def read_runs(folder: Path) -> tuple[list[OfflineRun], list[DataError]]:
    """Every `run-*.wandb` below `folder`, by path; and one error for each file that cannot be read."""
    runs, faults = [], []
    for path in sorted(folder.rglob("run-*.wandb")):
        try:
            runs.append(read_run(path))
        except DataError as error:
            faults.append(error)
    return runs, faults


def read_run(path: Path) -> OfflineRun:
    """One file.

    Raises:
        DataError: torn, altered, of another format, or of no run.
        StorageError: the disk refuses.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from wandb.proto.wandb_internal_pb2 import Record

    with explained(path), path.open("rb") as stream:
        data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise _fault(path, f"larger than {MAX_BYTES} bytes")
    try:
        return _run(path, [Record.FromString(content) for content in _records(path, data)])
    except (DecodeError, ValueError, RecursionError) as error:  # RecursionError: JSON that is nested too deep
        raise _fault(path, f"a record makes no sense: {error}") from error


def _run(path: Path, records: Sequence[Any]) -> OfflineRun:
    runs = [record.run for record in records if record.HasField("run")]
    if not runs:
        raise _fault(path, "it holds no run: it was torn before its beginning was written")
    run, exits = runs[0], [record.exit.exit_code for record in records if record.HasField("exit")]
    config = _merged([run.config, *(record.config for record in records if record.HasField("config"))])
    return OfflineRun(
        path,
        run.run_id,
        run.display_name,
        run.project or None,
        run.entity or None,
        run.run_group or None,
        run.sweep_id or None,
        tuple(run.tags),
        {name: value for name, value in config.items() if name != "_wandb"},
        _merged([run.summary, *(record.summary for record in records if record.HasField("summary"))]),
        tuple(_row(record.history.item) for record in records if record.HasField("history")),
        exits[-1] if exits else None,
    )


def _merged(changes: Iterable[Any]) -> dict[str, Any]:
    """Updates and removals of a configuration or a summary, in order."""
    found: dict[str, Any] = {}
    for change in changes:
        found |= _row(change.update)
        for item in change.remove:
            found.pop(_name(item), None)
    return found


def _row(items: Iterable[Any]) -> dict[str, Any]:
    return {_name(item): _value(item) for item in items}


def _name(item: Any) -> str:
    return ".".join(item.nested_key) or str(item.key)


def _value(item: Any) -> Any:
    """A value, as JSON or in the typed form that newer clients can write."""
    if item.value_json:
        return json.loads(item.value_json)
    kind = item.WhichOneof("value") if "value" in item.DESCRIPTOR.oneofs_by_name else None
    if kind is None:
        raise ValueError(f"{_name(item)} has no value")
    value = getattr(item, kind)
    return None if kind == "none" else json.loads(value) if kind == "json" else value


def _records(path: Path, data: bytes) -> Iterator[bytes]:
    """The contents of a transaction log."""
    if data[: len(START)] != START:
        raise _fault(path, "it does not begin as a W&B file does")
    place, parts = len(START), list[bytes]()
    while place < len(data):
        left = BLOCK - place % BLOCK
        if left < HEADER.size:  # too little for a header: zeros up to the next block
            place += left
            continue
        kind, content = _piece(path, data, place)
        place += HEADER.size + len(content)
        if (kind in (FULL, FIRST)) == bool(parts):
            _broken(path, place, "a record without its beginning" if kind in (MIDDLE, LAST) else "a record without its end")
        parts.append(content)
        if kind in (FULL, LAST):
            yield b"".join(parts)
            parts = []
    if parts:
        _broken(path, len(data), "the last record is cut off")


def _piece(path: Path, data: bytes, place: int) -> tuple[int, bytes]:
    """Kind and content of a record, or of the part of one that lies in this block."""
    if place + HEADER.size > len(data):
        _broken(path, place, "the last record is cut off")
    checksum, length, kind = HEADER.unpack_from(data, place)
    content = data[place + HEADER.size : place + HEADER.size + length]
    if kind not in (FULL, FIRST, MIDDLE, LAST) or place % BLOCK + HEADER.size + length > BLOCK:
        _broken(path, place, "no record begins here")
    if len(content) < length:
        _broken(path, place, "the last record is cut off")
    if zlib.crc32(content, zlib.crc32(bytes([kind]))) != checksum:
        _broken(path, place, "the checksum of a record does not match")
    return kind, content


def _broken(path: Path, place: int, what: str) -> NoReturn:
    raise _fault(path, f"{what} (byte {place})")


def _fault(path: Path, what: str) -> DataError:
    return DataError(f"not a whole W&B run: {what}", str(path), "copy the file again, or leave it out")
