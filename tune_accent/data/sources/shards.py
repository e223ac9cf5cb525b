"""Parquet shards: found in a folder, by a glob or on the Hub, checked by their footers, and read in batches that stay small.

A column of audio may be gigabytes in one row group: it is read page by page. Does not cover shards that change while they are read.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tune_accent.base.errors import DataError, MissingDependency
from tune_accent.base.files import sha256_bytes, sha256_json
from tune_accent.base.hub import NoCopy, hub_copy, is_hub_id
from tune_accent.config.words import nearest

BATCH = 64  # rows that are held with their audio
BUFFER = 1 << 20  # bytes that are read at once
PAGE_ROWS = 1024
DOWNLOAD = "hf download {id} --repo-type dataset --local-dir FOLDER"
INSTALL = "pip install 'tune-accent[hub]'"


@dataclass(frozen=True)
class Shard:
    """A parquet file.

    Attributes:
        path: where it is.
        rows: of each row group.
        footer: SHA-256 of its footer, which knows place and size of every column.
        page: bytes of its largest page of audio, at most: Arrow writes up to `PAGE_ROWS` rows into one, and reads one at once.
    """

    path: Path
    rows: tuple[int, ...]
    footer: str
    page: int = 0


def find_shards(where: str) -> list[Path]:
    """The parquet files of a folder (at any depth), of a glob, or of a data set on the Hub, sorted.

    Raises:
        DataError: there are none, or the Hub cannot be reached.
        MissingDependency: a Hub id is given and the extra `hub` is not installed.
    """
    path = Path(where)
    if path.is_dir():
        return _some(path.rglob("*.parquet"), where, "the folder holds no *.parquet file", _others(path))
    if path.is_file():
        return [path]
    if glob.has_magic(where):
        found = (Path(name) for name in glob.glob(where, recursive=True))  # noqa: PTH207 (a whole pattern, absolute or not)
        return _some(
            (file for file in found if file.is_file()),
            where,
            "no file has a name like that",
            "correct the pattern, and quote it for the shell",
        )
    if is_hub_id(where):
        return _some(_download(where).rglob("*.parquet"), where, "the data set holds no *.parquet file", "check the id")
    raise DataError("there is no such folder", where=where, fix="give the folder with the parquet shards, a glob, or a Hub id")


def _some(paths: Iterator[Path], where: str, what: str, fix: str) -> list[Path]:
    found = sorted(paths)
    if not found:
        raise DataError(what, where=where, fix=fix)
    return found


def _others(folder: Path) -> str:
    inside = sorted(path.name for path in folder.iterdir())[:3]
    return f"it holds {', '.join(inside)}; give the folder with the shards" if inside else "it is empty"


def _download(name: str) -> Path:
    try:
        return hub_copy(name, ["*.parquet"], "dataset")
    except ImportError as error:
        what = "no such folder here, and to ask the Hub for it `huggingface_hub` is needed, which is not installed"
        raise MissingDependency(what, where=name, fix=INSTALL) from error
    except NoCopy as error:
        fix = f"give a folder with its parquet shards; on a machine with network: {DOWNLOAD.format(id=name)}"
        what = f"no such folder here, and as a data set of the Hub it cannot be had ({str(error)[:200]})"
        raise DataError(what, where=name, fix=fix) from error


def open_shard(path: Path, required: Mapping[str, str]) -> Shard:
    """Read the footer of a file and check its columns.

    Args:
        required: leaf column → kind: "text", "number" or "bytes", e.g. {"audio.bytes": "bytes"}.

    Raises:
        DataError: no parquet file, or a column is missing or of another kind; all of them are named.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path, pre_buffer=False) as file:
            _check_columns(path, dict(_leaves(file.schema_arrow)), required)
            rows = tuple(file.metadata.row_group(index).num_rows for index in range(file.num_row_groups))
            return Shard(path, rows, _footer(path), _largest_page(file.metadata))
    except (pyarrow.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _largest_page(metadata: Any) -> int:
    sizes = [0.0]
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        columns = map(group.column, range(group.num_columns))
        sizes += [c.total_uncompressed_size * min(1.0, PAGE_ROWS / max(group.num_rows, 1)) for c in columns]
    return int(max(sizes))


def fingerprint(shards: Sequence[Shard]) -> str:
    """SHA-256 of all footers in order: names and folders may differ, contents may not."""
    return sha256_json([shard.footer for shard in shards])


def columns_of(shard: Shard, group: int, columns: Sequence[str]) -> dict[str, list[Any]]:
    """Whole small columns of a row group; columns that the shard does not have are lists of None.

    Raises:
        DataError: the file is damaged.
    """
    found: dict[str, list[Any]] = {name: [] for name in columns}
    for batch in batches(shard, group, columns, size=8192):
        for name, values in batch.items():
            found[name].extend(values)
    return found


def batches(shard: Shard, group: int, columns: Sequence[str], size: int = BATCH) -> Iterator[dict[str, list[Any]]]:
    """A row group in batches of `size` rows, as lists by leaf column; `audio.bytes` is bytes or None.

    Raises:
        DataError: the file is damaged.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(shard.path, pre_buffer=False, buffer_size=BUFFER) as file:
            present = [name for name in columns if name in dict(_leaves(file.schema_arrow))]
            for batch in file.iter_batches(size, row_groups=[group], columns=present, use_threads=False):
                read = {name: _leaf(batch, name) for name in present}
                yield {name: read.get(name, [None] * batch.num_rows) for name in columns}
    except (pyarrow.ArrowException, OSError) as error:
        raise _damaged(shard.path, error) from error


def _leaf(batch: Any, name: str) -> list[Any]:
    column, *inner = name.split(".")
    values: list[Any] = batch.column(column).to_pylist()
    return [None if value is None else value[inner[0]] for value in values] if inner else values


def _leaves(schema: Any) -> Iterator[tuple[str, Any]]:
    import pyarrow.types as kinds

    for field in schema:
        if kinds.is_struct(field.type):
            yield from ((f"{field.name}.{inner.name}", inner.type) for inner in field.type)
        else:
            yield field.name, field.type


def _check_columns(path: Path, found: Mapping[str, Any], required: Mapping[str, str]) -> None:
    missing = [name for name in required if name not in found]
    if missing:
        near = {name: nearest(name, found) for name in missing}
        hints = [f"{other} is there for {name}" for name, other in near.items() if other and other not in required]
        fix = "; ".join(hints) if hints else "give shards of CORAA-MUPE-ASR, or write another corpus as `csv`"
        raise DataError(f"the shard lacks {_list('column', missing)}; it has {', '.join(found) or 'none'}", str(path), fix)
    wrong = [f"{name} ({found[name]}, not {kind})" for name, kind in required.items() if not _is_kind(found[name], kind)]
    if wrong:
        raise DataError(f"the shard has other types in {_list('column', wrong)}", str(path), "convert them")


def _list(noun: str, names: Sequence[str]) -> str:
    return f"the {noun}{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _is_kind(type_: Any, kind: str) -> bool:
    import pyarrow.types as kinds

    checks = {
        "text": (kinds.is_string, kinds.is_large_string, kinds.is_dictionary),
        "number": (kinds.is_floating, kinds.is_integer),
        "bytes": (kinds.is_binary, kinds.is_large_binary),
    }
    return any(check(type_) for check in checks[kind])


def _footer(path: Path) -> str:
    """SHA-256 of the footer: its length stands in the four bytes before the closing magic number."""
    with path.open("rb") as stream:
        stream.seek(-8, 2)
        length = int.from_bytes(stream.read(4), "little")
        stream.seek(-8 - length, 2)
        return sha256_bytes(stream.read(length))


def _damaged(path: Path, error: Exception) -> DataError:
    why = str(error).strip().partition("\n")[0]
    return DataError(f"the file cannot be read as parquet ({why[:200]})", where=str(path), fix="download it again")
