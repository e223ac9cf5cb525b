"""Trackers share one contract; TensorBoard's files hold every number, once, and never harm the search."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event

from tune_accent.tracking.tensorboard import NoTracker, TensorBoard, Tracker

METRICS = {"score": 0.5, "step": 14, "feasible": True, "text_drop": None, "evaluation": {"value": 1.0}}


def scalars(folder: Path) -> dict[tuple[str, int], float]:
    """(name, step) → value in the event files of one trial; a pair must come once."""
    found: dict[tuple[str, int], float] = {}
    for file in sorted(folder.glob("events*")):
        data = file.read_bytes()
        while data:  # records: length, its checksum, payload, its checksum
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            for value in event.summary.value:
                assert (value.tag, event.step) not in found
                found[value.tag, event.step] = value.simple_value
            data = data[16 + length :]
    return found


@pytest.mark.parametrize(
    "make", [lambda folder: NoTracker(), lambda folder: TensorBoard(folder, {})], ids=["none", "tensorboard"]
)
def test_a_tracker_takes_epochs_and_closes(tmp_path: Path, make: Callable[[Path], Tracker]) -> None:
    tracker = make(tmp_path / "tensorboard")
    tracker.epoch(0, 1, METRICS)
    tracker.epoch(0, 1, {})
    tracker.close()


def test_numbers_become_scalars_of_their_trial(tmp_path: Path) -> None:
    tracker = TensorBoard(tmp_path, {})
    tracker.epoch(3, 1, METRICS)
    tracker.epoch(3, 2, {"score": 0.75})
    tracker.epoch(12, 1, {"score": 0.25})
    tracker.close()
    assert scalars(tmp_path / "trial_0003") == {("score", 1): 0.5, ("step", 1): 14, ("score", 2): 0.75}
    assert scalars(tmp_path / "trial_0012") == {("score", 1): 0.25}


def test_a_continued_search_shows_every_epoch_once(tmp_path: Path) -> None:
    TensorBoard(tmp_path, {}).epoch(0, 1, {"score": 0.5})
    known: dict[int, list[dict[str, Any]]] = {0: [{"score": 0.5}, {"score": 0.75}], 1: []}
    TensorBoard(tmp_path, known).epoch(0, 3, {"score": 1.0})
    assert scalars(tmp_path / "trial_0000") == {("score", 1): 0.5, ("score", 2): 0.75, ("score", 3): 1.0}
    assert not (tmp_path / "trial_0001").exists()


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "tensorboard").write_text("in the way")
    with caplog.at_level(logging.WARNING, "tune_accent"):
        tracker = TensorBoard(tmp_path / "tensorboard", {})
        tracker.epoch(0, 1, METRICS)
        tracker.epoch(0, 2, METRICS)
    assert len(caplog.records) == 1 and "TensorBoard stopped" in caplog.text
