"""A long import in parts: each leaves a record when it is finished, so that a killed import continues, on any number of processes.

A part that has a record of the same key, and whose audio files are still the ones it wrote, is not done again. Parts do not depend on each other,
so which process does which, and when, changes no byte. Worker processes end with the process that started them, however that ends.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import wait
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from tune_accent.base.errors import DataError
from tune_accent.base.files import inside, sha256_file
from tune_accent.base.progress import Progress
from tune_accent.base.records import load_record, save_record
from tune_accent.data.manifest import Utterance
from tune_accent.data.sources import Rejected
from tune_accent.data.sources.making import PARTS


@dataclass(frozen=True)
class Part:
    """A piece of work.

    Attributes:
        name: of its record; unique.
        key: hash of everything that decides what comes out.
        size: utterances in it, for the progress bar.
        work: what the worker function is given; it is pickled.
    """

    name: str
    key: str
    size: int
    work: Any


@dataclass
class Outcome:
    """What came out of a part: utterances whose audio is written, what was left out, and SHA-256 of the decoded samples by utt_id."""

    rows: list[Utterance] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    sounds: dict[str, str] = field(default_factory=dict)


Do = Callable[
    [Path, Any], Outcome
]  # (root of the corpus, work) → outcome; a function of a module, for other processes to find it
_stop: Event | None = None  # in worker processes


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def do_parts(root: Path, parts: Sequence[Part], do: Do, workers: int, label: str, progress: Progress) -> None:
    """Do all parts that are not done yet.

    Raises:
        UserError: what `do` raises; finished parts stay.
    """
    done, total = 0, sum(part.size for part in parts)
    for part in _finished(root, parts, do, min(workers, len(parts))):
        done += part.size
        progress(label, done, total)


def outcomes(root: Path, parts: Sequence[Part]) -> Iterator[Outcome]:
    """The outcomes of finished parts, in the order of `parts`."""
    for part in parts:
        content = load_record(_record(root, part), part.key)
        if content is None:
            raise DataError("a part of the import is gone again", where=str(_record(root, part)), fix="run the command again")
        yield _outcome(content)


def raise_if_stopped() -> None:
    """To be called by `do` between utterances: ends the work of a process whose import was interrupted."""
    if _stop is not None and _stop.is_set():
        raise KeyboardInterrupt


def _finished(root: Path, parts: Sequence[Part], do: Do, workers: int) -> Iterator[Part]:
    if workers < 2:
        for part in parts:
            _ensure(root, part, do)
            yield part
        return
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(stop,))
    try:
        futures: dict[Future[None], Part] = {pool.submit(_ensure, root, part, do): part for part in parts}
        for future in as_completed(futures):
            future.result()
            yield futures[future]
    except BrokenProcessPool:
        what = "a process of the import ended by itself; the machine may be out of memory"
        raise DataError(
            what, where=str(root), fix="run the command again: it continues. Fewer data.source.workers need less"
        ) from None
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _begin(stop: Event) -> None:
    """Ctrl-C is for the parent; a worker ends when it is told to, or when the parent is gone."""
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _ensure(root: Path, part: Part, do: Do) -> None:
    content = load_record(_record(root, part), part.key)
    if content is not None and _audio_is_there(root, content):
        return
    outcome = do(root, part.work)
    body = {
        "rows": [asdict(row) for row in outcome.rows],
        "rejected": [asdict(item) for item in outcome.rejected],
        "sounds": outcome.sounds,
    }
    save_record(_record(root, part), part.key, body)


def _audio_is_there(root: Path, content: Mapping[str, Any]) -> bool:
    files = ((inside(root, row["audio_path"]), row["audio_sha256"]) for row in content["rows"])
    return all(path.is_file() and sha256_file(path) == digest for path, digest in files)


def _record(root: Path, part: Part) -> Path:
    return root / PARTS / f"{part.name}.json"


def _outcome(content: Mapping[str, Any]) -> Outcome:
    rows = [Utterance(**row) for row in content["rows"]]
    return Outcome(rows, [Rejected(**item) for item in content["rejected"]], dict(content["sounds"]))
