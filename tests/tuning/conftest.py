"""Launches in this room are light: pictures of the report are drawn in `tests/reporting/test_search_report.py`."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `lighten` says."""
    from tests.tuning.light import lighten

    lighten(monkeypatch)
