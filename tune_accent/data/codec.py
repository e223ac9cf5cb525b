"""Codecs turn speech into frames of 16 codes at 12.5 Hz. `mfcc_pq` is the small one of the demo; `qwen`, a network, is in models/qwen_codec.py.

`mfcc_pq`: 16 MFCC at 50 Hz with the mean of the utterance removed, beside twice their deltas; residual k-means of 4 levels. A frame of
80 ms is 4 sub-frames × 4 levels: the code of a level and sub-frame is in slot 4·level + sub-frame. It cannot be turned back into sound.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from sklearn.cluster import KMeans
from threadpoolctl import ThreadpoolController

from tune_accent.base.errors import DataError
from tune_accent.base.files import canonical_json, read_json, sha256_bytes, write_bytes, write_json
from tune_accent.data.audio import SAMPLING_RATE, Wave

Codes = npt.NDArray[np.int16]
Features = npt.NDArray[np.float64]

CODEBOOKS, FRAME_RATE = 16, 12.5
LEVELS, SUB_FRAMES = 4, 4
HOP, WINDOW, FFT = 480, 720, 1024  # samples: 50 Hz, 30 ms
MELS, COEFFICIENTS, LOW_HZ, HIGH_HZ = 40, 16, 50.0, 8000.0
DELTA_WEIGHT, DELTA_SPAN = 2.0, 2
MAX_FIT_ROWS = 60_000  # sub-frames that k-means sees
TENSORS, META = "codebooks.safetensors", "codec.json"


class Codec(Protocol):
    """What every codec gives; encode one utterance at a time, since padding in a batch can change codes."""

    name: str
    codebooks: int  # 16
    codebook_size: int
    frame_rate: float  # 12.5 Hz
    fingerprint: str  # SHA-256 of everything that decides the codes

    def encode(self, wave: Wave) -> Codes:
        """Encode (samples,) float32 at 24 kHz into (ceil(samples / 1920), 16) int16, every code in [0, codebook_size)."""
        ...

    def save(self, folder: Path) -> None:
        """Write into `folder` what a cache keeps: a codec that was fitted for it, whole; of one that was loaded, `codec.json` says which, and from where."""
        ...


class MfccPq:
    """Residual k-means over MFCC and their deltas.

    Args:
        centroids: (levels, codewords, 32) float32.
    """

    name = "mfcc_pq"
    codebooks = CODEBOOKS
    frame_rate = FRAME_RATE

    def __init__(self, centroids: npt.NDArray[np.float32]) -> None:
        self.centroids = np.ascontiguousarray(centroids, dtype=np.float32)
        self.codebook_size = int(centroids.shape[1])
        self.fingerprint = sha256_bytes(canonical_json(_recipe()).encode() + self.centroids.tobytes())

    @classmethod
    def fit(cls, waves: Iterable[Wave], codewords: int, seed: int) -> MfccPq:
        """Fit the codebooks, level by level on what the levels before leave over; the same on any number of threads.

        Args:
            waves: utterances of train speakers only, (samples,) at 24 kHz.
            codewords: entries of each codebook.
            seed: of the subsample and of k-means.

        Raises:
            DataError: there are fewer sub-frames than codewords.
        """
        generator = np.random.default_rng(np.random.SeedSequence(seed))
        rows = np.concatenate([features(wave) for wave in waves])
        if len(rows) < codewords:
            raise DataError(f"{len(rows)} frames of train speech cannot fill {codewords} codewords", where="data.codec.codewords")
        if len(rows) > MAX_FIT_ROWS:
            rows = rows[np.sort(generator.choice(len(rows), MAX_FIT_ROWS, replace=False))]
        centroids = []
        with _one_thread().limit(limits=1):
            for _ in range(LEVELS):
                clusters = KMeans(codewords, n_init=1, max_iter=100, random_state=int(generator.integers(2**31))).fit(rows)
                level = clusters.cluster_centers_.astype(np.float32)
                centroids.append(level)
                rows = rows - level[_nearest(rows, level)]
        return cls(np.stack(centroids))

    def encode(self, wave: Wave) -> Codes:
        """See `Codec.encode`."""
        rest = features(wave)
        levels = []
        for level in self.centroids:
            codes = _nearest(rest, level)
            levels.append(codes.reshape(-1, SUB_FRAMES))
            rest = rest - level[codes]
        return np.concatenate(levels, axis=1).astype(np.int16)

    def save(self, folder: Path) -> None:
        """Write the codebooks and, last, the file that names them."""
        write_bytes(folder / TENSORS, safetensors.numpy.save({"centroids": self.centroids}))
        write_json(folder / META, {"name": self.name, "recipe": _recipe(), "fingerprint": self.fingerprint})

    @classmethod
    def load(cls, folder: Path) -> MfccPq:
        """Read a saved codec.

        Raises:
            DataError: a file is missing, damaged, or from another recipe.
        """
        try:
            codec = cls(safetensors.numpy.load((folder / TENSORS).read_bytes())["centroids"])
            found = read_json(folder / META)["fingerprint"]
        except (OSError, safetensors.SafetensorError, KeyError, TypeError, IndexError) as error:
            raise DataError(f"the codec cannot be read ({error!r})", where=str(folder), fix="remove the folder") from error
        if found != codec.fingerprint:
            raise DataError("the codebooks are not those that were saved", where=str(folder), fix="remove the folder")
        return codec


def features(wave: Wave) -> Features:
    """MFCC of an utterance minus their mean, beside `DELTA_WEIGHT` × their deltas.

    Args:
        wave: (samples,) at 24 kHz.

    Returns:
        (4 · ceil(samples / 1920), 32) float64; the last 20 ms are repeated to fill the last frame.
    """
    count = max(len(wave) // HOP, 1)
    padded = np.pad(wave.astype(np.float64), (WINDOW // 2, WINDOW // 2 + HOP))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[: count * HOP : HOP]
    power = np.abs(np.fft.rfft(windows * np.hanning(WINDOW), FFT)) ** 2
    with _one_thread().limit(limits=1):
        cepstra = np.log(power @ _mel_filters() + 1e-6) @ _dct()
    cepstra -= cepstra.mean(axis=0)
    both = np.concatenate([cepstra, DELTA_WEIGHT * _deltas(cepstra)], axis=1)
    per_frame = round(SAMPLING_RATE / FRAME_RATE)
    total = SUB_FRAMES * -(-len(wave) // per_frame)
    whole: Features = np.pad(both, ((0, total - count), (0, 0)), mode="edge")
    return whole


def _nearest(rows: Features, level: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """(rows,) nearest centroid of each row: smallest ‖c‖² - 2·x·c."""
    centroids = level.astype(np.float64)
    with _one_thread().limit(limits=1):
        distances = (centroids**2).sum(axis=1) - 2.0 * rows @ centroids.T
    nearest: npt.NDArray[np.intp] = distances.argmin(axis=1)
    return nearest


@functools.cache
def _one_thread() -> ThreadpoolController:
    """Rounding in BLAS and OpenMP depends on their threads; finding the libraries takes a millisecond, so it is done once."""
    return ThreadpoolController()


def _deltas(cepstra: Features) -> Features:
    """Regression slopes over ± `DELTA_SPAN` frames, edges repeated (HTK book, eq. 5.16)."""
    span = np.arange(1, DELTA_SPAN + 1)
    padded = np.pad(cepstra, ((DELTA_SPAN, DELTA_SPAN), (0, 0)), mode="edge")
    middle = np.arange(len(cepstra)) + DELTA_SPAN
    slopes = sum(step * (padded[middle + step] - padded[middle - step]) for step in span)
    return cast(Features, slopes / (2 * (span**2).sum()))


@functools.cache
def _mel_filters() -> Features:
    """(bins, mels) triangles on the mel scale 2595·log10(1 + f/700)."""
    low, high = (2595 * np.log10(1 + hertz / 700) for hertz in (LOW_HZ, HIGH_HZ))
    edges = 700 * (10 ** (np.linspace(low, high, MELS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(FFT, 1 / SAMPLING_RATE)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters: Features = np.maximum(0.0, np.minimum(rising, falling))
    return filters


@functools.cache
def _dct() -> Features:
    """(mels, coefficients) orthonormal DCT-II."""
    angles = np.pi / MELS * (np.arange(MELS)[:, None] + 0.5) * np.arange(COEFFICIENTS)[None]
    basis: Features = np.sqrt(2.0 / MELS) * np.cos(angles)
    basis[:, 0] /= np.sqrt(2.0)
    return basis


def _recipe() -> dict[str, float]:
    return {
        "levels": LEVELS,
        "sub_frames": SUB_FRAMES,
        "hop": HOP,
        "window": WINDOW,
        "fft": FFT,
        "mels": MELS,
        "coefficients": COEFFICIENTS,
        "low_hz": LOW_HZ,
        "high_hz": HIGH_HZ,
        "delta_weight": DELTA_WEIGHT,
        "delta_span": DELTA_SPAN,
    }
