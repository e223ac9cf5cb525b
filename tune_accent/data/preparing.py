"""The work behind a prepared cache: parts of a few hundred utterances, each kept when it is finished, then put together.

Parts lie in a hidden folder beside the cache. A killed preparation continues with those that are whole. Processes that prepare the same cache share
the parts between them: a part is claimed by a lock, which ends with its process. Utterances are encoded one at a time, since padding in a batch can
change codes, and by length, the longest first: what does not fit into memory fails at once. The bytes of the cache depend on none of this.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from tune_accent.base.errors import DataError, FolderInUse
from tune_accent.base.files import folder_lock, sha256_bytes, write_bytes
from tune_accent.base.progress import Progress
from tune_accent.base.records import load_record, save_record
from tune_accent.data.audio import Wave
from tune_accent.data.cached_table import RowsFile
from tune_accent.data.codec import CODEBOOKS, Codes

PART = 256  # utterances
POLL_S = 0.2
RECORD, TENSORS = "part.json", "part.safetensors"
LABEL = "encoding speech"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Utterances:
    """N utterances to encode; each function is given a row number.

    Attributes:
        lengths: (N,) about how long each is, in any unit.
        wave: the sound, (samples,) at 24 kHz.
        tokens: the text.
    """

    lengths: npt.NDArray[np.float64]
    wave: Callable[[int], Wave]
    tokens: Callable[[int], Sequence[int]]


@dataclass(frozen=True)
class Encoder:
    """What is computed of a wave: codes (T, 16) int16, and a speaker embedding (D,) float32."""

    encode: Callable[[Wave], Codes]
    embed: Callable[[Wave], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Encoded:
    """A finished part: `rows` (n,), and of these, one after the other, codes, tokens, how many of both, and embeddings (n, D)."""

    rows: npt.NDArray[np.int64]
    codes: npt.NDArray[np.int16]
    frames: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.int32]
    token_counts: npt.NDArray[np.int64]
    embeddings: npt.NDArray[np.float32]


def parts_of(lengths: npt.NDArray[np.float64]) -> list[npt.NDArray[np.int64]]:
    """Rows of each part: the longest first, equal ones by row."""
    order = np.lexsort((np.arange(len(lengths)), -lengths)).astype(np.int64)
    return [order[first : first + PART] for first in range(0, len(order), PART)]


def encode_parts(
    folder: Path, key: str, work: Utterances, encoder: Encoder, progress: Progress, finished: Callable[[], bool]
) -> None:
    """Encode every part that is not there; other processes may do the same at the same time.

    Args:
        folder: of the parts.
        key: of the cache; a part of another one does not count.
        work: the utterances.
        encoder: what is computed.
        progress: told of utterances that are done, by whichever process.
        finished: whether another process has put the parts together already.

    Raises:
        DataError: see `Utterances.wave`. Parts that are finished stay.
    """
    parts, began = parts_of(work.lengths), time.perf_counter()
    done, own, left = 0, 0, list(range(len(parts)))
    while left and not finished():
        busy = []
        for number in left:
            rows, place = parts[number], folder / f"{number:06d}"
            with ExitStack() as held:
                if not _claimed(held, place):
                    busy.append(number)
                    continue
                if not _is_there(place, key):
                    own += len(rows)
                    counted = _counting(rows, done, len(work.lengths), progress)
                    _save(place, key, _encoded(counted, rows, work, encoder))
            done += len(rows)
            progress(LABEL, done, len(work.lengths))
        left = busy
        if busy:
            time.sleep(POLL_S)
    rate = own / max(time.perf_counter() - began, 1e-9)
    log.info("%d of %d utterances encoded by this process, %.1f per second", own, len(work.lengths), rate)


@contextmanager
def waiting_lock(folder: Path) -> Iterator[None]:
    """`folder_lock` that waits until it is free."""
    with ExitStack() as held:
        while not _claimed(held, folder):
            time.sleep(POLL_S)
        yield


def _claimed(held: ExitStack, folder: Path) -> bool:
    """Whether the lock of `folder` is ours now: not where another process has it, or has just removed the folder."""
    try:
        held.enter_context(folder_lock(folder))
    except (FolderInUse, FileNotFoundError):
        return False
    return True


def _counting(rows: npt.NDArray[np.int64], before: int, total: int, progress: Progress) -> Iterator[int]:
    for done, row in enumerate(rows.tolist(), start=1):
        yield row
        if done < len(rows):
            progress(LABEL, before + done, total)


def _encoded(counted: Iterator[int], rows: npt.NDArray[np.int64], work: Utterances, encoder: Encoder) -> Encoded:
    codes, tokens, embeddings = [], [], []
    for row in counted:
        wave = work.wave(row)
        codes.append(np.asarray(encoder.encode(wave), dtype=np.int16))
        embeddings.append(np.asarray(encoder.embed(wave), dtype=np.float32))
        tokens.append(np.asarray(work.tokens(row), dtype=np.int32))
    counts = (np.array([len(one) for one in many], dtype=np.int64) for many in (codes, tokens))
    frames, token_counts = counts
    return Encoded(rows, np.concatenate(codes), frames, np.concatenate(tokens), token_counts, np.stack(embeddings))


def _save(place: Path, key: str, part: Encoded) -> None:
    data = safetensors.numpy.save(
        {name: np.ascontiguousarray(array) for name, array in vars(part).items()}
    )  # it saves memory as it lies
    write_bytes(place / TENSORS, data)
    save_record(place / RECORD, key, {"sha256": sha256_bytes(data)})


def _is_there(place: Path, key: str) -> bool:
    return _load(place, key) is not None


def _load(place: Path, key: str) -> Encoded | None:
    content, path = load_record(place / RECORD, key), place / TENSORS
    if content is None or not path.is_file():
        return None
    data = path.read_bytes()
    return Encoded(**safetensors.numpy.load(data)) if sha256_bytes(data) == content["sha256"] else None


def put_together(parts: Path, key: str, lengths: npt.NDArray[np.float64], target: Path) -> None:
    """Write codes, embeddings and tokens of all parts, in the order of the rows, into `target`; a part at a time is in memory.

    Raises:
        DataError: a part is not there any more.
    """
    places = [parts / f"{number:06d}" for number in range(len(parts_of(lengths)))]
    frames, tokens = np.zeros(len(lengths), dtype=np.int64), np.zeros(len(lengths), dtype=np.int64)
    dimensions = 0
    for part in _all(places, key):
        frames[part.rows], tokens[part.rows], dimensions = part.frames, part.token_counts, part.embeddings.shape[1]
    frame_offsets, text_offsets = (np.concatenate([[0], np.cumsum(counts)]) for counts in (frames, tokens))
    np.save(target / "frame_offsets.npy", frame_offsets, allow_pickle=False)
    np.save(target / "text_offsets.npy", text_offsets, allow_pickle=False)
    with (
        RowsFile(target / "codes.npy", np.int16, (int(frame_offsets[-1]), CODEBOOKS)) as codes,
        RowsFile(target / "text_tokens.npy", np.int32, (int(text_offsets[-1]),)) as texts,
        RowsFile(target / "speaker_embeddings.npy", np.float32, (len(lengths), dimensions)) as embeddings,
    ):
        for part in _all(places, key):
            _scatter(codes, part.codes, part.frames, frame_offsets[part.rows])
            _scatter(texts, part.tokens, part.token_counts, text_offsets[part.rows])
            _scatter(embeddings, part.embeddings, np.ones(len(part.rows), dtype=np.int64), part.rows)


def _scatter(file: RowsFile, values: npt.NDArray[np.generic], counts: npt.NDArray[np.int64], at: npt.NDArray[np.int64]) -> None:
    ends = np.cumsum(counts)
    for start, end, row in zip((ends - counts).tolist(), ends.tolist(), at.tolist(), strict=True):
        file.put(row, values[start:end])


def _all(places: Sequence[Path], key: str) -> Iterator[Encoded]:
    for place in places:
        part = _load(place, key)
        if part is None:
            raise DataError("a finished part of the preparation is gone again", str(place), "run the command again: it continues")
        yield part
