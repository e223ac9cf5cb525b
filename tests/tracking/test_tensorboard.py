"""Trackers share one contract; TensorBoard's files hold every number, once, and never harm the search."""

from __future__ import annotations

import io
import logging
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from tune_accent.tracking.tensorboard import TensorBoard, write_figures
from tune_accent.tracking.tracker import NoTracker, Tracker

METRICS = {"score": 0.5, "step": 14, "feasible": True, "text_drop": None, "evaluation": {"value": 1.0}}


def events(file: Path) -> Iterator[Any]:
    """The events of a file."""
    data = file.read_bytes()
    while data:  # records: length, its checksum, payload, its checksum
        (length,) = struct.unpack("<Q", data[:8])
        yield Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]


def scalars(folder: Path) -> dict[tuple[str, int], float]:
    """(name, step) → value in the event files of one trial; a pair must come once."""
    found: dict[tuple[str, int], float] = {}
    for file in sorted(folder.glob("events*")):
        for event in events(file):
            for value in event.summary.value:
                if not value.metadata.plugin_data.plugin_name:
                    assert (value.tag, event.step) not in found
                    found[value.tag, event.step] = value.simple_value
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


def png(mode: str) -> bytes:
    """A small picture by another library."""
    out = io.BytesIO()
    Image.new(mode, (7, 3)).save(out, format="PNG")
    return out.getvalue()


def test_figures_are_image_summaries_of_one_run(tmp_path: Path) -> None:
    modes = {"pareto": ("RGBA", 4), "history": ("RGB", 3), "grey": ("L", 1), "grey with alpha": ("LA", 2)}
    folder = tmp_path / "search"
    write_figures(folder, {"older": png("RGB")})
    write_figures(folder, {tag: png(mode) for tag, (mode, _) in modes.items()})
    (file,) = folder.iterdir()
    first, *rest = events(file)
    assert first.file_version == "brain.Event:2"
    found = {value.tag: value.image for event in rest for value in event.summary.value}
    assert list(found) == list(modes)
    for tag, (mode, channels) in modes.items():
        assert (found[tag].width, found[tag].height, found[tag].colorspace) == (7, 3, channels)
        assert found[tag].encoded_image_string == png(mode)


def test_the_same_figures_are_left_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "search"
    for now, mode in ((10.5, "RGB"), (20.5, "RGB"), (30.5, "L")):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        write_figures(folder, {"x": png(mode)})
        assert [path.name for path in folder.iterdir()] == [f"events.out.tfevents.{10 if now < 30 else 30}.figures"]
    (folder / "other").write_text("torn")
    write_figures(folder, {"x": png("L")})
    assert [path.name for path in folder.iterdir()] == ["events.out.tfevents.30.figures"]


def test_only_png_files_are_figures(tmp_path: Path) -> None:
    for data in (b"", b"GIF89a" + bytes(40), png("RGB")[:20]):
        with pytest.raises(ValueError, match="no PNG"):
            write_figures(tmp_path / "search", {"x": data})


def test_figures_that_cannot_be_written_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "tensorboard").write_text("in the way")
    with caplog.at_level(logging.WARNING, "tune_accent"):
        write_figures(tmp_path / "tensorboard" / "search", {"x": png("RGB")})
    assert len(caplog.records) == 1 and "TensorBoard has no figures" in caplog.text


def test_hyperparameters_are_written_with_the_first_file_of_a_trial(tmp_path: Path) -> None:
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    tracker = TensorBoard(tmp_path, {}, lambda trial: {"lr": 0.001 * trial, "lora_rank": 8, "model.language": "english"})
    tracker.epoch(2, 1, METRICS)
    tracker.epoch(2, 2, METRICS)
    files = sorted((tmp_path / "trial_0002").glob("events*"))
    parts = [
        HParamsPluginData.FromString(value.metadata.plugin_data.content)
        for event in events(files[0])
        for value in event.summary.value
        if value.metadata.plugin_data.plugin_name == "hparams"
    ]
    (session,) = [part.session_start_info for part in parts if part.HasField("session_start_info")]
    assert (session.hparams["lr"].number_value, session.hparams["lora_rank"].number_value) == (0.002, 8)
    assert session.hparams["model.language"].string_value == "english"
    (compared,) = [part.experiment for part in parts if part.HasField("experiment")]
    assert [info.name.tag for info in compared.metric_infos] == ["score"]
    assert not any(value.metadata.plugin_data.plugin_name for event in events(files[1]) for value in event.summary.value)
