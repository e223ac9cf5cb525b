"""A launch of a search without what takes most of its time where trials are simulated, and changes nothing that the records say."""

from __future__ import annotations

import base64
from functools import cache

import alembic.util
import pytest

from tune_accent.reporting.figures import Picture
from tune_accent.reporting.search_figures import CAPTIONS
from tune_accent.tuning import search_report

PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")
BLANK = {name: Picture(name, name, PIXEL, b"") for name in CAPTIONS}
LOADED = cache(alembic.util.load_python_file)


def lighten(patch: pytest.MonkeyPatch) -> None:
    """The report of a search has blank pictures, and Optuna's ten migrations are loaded once, not three times for every study."""
    patch.setattr(search_report, "search_figures", lambda view: BLANK)
    patch.setattr(alembic.util, "load_python_file", LOADED)
