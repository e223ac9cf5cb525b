"""Audio files → mono float32 at 24 kHz, bounded and checked; loudness by ITU-R BS.1770."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyloudnorm
import soundfile
import soxr

from tune_accent.base.errors import DataError

SAMPLING_RATE = 24_000  # Hz, of every wave that the rooms exchange
MAX_SECONDS = 600.0  # longer files are refused before they are decoded
BLOCK_S = 0.4  # gating block of BS.1770
PEAK = 0.999

Wave = npt.NDArray[np.float32]


def read_audio(path: Path) -> Wave:
    """Decode a file with libsndfile, mix to mono and resample with soxr.

    Returns:
        (samples,) float32 at 24 kHz.

    Raises:
        DataError: the file is missing, corrupt, empty, longer than `MAX_SECONDS`, or holds samples that are not finite.
    """
    try:
        with soundfile.SoundFile(str(path)) as stream:
            rate, frames = int(stream.samplerate), int(stream.frames)
            if frames > MAX_SECONDS * rate:
                raise _unusable(path, f"it lasts {frames / rate:.0f} s, at most {MAX_SECONDS:.0f} s are read")
            samples = stream.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError, TypeError) as error:
        raise _unusable(
            path, f"it cannot be decoded ({str(error).rstrip('.')})" if path.exists() else "it is not there"
        ) from error
    if not np.isfinite(samples).all():
        raise _unusable(path, "it holds samples that are not finite")
    mono = samples.mean(axis=1, dtype=np.float32)
    wave: Wave = mono if rate == SAMPLING_RATE or not len(mono) else soxr.resample(mono, rate, SAMPLING_RATE)
    if not len(wave):
        raise _unusable(path, "it holds no samples")
    return wave


def set_loudness(wave: Wave, lufs: float) -> Wave:
    """Scale a wave to an integrated loudness; lower where the peak would reach 1. Silence stays as it is.

    Args:
        wave: (samples,) at 24 kHz. Less than one gating block (0.4 s) is repeated for the measurement.
        lufs: the loudness wanted, e.g. -23.0 (EBU R 128).
    """
    block = int(BLOCK_S * SAMPLING_RATE)
    measured = wave if len(wave) >= block else np.tile(wave, -(-block // len(wave)))
    loudness = pyloudnorm.Meter(SAMPLING_RATE, block_size=BLOCK_S).integrated_loudness(measured.astype(np.float64))
    if not np.isfinite(loudness):
        return wave
    gain = min(10.0 ** ((lufs - loudness) / 20.0), PEAK / float(np.abs(wave).max()))
    return (wave * np.float32(gain)).astype(np.float32)


def _unusable(path: Path, why: str) -> DataError:
    return DataError(
        f"the audio file cannot be used: {why}", where=str(path), fix="repair or remove it, then make the corpus again"
    )
