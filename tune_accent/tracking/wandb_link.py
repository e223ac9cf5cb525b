"""A process of its own for W&B's client, told what to do by lines of JSON.

The client blocks (on a network, a full disk, its own service), prints, and works on at exit. Here it does so elsewhere: who sends never waits,
`close` waits a bounded time and then ends the process, and the first trouble is logged, once.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "tune_accent.tracking.wandb_process")
MOST = 20_000  # messages that wait for the process; more means that it hangs
PATIENCE = 60.0  # seconds for what is left at the end, uploads included
LAST_WORDS = 2.0  # seconds for the reason that a process gave before it ended


class Link:
    """Sends messages to `tracking/wandb_process.py`; the first one starts it.

    Args:
        hello: the first message, settings of the process.
        patience: seconds that `close` waits.
    """

    def __init__(self, hello: Mapping[str, Any], patience: float = PATIENCE) -> None:
        self._patience = patience
        self._waiting: queue.Queue[Mapping[str, Any] | None] = queue.Queue(MOST)
        self._process: subprocess.Popen[str] | None = None
        self._worker = threading.Thread(target=self._work, name="wandb", daemon=True)
        self._lock, self._said, self._over = threading.Lock(), False, False
        self._waiting.put(dict(hello))

    def send(self, message: Mapping[str, Any]) -> None:
        """Hand a message over; returns at once, and does nothing once the process is gone."""
        if self._over:
            return
        if self._worker.ident is None:
            self._worker.start()
        try:
            self._waiting.put_nowait(dict(message))
        except queue.Full:
            self._stop("it does not keep up; it was ended")

    def close(self) -> None:
        """Let the process finish what was sent, for `patience` seconds at most; Ctrl-C ends the wait."""
        if self._worker.ident is None or self._over:
            return
        try:
            self._waiting.put(None, timeout=self._patience)
            self._worker.join(self._patience)
            unfinished = self._worker.is_alive()
        except (queue.Full, KeyboardInterrupt):
            unfinished = True
        if unfinished:
            self._stop(f"it did not finish in {self._patience:g} s and was ended; what it wrote is on the disk")

    def _work(self) -> None:
        """Start the process and feed it; in a thread, because a pipe to a process that hangs blocks."""
        try:
            self._process = process = _start()
        except OSError as error:
            self._stop(f"its process cannot start ({error.strerror})")
            return
        listener = threading.Thread(target=self._listen, args=(process,), daemon=True)
        listener.start()
        with suppress(BrokenPipeError):  # it has ended early, and its exit code or its last words say so
            self._feed(process)
        code = process.wait()
        listener.join(LAST_WORDS)
        if code:
            self._stop(f"its process ended early (exit code {code})")

    def _feed(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        with process.stdin:
            for message in iter(self._waiting.get, None):
                process.stdin.write(json.dumps(message) + "\n")
                process.stdin.flush()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._warn(line.strip())

    def _stop(self, why: str) -> None:
        self._over = True
        process = self._process
        if process is not None and process.poll() is None:
            os.kill(-process.pid, signal.SIGKILL)  # its session: W&B's service as well
        self._warn(why)

    def _warn(self, what: str) -> None:
        with self._lock:
            first, self._said = not self._said, True
        if first:
            log.warning("W&B tracking: %s. The search goes on.", what)


def _start() -> subprocess.Popen[str]:
    """In a session of its own, so that Ctrl-C in a terminal does not reach it."""
    return subprocess.Popen(
        COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        start_new_session=True,
    )
