"""What runs inside a Ray worker: one program for the worker's whole life, and a Trainable that trains one granted epoch per step.

A trial that cannot go on is an answer, not an error: only a real crash of the process or of the code reaches Ray. An epoch that takes
longer than `timeout_s` is written to the memo as TIMEOUT and the worker ends itself, since a hang cannot be interrupted from within;
where even that hangs (a call that never gives back the interpreter), the process is ended half a minute later and counts as crashed.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import resource
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import psutil
from ray import cloudpickle
from ray.tune import Trainable

from tune_accent.base.errors import OutOfMemory, TrialFailure, TrialTimeout, UserError
from tune_accent.base.files import canonical_json
from tune_accent.tuning.memo import Failure, Memo, refuse_not_finite

EXIT_TIMEOUT = 75  # of a worker that ended itself
LAST_RESORT_S = 30.0  # after the timeout, for a process whose interpreter is stuck


class Program(Protocol):
    """What trains. A worker builds one, and asks it for epochs of whatever trial is granted."""

    @property
    def memo(self) -> Memo:
        """Where finished epochs are written."""

    def epoch(self, params: Mapping[str, Any], key: str, epoch: int) -> Mapping[str, Any]:
        """Train exactly epoch `epoch` of the trial, continuing a live one or the memo's checkpoint.

        Returns:
            JSON metrics, the same as in the memo, when checkpoint and memo are written. `timing` ({"started": UNIX s, "seconds", "peak_mb", "allocated_mb"})
            is optional and no part of the memo; without it the worker's own measurement counts.

        Raises:
            TrialFailure: the trial ends here.
        """

    def close(self) -> None:
        """Free what is held for the live trial."""


MakeProgram = Callable[[Mapping[str, Any]], Program]


class EpochTrainable(Trainable):  # type: ignore[misc]  # ray is untyped
    """Ray's handle on a worker; config: {"trial", "key", "params", "epoch"}, where `epoch` is the first to train.

    A step answers {"answer": JSON} with one of `metrics`, `failure` ({state, epoch, message}) or `abort` (nothing can go on), beside
    `trial`, `epoch`, `pid`, `node`, `started`, `seconds`, `peak_mb`, `allocated_mb`.
    """

    def setup(self, config: dict[str, Any], factory: bytes, spec: Mapping[str, Any], timeout_s: float) -> None:
        """Called once per process; the program is built with the first epoch, where an out-of-memory has a trial to belong to.

        Args:
            factory: a `MakeProgram`, pickled by Ray for this process: what cannot be imported here is no trial's fault.
        """
        self._factory, self._spec, self._timeout_s = factory, spec, timeout_s
        self._program: Program | None = None
        self._epoch = int(config["epoch"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Turn to another trial."""
        self._epoch = int(new_config["epoch"])
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch of the current trial."""
        started, clock = time.time(), time.monotonic()
        answer = self._answer(self.config, self._epoch)
        timing = answer.get("metrics", {}).pop("timing", {})
        measured = {"started": started, "seconds": time.monotonic() - clock, "peak_mb": peak_mb(), "allocated_mb": resident_mb()}
        where = {"trial": self.config["trial"], "epoch": self._epoch, "pid": os.getpid(), "node": self._local_ip}
        answer |= where | measured | timing
        self._epoch += 1
        return {"answer": canonical_json(answer)}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: the memo remembers."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing: the memo remembers."""

    def _answer(self, config: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        try:
            program = self._built()
        except Exception as error:
            if _out_of_memory(error):
                return {"failure": _failure(OutOfMemory(f"building the program: {error}"), epoch)}
            return {"abort": _abort(error)}
        try:
            with watchdog(program.memo, config["key"], epoch, self._timeout_s):
                metrics = dict(program.epoch(config["params"], config["key"], epoch))
            refuse_not_finite(metrics)
            return {"metrics": metrics}
        except TrialFailure as failure:
            return {"failure": _failure(failure, epoch)}
        except UserError as error:  # a full disk, say: no trial's fault, and the person's to mend
            return {"abort": _abort(error)}
        except Exception as error:
            if not _out_of_memory(error):
                raise
            message = f"{type(error).__name__}: {error}"
        gc.collect()  # first: what the failed step still held is then given back to the device too
        program.close()
        return {"failure": _failure(OutOfMemory(message), epoch)}

    def _built(self) -> Program:
        if self._program is None:
            make_program: MakeProgram = cloudpickle.loads(self._factory)
            self._program = make_program(self._spec)
        return self._program


@contextmanager
def watchdog(memo: Memo, key: str, epoch: int, timeout_s: float) -> Iterator[None]:
    """End this process when the block takes longer than `timeout_s`, after writing why to the memo."""
    ending = threading.Lock()

    def end() -> None:
        if not ending.acquire(blocking=False):
            return
        seconds = f"epoch {epoch} took longer than {timeout_s:g} s"
        try:
            memo.record_failure(key, Failure.of(TrialTimeout(seconds), epoch))
        finally:
            os._exit(EXIT_TIMEOUT)

    timer = threading.Timer(timeout_s, end)
    timer.daemon = True
    timer.start()
    faulthandler.dump_traceback_later(timeout_s + LAST_RESORT_S, exit=True, file=2)
    try:
        yield
    finally:
        ending.acquire()  # never returns where the end has begun
        timer.cancel()
        faulthandler.cancel_dump_traceback_later()


def peak_mb() -> float:
    """Peak resident memory of this process in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def resident_mb() -> float:
    """Resident memory of this process in MB."""
    return float(psutil.Process().memory_info().rss) / 2**20


def _out_of_memory(error: BaseException) -> bool:
    """Host or device memory; torch's error is known by its name, so that a worker without torch need not import it."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def _failure(failure: TrialFailure, epoch: int) -> dict[str, Any]:
    return vars(Failure.of(failure, epoch))


def _abort(error: BaseException) -> dict[str, Any]:
    text = "".join(traceback.format_exception(error))
    if isinstance(error, UserError):
        return {"user": True, "what": error.what, "where": error.where, "fix": error.fix, "traceback": text}
    return {"user": False, "what": f"{type(error).__name__}: {error}", "where": None, "fix": None, "traceback": text}


def read_answer(result: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of a step, from Ray's result."""
    answer = json.loads(result["answer"])
    assert isinstance(answer, dict)
    return answer
