"""The search command as it is, but for the training: trials are simulated, there are no data, and threads may take the place of Ray.

    python -m benchmarks.simulated_command space.yaml [the search command's options]

Everything else is what a search does: replay, lock, memo, checkpoints, tables, the study, `best/`. `JOURNAL` beside the results notes when an epoch
begins and when it is in the memo; it is written past the search's own files, so that it can be held against them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from unittest import mock

import numpy as np

from tests.tuning.small_search import PREPARED, report
from tune_accent.base.checksums import check_folder, write_checksums
from tune_accent.base.files import write_folder, write_text
from tune_accent.config.check import load_search
from tune_accent.search import app
from tune_accent.tuning import driver
from tune_accent.tuning.core import Core
from tune_accent.tuning.driver import Request
from tune_accent.tuning.memo import FolderMemo
from tune_accent.tuning.relay import OnEvent, Relay, Stops

JOURNAL = "journal"
CONFIG = """\
name: simulated
seed: 5
data: {root: data/none, source: {kind: prepared}}
training: {epochs: 5}
tuning: {slots: 4, workers: 2, startup_trials: 4}
"""
SPACE = """\
method: bayes
metric: {name: score, goal: maximize}
run_cap: 12
early_terminate: {type: hyperband, min_iter: 1, eta: 3}
parameters:
  config: {value: config.yaml}
  lora_rank: {values: [2, 4, 8]}
  lr: {distribution: log_uniform_values, min: 0.001, max: 0.02}
  leakage_weight: {values: [0, 0.1, 1]}
"""


@dataclass(frozen=True)
class Pace:
    """Seconds of an epoch: uniform between 0 and twice `mean`, drawn per epoch from `seed`."""

    mean: float
    seed: int = 0

    def seconds(self, key: str, epoch: int) -> float:
        """Of epoch `epoch` of trial `key`."""
        return float(np.random.default_rng([self.seed, int(key[:8], 16), epoch]).uniform(0, 2 * self.mean))


class JournalProgram:
    """Trains by sleeping, and leaves what a trial leaves: a checkpoint that the next epoch needs, then the report.

    Args:
        spec: {"root"}.
        pace: of its epochs.
    """

    def __init__(self, spec: Mapping[str, Any], pace: Pace) -> None:
        self.memo, self._pace = FolderMemo(Path(spec["root"])), pace

    def epoch(self, params: Mapping[str, Any], key: str, epoch: int) -> Mapping[str, Any]:
        """One epoch. `DataError` if what the one before it left is not whole."""
        assert len(self.memo.reports(key)) >= epoch - 1, "the epoch before is not in the memo"
        if epoch > 1:
            check_folder(self.memo.checkpoint(key, epoch - 1))
        self._note("begin", key, epoch)
        time.sleep(self._pace.seconds(key, epoch))
        metrics = report(params, key, epoch)
        write_folder(self.memo.checkpoint(key, epoch), lambda folder: _fill(folder, f"{key} {epoch}"))
        self.memo.record(key, epoch, metrics)
        self._note("end", key, epoch)
        return {**metrics, "timing": {"peak_mb": 1.0}}

    def close(self) -> None:
        """Nothing is held."""

    def _note(self, what: str, key: str, epoch: int) -> None:
        line = f"{what} {key} {epoch} {os.getpid()}\n".encode()
        descriptor = os.open(f"{self.memo.root}.{JOURNAL}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)


def _fill(folder: Path, content: str) -> None:
    write_text(folder / "adapter" / "adapter_config.json", content)
    write_text(folder / "heads.safetensors", content)
    write_checksums(folder)


def make_journal_program(spec: Mapping[str, Any], pace: Pace) -> JournalProgram:
    """The factory that a worker calls."""
    return JournalProgram(spec, pace)


def run_with_threads(
    core: Core,
    make_program: Callable[[Mapping[str, Any]], JournalProgram],
    spec: Mapping[str, Any],
    *,
    workers: int,
    on_event: OnEvent,
    max_failures: int,
    **rest: Any,
) -> bool:
    """As `run_with_ray`, with threads of this process as workers; an error of theirs ends the search."""
    core.advance()
    program, relay = make_program(spec), Relay(core, workers, max_failures, on_event, Stops())
    answers: SimpleQueue[dict[str, Any] | BaseException] = SimpleQueue()
    with ThreadPoolExecutor(workers) as pool:
        while not relay.over():
            for grant in relay.waiting()[: workers - len(relay.out)]:
                pool.submit(_work, program, relay.hand_out(grant), answers)
            answer = answers.get()
            if isinstance(answer, BaseException):
                raise answer
            relay.take(answer)
    return core.done


def _work(program: JournalProgram, job: Mapping[str, Any], answers: SimpleQueue[dict[str, Any] | BaseException]) -> None:
    started = time.time()
    try:
        metrics = dict(program.epoch(job["params"], job["key"], job["epoch"]))
    except BaseException as error:
        answers.put(error)
        return
    where = {"trial": job["trial"], "epoch": job["epoch"], "node": "thread", "pid": os.getpid()}
    answers.put({**where, "metrics": metrics, "started": started, "seconds": time.time() - started, **metrics.pop("timing")})


@contextmanager
def simulated(pace: Pace, *, threads: bool) -> Iterator[None]:
    """Searches within the block are simulated."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(driver, "ensure_prepared", lambda experiment, show: PREPARED))
        stack.enter_context(mock.patch.object(driver, "make_speech_program", partial(make_journal_program, pace=pace)))
        if threads:
            stack.enter_context(mock.patch.object(driver, "run_with_ray", run_with_threads))
        yield


def write_search(folder: Path) -> Path:
    """The two files of the search in `folder`, made if it is not there."""
    write_text(folder / "config.yaml", CONFIG)
    write_text(folder / "space.yaml", SPACE)
    return folder


def requested(folder: Path, name: str, workers: int) -> Request:
    """The search of `write_search`, with its results in `folder/name`."""
    space, loaded = load_search(folder / "space.yaml", folder / "config.yaml", {"tuning.workers": workers})
    assert space.run_cap is not None
    return Request(loaded.experiment, space, space.run_cap, folder / name)


if __name__ == "__main__":
    with simulated(Pace(0.3), threads=False):
        app()
