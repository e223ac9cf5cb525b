"""The files of a prepared cache that are not plain arrays: the utterance table as numbers with names, and arrays that are written in any order.

    table.npy           (N, 6 or 7) int32: number of the name in each column of `NAMED`, fold, and, where there are copies, row of the original
    names.json          column → its names, sorted; -1 in the table is null
    utt_ids.npy         (bytes,) uint8, UTF-8 of all ids, one after the other; utt_id_offsets.npy (N + 1,) int64

A table of 170,000 rows opens in a tenth of a second; its texts are Arrow buffers, not Python objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow

from tune_accent.base.files import read_json, write_json

NAMED = ("speaker", "accent", "text_id", "gender", "split")
NAMES, TABLE, IDS, ID_OFFSETS = "names.json", "table.npy", "utt_ids.npy", "utt_id_offsets.npy"
TEXT = pd.StringDtype("pyarrow", na_value=np.nan)
Text = Sequence[str | None]


class RowsFile:
    """An `.npy` file of known shape that is filled in any order and never held in memory; the bytes are those of `np.save`.

    Args:
        path: the file.
        dtype: of the values.
        shape: of the array; `put` writes along its first axis.
    """

    def __init__(self, path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> None:
        self.dtype = np.dtype(dtype)
        self.row_bytes = self.dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
        self.stream = path.open("wb")
        head = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self.stream, head)
        self.start = self.stream.tell()
        self.stream.truncate(self.start + shape[0] * self.row_bytes)

    def put(self, row: int, values: npt.NDArray[Any]) -> None:
        """Write `values` from row `row` on."""
        self.stream.seek(self.start + row * self.row_bytes)
        self.stream.write(np.ascontiguousarray(values, dtype=self.dtype).tobytes())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stream.close()


def save_table(
    folder: Path, ids: Sequence[str], named: Mapping[str, Text], fold: Sequence[int], original: Sequence[int] | None
) -> None:
    """Write the table of N utterances into `folder`.

    Args:
        folder: of the cache.
        ids: utt_id of each row.
        named: the columns of `NAMED`.
        fold: of each row.
        original: for each row the row that it is a copy of, or -1; None: there are no copies.
    """
    names = {column: sorted({value for value in named[column] if value is not None}) for column in NAMED}
    columns = [_numbers(named[column], names[column]) for column in NAMED]
    columns += [np.asarray(fold, dtype=np.int32)] + ([] if original is None else [np.asarray(original, dtype=np.int32)])
    np.save(folder / TABLE, np.stack(columns, axis=1), allow_pickle=False)
    write_json(folder / NAMES, names)
    encoded = [name.encode() for name in ids]
    np.save(folder / IDS, np.frombuffer(b"".join(encoded), dtype=np.uint8), allow_pickle=False)
    np.save(folder / ID_OFFSETS, np.cumsum([0, *map(len, encoded)], dtype=np.int64), allow_pickle=False)


def _numbers(values: Text, names: Sequence[str]) -> npt.NDArray[np.int32]:
    number = {name: place for place, name in enumerate(names)}
    return np.fromiter((-1 if value is None else number[value] for value in values), dtype=np.int32, count=len(values))


def open_table(folder: Path) -> pd.DataFrame:
    """The table: utt_id, the columns of `NAMED`, fold, and `copy_of` (utt_id or null) where there are copies.

    Raises:
        OSError, ValueError, KeyError, TypeError: a file is missing or not one of `save_table`.
    """
    numbers, names = _mapped(folder / TABLE), read_json(folder / NAMES)
    ids = _texts(_mapped(folder / IDS), _mapped(folder / ID_OFFSETS))
    if numbers.ndim != 2 or numbers.shape[1] not in (len(NAMED) + 1, len(NAMED) + 2) or len(ids) != len(numbers):
        raise ValueError(f"the table has shape {numbers.shape} with {len(ids)} ids")
    columns: dict[str, Any] = {"utt_id": _column(ids)}
    for place, column in enumerate(NAMED):
        columns[column] = _column(_chosen(pyarrow.array(names[column], pyarrow.large_string()), numbers[:, place]))
    columns["fold"] = numbers[:, len(NAMED)].astype(np.int64)
    if numbers.shape[1] > len(NAMED) + 1:
        columns["copy_of"] = _column(_chosen(ids, numbers[:, -1]))
    return pd.DataFrame(columns)


def _chosen(names: Any, numbers: npt.NDArray[np.int32]) -> Any:
    return names.take(pyarrow.array(np.ascontiguousarray(numbers), mask=np.asarray(numbers < 0)))


def _texts(values: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> Any:
    buffers = [None, pyarrow.py_buffer(np.ascontiguousarray(offsets)), pyarrow.py_buffer(np.ascontiguousarray(values))]
    texts = pyarrow.Array.from_buffers(pyarrow.large_string(), len(offsets) - 1, buffers)
    texts.validate(full=True)
    return texts


def _column(texts: Any) -> pd.Series[str]:
    return pd.Series(pd.array(texts, dtype=TEXT))


def _mapped(path: Path) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array
