"""A launch of a search without what takes most of its time where trials are simulated, and changes nothing that the records say."""

from __future__ import annotations

import base64
import json
import os
from functools import cache

import alembic.util
import pytest

from tune_accent.reporting.figures import Picture
from tune_accent.reporting.search_figures import CAPTIONS
from tune_accent.tracking import provenance
from tune_accent.tuning import search_report
from tune_accent.tuning.folder import Spec

PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")
BLANK = {name: Picture(name, name, PIXEL, b"") for name in CAPTIONS}
LOADED = cache(alembic.util.load_python_file)
PACKAGES = cache(provenance.packages)
TEXT, TEXTS = Spec.text, dict[str, str]()


def lighten(patch: pytest.MonkeyPatch) -> None:
    """Blank pictures in the report of a search; Optuna's ten migrations are loaded once, not three times for every study; installed packages
    are looked up once, and the power stays on: nothing waits for a disk."""
    patch.setattr(search_report, "search_figures", lambda view: BLANK)
    patch.setattr(alembic.util, "load_python_file", LOADED)
    patch.setattr(provenance, "packages", lambda: dict(PACKAGES()))
    patch.setattr(os, "fsync", lambda descriptor: None)


def remember_texts(patch: pytest.MonkeyPatch) -> None:
    """A spec that was written as YAML before is not written so again."""

    def text(spec: Spec) -> str:
        content = json.dumps(vars(spec))
        if content not in TEXTS:
            TEXTS[content] = TEXT(spec)
        return TEXTS[content]

    patch.setattr(Spec, "text", text)
