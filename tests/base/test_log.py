"""Messages go to the file, warnings to whatever stderr is at that moment."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tune_accent.base.log import log_to


@pytest.fixture(autouse=True)
def handlers_as_before() -> Iterator[None]:
    root = logging.getLogger("tune_accent")
    before = list(root.handlers), root.level, root.propagate
    yield
    for handler in root.handlers:
        if handler not in before[0]:
            handler.close()
    root.handlers[:], root.level, root.propagate = before


def test_a_warning_finds_the_stream_of_the_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A live table puts its own stream in the place of stderr, and that is closed when the table ends."""
    log_to(tmp_path / "logs" / "x.log")
    logger = logging.getLogger("tune_accent.some.place")
    first, second = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    monkeypatch.setattr(sys, "stderr", first)
    logger.warning("um aviso à parte")
    first.seek(0)
    assert first.read() == "WARNING um aviso à parte\n"
    first.close()
    monkeypatch.setattr(sys, "stderr", second)
    logger.warning("another")
    logger.info("no warning")
    assert second.getvalue() == "WARNING another\n"
    written = (tmp_path / "logs" / "x.log").read_text(encoding="utf-8").splitlines()
    assert [line.partition("place: ")[2] for line in written] == ["um aviso à parte", "another", "no warning"]
