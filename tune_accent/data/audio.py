"""Audio files → mono float32 at 24 kHz, bounded and checked; loudness by ITU-R BS.1770; 24 kHz mono FLAC out.

What a file says of itself is not believed: samples are decoded in blocks up to a limit, whatever length the header claims. Only the containers of
`MAGIC` reach libsndfile. Does not cover faults inside libsndfile itself.
"""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyloudnorm
import soundfile
import soxr

from tune_accent.base.errors import DataError, TuneAccentError

SAMPLING_RATE = 24_000  # Hz, of every wave that the rooms exchange
MAX_SECONDS = 600.0  # longer files are refused before they are decoded
MAX_BYTES = 512 * 2**20  # of a file
RATES = (1_000, 768_000)  # Hz, lowest and highest that is read
MAX_CHANNELS = 8
SUFFIX = ".flac"  # of the files that `encode_audio` makes
BLOCK_S = 0.4  # gating block of BS.1770
PEAK = 0.999
BLOCK = 1 << 16  # samples that are decoded at once
UNKNOWN = 2**63 - 1  # frames of a FLAC stream that does not say how long it is
RIFF_SLACK = 8  # bytes: some writers count the first eight twice
MAGIC = (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"FORM", b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2")
BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}

Wave = npt.NDArray[np.float32]


class Undecodable(TuneAccentError):
    """Bytes that are no usable audio; the message is the reason, in words that follow "the audio file cannot be used:"."""


class _Seekable:
    """A stream as libsndfile wants it: places before the start, which damaged files send it to, are refused and not raised."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.readinto, self.read, self.tell = stream.readinto, stream.read, stream.tell  # type: ignore[attr-defined]

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move, or stay where that is not possible."""
        with suppress(ValueError, OSError, OverflowError):
            self._stream.seek(offset, whence)
        return self._stream.tell()

    def write(self, data: bytes) -> int:
        """Nothing is written."""
        raise OSError("read only")


@dataclass(frozen=True)
class Decoded:
    """What a file holds.

    Attributes:
        samples: (frames, channels) float32, at most 1 in size unless the file holds floats.
        rate: in Hz.
        full_scale: the largest sample that the file's format can hold.
    """

    samples: npt.NDArray[np.float32]
    rate: int
    full_scale: float

    @property
    def mono(self) -> Wave:
        """(frames,) float32, the mean of the channels."""
        mixed: Wave = self.samples.mean(axis=1, dtype=np.float32)
        return mixed

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.samples) / self.rate


def decode(stream: BinaryIO, max_seconds: float = MAX_SECONDS) -> Decoded:
    """Decode WAV, FLAC, Ogg, MP3 or AIFF with libsndfile.

    Raises:
        Undecodable: corrupt, cut short, empty, too long, too many channels, an odd sampling rate, or samples that are not finite.
    """
    if not stream.read(4).startswith(MAGIC):
        raise Undecodable("it cannot be decoded (no WAV, FLAC, Ogg, MP3 or AIFF)")
    _check_riff(stream)
    stream.seek(0)
    try:
        with soundfile.SoundFile(_Seekable(stream)) as sound:
            return _decode(sound, max_seconds)
    except (soundfile.SoundFileError, OSError, TypeError, ValueError) as error:
        raise Undecodable(f"it cannot be decoded ({str(error).rstrip('.')})") from error


def _check_riff(stream: BinaryIO) -> None:
    """libsndfile reads a WAV file that was cut short without a word; streams of unknown length announce 0 or almost 2³² or 2³¹."""
    stream.seek(0)
    head = stream.read(8)
    announced, there = int.from_bytes(head[4:], "little"), stream.seek(0, 2)
    if head.startswith(b"RIFF") and there + RIFF_SLACK < announced + 8 and announced % 2**31 < 2**31 - 2**12:
        raise Undecodable(f"it is cut short: {announced + 8} bytes are announced and {there} are there")


def _decode(sound: soundfile.SoundFile, max_seconds: float) -> Decoded:
    rate, channels, claimed = int(sound.samplerate), int(sound.channels), int(sound.frames)
    if not RATES[0] <= rate <= RATES[1]:
        raise Undecodable(f"its sampling rate is {rate} Hz, {RATES[0]} to {RATES[1]} Hz are read")
    if channels > MAX_CHANNELS:
        raise Undecodable(f"it has {channels} channels, at most {MAX_CHANNELS} are read")
    limit = int(max_seconds * rate)
    if claimed == UNKNOWN:
        raise Undecodable("it does not say how long it is (encode it again into a file, not into a pipe)")
    if claimed > limit:
        raise Undecodable(f"it lasts {claimed / rate:.0f} s, at most {max_seconds:.0f} s are read")
    blocks: list[npt.NDArray[np.float32]] = []
    frames = 0
    while len(block := sound.read(BLOCK // channels, dtype="float32", always_2d=True)):
        blocks.append(block)
        frames += len(block)
        if frames > limit:
            raise Undecodable(f"it lasts more than {max_seconds:.0f} s")
    if not frames:
        raise Undecodable("it holds no samples")
    if frames < claimed:
        raise Undecodable(f"it is cut short: {claimed / rate:.2f} s are announced and {frames / rate:.2f} s are there")
    samples = np.concatenate(blocks)
    if not np.isfinite(samples).all():
        raise Undecodable("it holds samples that are not finite")
    return Decoded(samples, rate, 1.0 - 2.0 ** (1 - BITS.get(sound.subtype, 16)))


def read_audio(path: Path) -> Wave:
    """Decode a file, mix to mono and resample with soxr.

    Returns:
        (samples,) float32 at 24 kHz.

    Raises:
        DataError: the file is missing, corrupt, empty, longer than `MAX_SECONDS`, or holds samples that are not finite.
    """
    try:
        with path.open("rb") as stream:
            decoded = decode(stream)
        return to_24_khz(decoded.mono, decoded.rate)
    except (OSError, Undecodable) as error:
        why = str(error) if isinstance(error, Undecodable) else _unopened(path, error)
        raise DataError(
            f"the audio file cannot be used: {why}", where=str(path), fix="repair or remove it, then make the corpus again"
        ) from error


def _unopened(path: Path, error: OSError) -> str:
    return f"it cannot be decoded ({error.strerror})" if path.exists() else "it is not there"


def to_24_khz(mono: Wave, rate: int) -> Wave:
    """Resample (samples,) at `rate` Hz with soxr (HQ) to `SAMPLING_RATE`.

    Raises:
        Undecodable: it is too short to give a single sample.
    """
    wave: Wave = mono if rate == SAMPLING_RATE else soxr.resample(mono, rate, SAMPLING_RATE)
    if not len(wave):
        raise Undecodable("it holds no samples")
    return wave


def encode_audio(wave: Wave) -> bytes:
    """24 kHz mono FLAC of 16 bits: 56 % of the bytes of WAV for 1 ms more per 3 s utterance when it is read (benchmarks/LOG.md).

    Args:
        wave: (samples,) at 24 kHz; what is larger than 1 is clipped.
    """
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(wave, -1.0, 1.0), SAMPLING_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


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
