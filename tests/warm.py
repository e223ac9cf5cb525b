"""Commands in processes that are forked from one which has torch and the like already: what their import takes is paid once, not once a command.

Such a process differs from `python -m <module>` in nothing but that, and processes that it spawns are forked, too: it has its own session, folder, environment and streams, and ends as an
interpreter ends. The first run of each command in a test file should nevertheless be a real one (`tests.entries.command.run`).

`python -m tests.warm` is the process that forks: it answers a request (one line of JSON) with a line, until its stdin ends. Linux only.
"""

from __future__ import annotations

import atexit
import importlib
import json
import multiprocessing.context
import os
import runpy
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import IO, Any, NoReturn, Self

from tests.entries.command import REPOSITORY, environment

HEAVY = ("torch", "transformers", "peft", "pandas", "scipy.stats", "sklearn.linear_model", "sklearn.metrics", "soundfile")
ALSO = (
    "alembic.command",
    "matplotlib.figure",
    "tune_accent.tuning.driver",
    "tune_accent.tuning.program",
    "tune_accent.paper.final",
)


class Running:
    """A command that was started.

    Attributes:
        pid: of the process, which leads a session of its own.
    """

    def __init__(self, warm: Warm, command: tuple[str, ...], pid: int, out: IO[str], err: IO[str]) -> None:
        self._warm, self._command, self._out, self._err, self._code = warm, command, out, err, None
        self.pid = pid

    def poll(self) -> int | None:
        """Its exit code, negative after a signal; None: it runs."""
        if self._code is None:
            self._code = self._warm.ask({"poll": self.pid})
        return self._code

    def communicate(self, timeout: float) -> tuple[str, str]:
        """What it said, on stdout and on stderr, when it has ended; it is killed where that takes longer than `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                os.killpg(self.pid, 9)
                raise subprocess.TimeoutExpired(self._command, timeout)
            time.sleep(0.01)
        return self._said(self._out), self._said(self._err)

    @staticmethod
    def _said(stream: IO[str]) -> str:
        with stream:
            stream.seek(0)
            return stream.read()


class Warm:
    """The process that forks, while it is entered."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.warm"]
        self._server = subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate(timeout=60)

    def ask(self, request: dict[str, Any]) -> Any:
        """The answer to a request."""
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def start(self, folder: Path, module: str, *arguments: str) -> Running:
        """`python -m <module> <arguments>` in `folder`."""
        out, err = (tempfile.TemporaryFile("w+", encoding="utf-8") for _ in range(2))  # noqa: SIM115 — `Running` closes them
        streams = [f"/proc/{os.getpid()}/fd/{stream.fileno()}" for stream in (out, err)]
        what = {"module": module, "arguments": arguments, "folder": str(folder), "environment": environment(), "streams": streams}
        return Running(self, (module, *arguments), self.ask(what), out, err)

    def run(self, folder: Path, module: str, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """As `tests.entries.command.run`."""
        running = self.start(folder, module, *arguments)
        out, err = running.communicate(timeout)
        code = running.poll()
        assert code is not None
        return subprocess.CompletedProcess([module, *arguments], code, out, err)


def _become(request: dict[str, Any]) -> None:
    """Be the command: in the forked process, which then ends."""
    os.setsid()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for number, place in enumerate(["/dev/null", *request["streams"]]):
        opened = os.open(place, os.O_RDWR if number else os.O_RDONLY)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv = [request["module"], *request["arguments"]]
    contexts = multiprocessing.context._concrete_contexts  # type: ignore[attr-defined]
    contexts["spawn"] = contexts["fork"]  # the process that prepares the data is forked from this one, too


def _end(module: str) -> NoReturn:
    """Run the module and end as an interpreter does, but for the destructors of libraries: some of them wait for threads that no fork has."""
    code: Any = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else code is not None)


def _ended(pid: int) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _serve() -> None:
    from tune_accent.models.qwen_import import import_qwen_tts

    answers = os.dup(1)
    os.dup2(2, 1)  # what an import prints is no answer
    for name in HEAVY:
        importlib.import_module(name)
    import_qwen_tts()
    for name in ALSO:  # with Optuna and Ray
        importlib.import_module(name)
    while line := sys.stdin.readline():
        request = json.loads(line)
        if "poll" in request:
            answer = _ended(request["poll"])
        elif (answer := os.fork()) == 0:
            os.close(answers)
            _become(request)
            _end(request["module"])
        os.write(answers, f"{json.dumps(answer)}\n".encode())


if __name__ == "__main__":
    _serve()
    os._exit(0)
