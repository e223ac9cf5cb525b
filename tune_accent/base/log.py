"""Logging set-up for entries: messages to a file in the results folder, warnings to the terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tune_accent.base.files import make_folder
from tune_accent.base.storage import explained

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _Terminal(logging.StreamHandler[Any]):
    """Writes to whatever `sys.stderr` is at the moment, so that a live table can move out of the way."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr  # `setStream` would flush the one before, which may be closed; every message was flushed already
        super().emit(record)


class _File(logging.FileHandler):
    """A log that stays silent where the disk refuses: what is written besides it says so, once and clearly."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def log_to(file: Path, *, terminal: bool = True) -> None:
    """Send every message of `tune_accent` from INFO up to `file` (appended), and warnings to stderr as well if `terminal`."""
    make_folder(file.parent)
    root = logging.getLogger("tune_accent")
    root.setLevel(logging.INFO)
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    with explained(file):
        to_file = _File(file, encoding="utf-8")
    to_file.setFormatter(logging.Formatter(FORMAT))
    root.addHandler(to_file)
    root.propagate = False
    if terminal:
        to_terminal = _Terminal()
        to_terminal.setLevel(logging.WARNING)
        to_terminal.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        root.addHandler(to_terminal)


@contextmanager
def only_errors_of(library: str) -> Iterator[None]:
    """Keep a library from logging anything below errors, for what it says several times or what is no matter of the user's."""
    logger = logging.getLogger(library)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
