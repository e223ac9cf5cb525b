"""A record counts where it is whole and has the key that is asked for."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from tune_accent.base.records import load_record, save_record

CONTENT = {"f1": 0.1 + 0.2, "rows": [1, None, "é"]}


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.json"
    assert load_record(path, "k") is None
    save_record(path, "k", CONTENT)
    assert load_record(path, "k") == CONTENT
    assert load_record(path, "other") is None


@pytest.mark.parametrize("damage", ["half", "key", "content", "checksum", "list"])
def test_a_damaged_record_is_warned_of_and_left_out(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.json"
    save_record(path, "k", CONTENT)
    record = json.loads(path.read_text())
    edits = {"key": {"key": "l"}, "content": {"content": {}}, "checksum": {"sha256": "0"}}
    text = {"half": path.read_text()[:40], "list": "[]"}.get(damage, json.dumps(record | edits.get(damage, {})))
    path.write_text(text)
    with caplog.at_level(logging.WARNING, "tune_accent"):
        assert load_record(path, "k") is None and load_record(path, "l") is None
    assert "a.json is damaged and is computed again" in caplog.text
