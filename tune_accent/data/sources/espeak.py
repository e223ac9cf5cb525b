"""Runs `espeak_worker` processes and hands them requests; the engine itself is never loaded into this process."""

from __future__ import annotations

import importlib.util
import json
import os
import queue
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import tune_accent
from tune_accent.base.errors import DataError, MissingDependency, StorageError
from tune_accent.base.progress import Progress

INSTALL = "pip install 'tune-accent[demo]'"


@dataclass(frozen=True)
class Request:
    """One utterance to speak into the WAV file `path`; `voice` is language+variant, `rate` in words per minute."""

    path: str
    voice: str
    text: str
    rate: int
    pitch: int
    range: int


@dataclass(frozen=True)
class Spoken:
    """What was written: samples at `sampling_rate` Hz, and the SHA-256 of the file."""

    samples: int
    sampling_rate: int
    sha256: str


def installed_voices() -> frozenset[str]:
    """Names of the voice variants. The engine accepts unknown ones silently, so callers compare with these.

    Raises:
        MissingDependency: the extra `demo` is not installed.
    """
    return frozenset(path.name for path in (_data() / "voices" / "!v").iterdir())


def synthesise(requests: Sequence[Request], workers: int, progress: Progress) -> tuple[str, list[Spoken]]:
    """Speak all requests with `workers` processes; which worker speaks what does not change a byte.

    Returns:
        The version of the engine, and one `Spoken` per request in order.

    Raises:
        MissingDependency: the extra `demo` is not installed.
        DataError: the engine refuses a request or dies.
    """
    with ExitStack() as stack:
        engines = [stack.enter_context(Engine()) for _ in range(min(workers, len(requests)))]
        free: queue.SimpleQueue[Engine] = queue.SimpleQueue()
        for engine in engines:
            free.put(engine)
        return engines[0].version, _in_threads(requests, free, len(engines), progress)


def _in_threads(requests: Sequence[Request], free: queue.SimpleQueue[Engine], threads: int, progress: Progress) -> list[Spoken]:
    def answer(request: Request) -> Spoken:
        engine = free.get()
        try:
            return engine.speak(request)
        finally:
            free.put(engine)

    pool = ThreadPoolExecutor(threads)
    try:
        futures = [pool.submit(answer, request) for request in requests]
        for done, future in enumerate(as_completed(futures), start=1):
            future.result()
            progress("speaking the demo corpus", done, len(requests))
        return [future.result() for future in futures]
    finally:
        pool.shutdown(cancel_futures=True)


class Engine:
    """One `espeak_worker` process."""

    def __init__(self) -> None:
        package = Path(tune_accent.__file__).parent.parent
        path = os.pathsep.join(filter(None, (str(package), os.environ.get("PYTHONPATH"))))
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tune_accent.data.sources.espeak_worker", str(_library()), str(_data())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is for us; the worker ends when its stdin does
        )
        self.version = str(self._receive()["engine"])

    def speak(self, request: Request) -> Spoken:
        """Have one request spoken and written."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write((json.dumps(asdict(request)) + "\n").encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._dead() from None
        answer = self._receive()
        if "refused" in answer:
            raise StorageError(*answer["refused"])
        if "error" in answer:
            raise DataError(f"espeak-ng cannot speak {request.voice!r}: {answer['error']}", where=request.path, fix=INSTALL)
        return Spoken(int(answer["samples"]), int(answer["sampling_rate"]), str(answer["sha256"]))

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._dead()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _dead(self) -> DataError:
        self._process.wait()
        self._errors.seek(0)
        last = self._errors.read().decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        self.close()
        what = f"the espeak-ng process ended with status {self._process.returncode}: {last[0]}"
        return DataError(what, where="espeak_worker", fix=f"run the command again; if it stays, reinstall: {INSTALL}")

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the process; may be called again."""
        self._process.kill()
        self._process.communicate()  # closes its pipes
        self._errors.close()


def _loader() -> Path:
    spec = importlib.util.find_spec("espeakng_loader")
    if spec is None or spec.origin is None:
        raise MissingDependency("the demo corpus needs espeak-ng, which is not installed", where="data.source", fix=INSTALL)
    return Path(spec.origin).parent


def _data() -> Path:
    return _loader() / "espeak-ng-data"


def _library() -> Path:
    import espeakng_loader

    return Path(espeakng_loader.get_library_path())
