"""Both memos keep the same promises; the one in a folder also survives damage, and never takes one thing for another."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tune_accent.base.errors import Diverged
from tune_accent.tuning.memo import DictMemo, Failure, FolderMemo, Memo

METRICS = {"score": 0.1 + 0.2, "text_drop": None, "epochs": 3, "feasible": True}


@pytest.fixture(params=["dict", "folder"])
def memo(request: pytest.FixtureRequest, tmp_path: Path) -> Memo:
    return DictMemo() if request.param == "dict" else FolderMemo(tmp_path)


def test_epochs_come_back_bit_for_bit_and_without_gaps(memo: Memo) -> None:
    for epoch in (1, 2, 4):
        memo.record("a", epoch, {**METRICS, "epoch": epoch})
    assert list(memo.reports("a")) == [{**METRICS, "epoch": 1}, {**METRICS, "epoch": 2}]
    memo.record("a", 3, {**METRICS, "epoch": 3})
    assert [report["epoch"] for report in memo.reports("a")] == [1, 2, 3, 4]
    assert list(memo.reports("b")) == []


def test_failures_and_draws_come_back(memo: Memo) -> None:
    assert memo.failure("a") is None and memo.suggestion(0) is None
    memo.record_failure("a", Failure("TIMEOUT", 2, "too long"))
    memo.record_suggestion(3, {"lr": 1e-3, "rank": 4, "on": False})
    assert memo.failure("a") == Failure("TIMEOUT", 2, "too long")
    assert memo.suggestion(3) == {"lr": 1e-3, "rank": 4, "on": False}
    assert memo.suggestion(2) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_not_finite_is_refused_by_name(memo: Memo, value: float) -> None:
    with pytest.raises(Diverged, match="val_loss is not finite at step 40"):
        memo.record("a", 1, {"score": 1.0, "val_loss": value, "step": 40, "grad_norm": 2.0})
    assert list(memo.reports("a")) == []


def damaged(memo: FolderMemo, path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def test_every_truncation_of_the_newest_epoch_falls_back_to_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    memo = FolderMemo(tmp_path)
    for epoch in (1, 2):
        memo.record("a", epoch, METRICS)
    newest = tmp_path / "trials" / "a" / "0002.json"
    whole = newest.read_bytes()
    for length in range(len(whole) - 1):  # the last byte is a newline
        newest.write_bytes(whole[:length])
        assert len(memo.reports("a")) == 1
    assert str(newest) in caplog.text


def test_bit_flips_are_found_or_change_nothing(tmp_path: Path) -> None:
    memo = FolderMemo(tmp_path)
    memo.record("a", 1, METRICS)
    memo.record_failure("a", Failure("OOM", 2, "12 GB"))
    memo.record_suggestion(0, {"lr": 0.25})
    generator = np.random.default_rng(5)
    for path in sorted(tmp_path.rglob("*.json")):
        whole = path.read_bytes()
        for _ in range(300):
            bits = bytearray(whole)
            bits[generator.integers(len(bits))] ^= 1 << int(generator.integers(8))
            path.write_bytes(bytes(bits))
            assert list(memo.reports("a")) in ([], [METRICS])
            assert memo.failure("a") in (None, Failure("OOM", 2, "12 GB"))
            assert memo.suggestion(0) in (None, {"lr": 0.25})
        path.write_bytes(whole)


def test_a_file_moved_by_hand_is_not_believed(tmp_path: Path) -> None:
    memo = FolderMemo(tmp_path)
    memo.record("a", 1, METRICS)
    memo.record("b", 1, METRICS)
    (tmp_path / "trials" / "a" / "0001.json").replace(tmp_path / "trials" / "b" / "0002.json")
    assert len(memo.reports("b")) == 1


@pytest.mark.parametrize("text", ["", "null", "[]", '{"sha256": 1}', '{"key": "a"}', "\x00"])
def test_foreign_content_is_as_good_as_absent(tmp_path: Path, text: str) -> None:
    memo = FolderMemo(tmp_path)
    folder = tmp_path / "trials" / "a"
    folder.mkdir(parents=True)
    (folder / "0001.json").write_text(text)
    (folder / "failure.json").write_text(text)
    assert list(memo.reports("a")) == [] and memo.failure("a") is None


def test_files_are_readable_json(tmp_path: Path) -> None:
    FolderMemo(tmp_path).record("a", 1, METRICS)
    content = json.loads((tmp_path / "trials" / "a" / "0001.json").read_text())
    assert content["metrics"] == METRICS and content["key"] == "a" and content["epoch"] == 1
