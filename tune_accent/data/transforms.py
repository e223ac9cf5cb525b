"""Copies of training utterances at another speed, level or bandwidth, or in noise: `data.transforms`, off by default.

A copy is a row of the prepared cache with the speaker, accent, text and fold of its original, and the split `TRAIN_COPY`. Because that is neither
train, val nor test, whatever measures leaves copies out by itself; training asks for them by `original_rows`. Utterances that training never sees
(held fold, gaps) have no copies. The values of a copy are drawn by seed, utt_id and number, so they do not depend on other utterances.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import soxr
from scipy import signal

from tune_accent.base.errors import DataError
from tune_accent.base.seeds import generator
from tune_accent.config import speech
from tune_accent.data.audio import PEAK, SAMPLING_RATE, Wave, set_loudness
from tune_accent.data.manifest import Utterance
from tune_accent.data.splits import Splits

if TYPE_CHECKING:
    import pandas as pd

RECIPE = 1  # counts up when the same transforms give other samples
TRAIN_COPY = "train copy"
ORDER = 4  # of the Butterworth filter, on either side


@dataclass(frozen=True)
class Copy:
    """The `number`-th copy, from 1, of a training utterance."""

    original: Utterance
    number: int

    @property
    def utt_id(self) -> str:
        """The id of the original with the number as suffix."""
        return f"{self.original.utt_id}~{self.number}"


def copies_of(rows: Iterable[Utterance], splits: Splits, cfg: speech.Transforms) -> list[Copy]:
    """The copies that a cache has, in the order of their originals.

    Raises:
        DataError: an utterance has the name of a copy.
    """
    rows = list(rows)
    if not cfg.copies:
        return []
    trained = [
        row for row in rows if splits.split[row.speaker] == "train" and splits.fold[row.utt_id] not in {-1, splits.held_fold}
    ]
    copies = [Copy(row, number) for row in trained for number in range(1, cfg.copies + 1)]
    taken = {row.utt_id for row in rows} & {copy.utt_id for copy in copies}
    if taken:
        what = f"utterance {min(taken)!r} has the name that a copy of another one would get"
        raise DataError(what, where="data.transforms", fix="rename the utterance, or set data.transforms.copies to 0")
    return copies


def transformed(copy: Copy, original: Wave, cfg: speech.Transforms, lufs: float | None, seed: int) -> Wave:
    """The sound of a copy.

    Args:
        copy: from `copies_of`.
        original: (samples,) at 24 kHz, at loudness `lufs`: the wave of its original.
        cfg: the section `data.transforms`.
        lufs: loudness of a copy before its gain, as `data.loudness_lufs`; None leaves the level alone.
        seed: of all draws.
    """
    return transform(original, cfg, lufs, generator(seed, "transforms", copy.original.utt_id, copy.number))


def transform(wave: Wave, cfg: speech.Transforms, lufs: float | None, rng: np.random.Generator) -> Wave:
    """One draw of every transform that is given: speed, band limit, noise, loudness, gain.

    Args:
        wave: (samples,) float32 at 24 kHz.
        cfg: ranges to draw from.
        lufs: as in `transformed`.
        rng: of the draws.

    Returns:
        (samples / speed,) float32 at 24 kHz, peaks below 1.
    """
    if cfg.speed is not None:
        wave = soxr.resample(wave, SAMPLING_RATE * rng.uniform(*cfg.speed), SAMPLING_RATE)
    if cfg.band_hz is not None:
        wave = limit_band(wave, *cfg.band_hz)
    if cfg.noise_snr_db is not None:
        wave = add_noise(wave, rng.uniform(*cfg.noise_snr_db), rng)
    if lufs is not None:
        wave = set_loudness(wave, lufs)
    if cfg.gain_db is not None:
        wave = wave * np.float32(10.0 ** (rng.uniform(*cfg.gain_db) / 20.0))
    peak = float(np.abs(wave).max())
    limited: Wave = (wave * np.float32(PEAK / peak) if peak > PEAK else wave).astype(np.float32)
    return limited


def limit_band(wave: Wave, low: float, high: float) -> Wave:
    """Keep `low` to `high` Hz, without delay (the filter runs forwards and backwards)."""
    sections = signal.butter(ORDER, (low, high), btype="bandpass", fs=SAMPLING_RATE, output="sos")
    limited: Wave = signal.sosfiltfilt(sections, wave, padlen=min(len(wave) - 1, SAMPLING_RATE // 10)).astype(np.float32)
    return limited


def add_noise(wave: Wave, snr: float, rng: np.random.Generator) -> Wave:
    """Add white noise with a mean power `snr` dB below that of the wave."""
    noise = rng.standard_normal(len(wave))
    scale = np.sqrt(np.square(wave, dtype=np.float64).mean() / 10.0 ** (snr / 10.0))
    noisy: Wave = (wave + scale * noise).astype(np.float32)
    return noisy


def original_rows(table: pd.DataFrame) -> npt.NDArray[np.int64]:
    """(N,) the row of what each row of a prepared cache's table is a copy of: itself, where it is none."""
    import pandas as pd

    rows = np.arange(len(table), dtype=np.int64)
    if "copy_of" in table:
        copies = table["copy_of"].notna().to_numpy()
        rows[copies] = pd.Index(table["utt_id"]).get_indexer(pd.Index(table["copy_of"][copies]))
    return rows
