"""TensorBoard event files, one folder per trial, written by the driver as epochs arrive.

Each file is made in memory and written whole: tensorboardX's own writer is a thread that a full disk kills, and its queue then blocks for ever.
"""

from __future__ import annotations

import logging
import re
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tune_accent.base.errors import StorageError
from tune_accent.base.files import remove, write_bytes
from tune_accent.base.storage import explained

log = logging.getLogger(__name__)

EVENTS = "events.out.tfevents."
PNG = b"\x89PNG\r\n\x1a\n"
COMPARED = ("score", "accent_f1", "speaker_leakage", "text_drop", "val_loss")  # beside the hyperparameters


class TensorBoard:
    """Writes `<folder>/trial_0007/events.out.tfevents.…`; the first failure is logged once and ends tracking.

    Args:
        folder: `tensorboard/` of a results folder; derived, so it is written anew at every launch.
        known: figures of the epochs that were trained before, by trial: they are written first.
        params: the parameters of a trial, for TensorBoard's table of hyperparameters; written with a trial's first file.
    """

    def __init__(
        self,
        folder: Path,
        known: Mapping[int, Sequence[Mapping[str, Any]]],
        params: Callable[[int], Mapping[str, Any]] = lambda trial: {},
    ) -> None:
        self.folder, self._params = folder, params
        self._broken, self._begun = False, set[int]()
        if folder.is_dir():
            self._harmless(lambda: remove(folder))
        for trial, reports in known.items():
            self._write(trial, list(enumerate(reports, 1)))

    def epoch(self, trial: int, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Write every number of `metrics` as a scalar at step `epoch`."""
        self._write(trial, [(epoch, metrics)])

    def close(self) -> None:
        """Nothing is left open."""

    def _write(self, trial: int, reports: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
        if reports:
            name = f"{EVENTS}{int(time.time())}.{reports[0][0]:04d}"
            path = self.folder / f"trial_{trial:04d}" / name
            params = {} if trial in self._begun else self._params(trial)
            self._begun.add(trial)
            self._harmless(lambda: write_bytes(path, event_file(reports, params)))

    def _harmless(self, step: Callable[[], None]) -> None:
        if self._broken:
            return
        try:
            step()
        except StorageError as error:
            self._broken = True
            log.warning("TensorBoard stopped: %s", error.what)


def write_figures(folder: Path, figures: Mapping[str, bytes]) -> None:
    """Figures of a whole search as image summaries of one run; a disk that refuses is logged, and harms nothing.

    Args:
        folder: of the run, such as `tensorboard/search`; what is there is replaced, unless it is the same figures.
        figures: PNG files by tag.
    """
    now = int(time.time())
    data = image_file(figures, now)
    try:
        if _holds(folder, figures):
            return
        if folder.is_dir():
            remove(folder)
        write_bytes(folder / f"{EVENTS}{now}.figures", data)
    except StorageError as error:
        log.warning("TensorBoard has no figures: %s", error.what)


def image_file(figures: Mapping[str, bytes], now: int) -> bytes:
    """A TensorBoard event file of PNG files by tag, all at step 0 and at `now` (UNIX seconds).

    Raises:
        ValueError: one of them is no PNG file.
    """
    from tensorboardX.proto.event_pb2 import Event

    events = [Event(wall_time=now, file_version="brain.Event:2")]
    for tag, png in figures.items():
        event, (width, height, channels) = Event(wall_time=now, step=0), _png_size(png)
        image = event.summary.value.add(tag=tag).image
        image.width, image.height, image.colorspace, image.encoded_image_string = width, height, channels, png
        events.append(event)
    return b"".join(_record(event.SerializeToString()) for event in events)


def _holds(folder: Path, figures: Mapping[str, bytes]) -> bool:
    """Whether an earlier launch has written the same figures: then nothing changes."""
    with explained(folder):
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        if len(files) != 1 or (named := re.fullmatch(rf"{re.escape(EVENTS)}(\d{{1,12}})\.figures", files[0].name)) is None:
            return False
        return files[0].read_bytes() == image_file(figures, int(named[1]))


def _png_size(png: bytes) -> tuple[int, int, int]:
    """Width, height and channels (1 grey, 2 with alpha, 3 colours, 4 with alpha) from the header of a PNG file (PNG 1.2, 11.2.2)."""
    if png[:8] != PNG or png[12:16] != b"IHDR" or len(png) < 33:
        raise ValueError("this is no PNG file")
    width, height, _, colour = struct.unpack(">IIBB", png[16:26])
    return width, height, {0: 1, 4: 2, 6: 4}.get(colour, 3)


def event_file(reports: Sequence[tuple[int, Mapping[str, Any]]], params: Mapping[str, Any]) -> bytes:
    """A TensorBoard event file: the numbers of each (step, figures) as scalars, booleans left out; and `params`, if any, as hyperparameters."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.summary import hparams

    now = time.time()
    events = [Event(wall_time=now, file_version="brain.Event:2")]
    if params:
        shown = [name for name in COMPARED if reports[0][1].get(name) is not None]
        events += [Event(wall_time=now, summary=part) for part in hparams(params, dict.fromkeys(shown))]
    for step, metrics in reports:
        event = Event(wall_time=now, step=step)
        for name, value in metrics.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                event.summary.value.add(tag=name, simple_value=value)
        events.append(event)
    return b"".join(_record(event.SerializeToString()) for event in events)


def _record(data: bytes) -> bytes:
    """Length, its checksum, content, its checksum (TFRecord)."""
    from tensorboardX.record_writer import masked_crc32c

    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))
