"""Audio comes in as mono float32 at 24 kHz with the loudness asked for; what cannot be used is one error that names the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyloudnorm
import pytest
import soundfile

from tests.data.small_corpora import sine
from tune_accent.base.errors import DataError
from tune_accent.data.audio import MAX_SECONDS, Wave, read_audio, set_loudness


@pytest.mark.parametrize("rate", [16_000, 22_050, 24_000, 48_000])
def test_resampled_and_mixed_to_mono(tmp_path: Path, rate: int) -> None:
    tone = sine(1.0, rate=rate)
    soundfile.write(tmp_path / "a.flac", np.stack([tone, 0.5 * tone], axis=1), rate)
    wave = read_audio(tmp_path / "a.flac")
    assert wave.dtype == np.float32
    assert wave.shape == (24_000,)
    np.testing.assert_allclose(wave[2_000:-2_000], 0.75 * sine(1.0)[2_000:-2_000], atol=2e-3)


def test_loudness_is_the_one_asked_for(waves: list[Wave]) -> None:
    for wave in waves[:5]:
        measured = pyloudnorm.Meter(24_000).integrated_loudness(set_loudness(wave, -23.0).astype(np.float64))
        assert measured == pytest.approx(-23.0, abs=0.05)


@pytest.mark.parametrize("seconds", [0.001, 0.05, 0.39])
def test_short_clips_have_a_loudness(seconds: float) -> None:
    tone = sine(seconds, hertz=1000.0)
    quiet, loud = set_loudness(tone, -33.0), set_loudness(tone, -23.0)
    assert quiet.shape == loud.shape == tone.shape
    np.testing.assert_allclose(loud, quiet * 10**0.5, rtol=1e-3)


def test_the_peak_stays_below_one_and_silence_stays_silence() -> None:
    click = sine(1.0, level=1e-3)
    click[1_000] = 0.9
    assert 0.99 < np.abs(set_loudness(click, -3.0)).max() < 1.0
    np.testing.assert_array_equal(set_loudness(np.zeros(24_000, np.float32), -23.0), 0.0)


def broken_files(folder: Path) -> dict[str, Path]:
    whole = folder / "whole.wav"
    soundfile.write(whole, sine(1.0), 24_000, subtype="FLOAT")
    files = {name: folder / f"{name}.wav" for name in ("junk", "header", "no-bytes", "empty", "nan", "long")}
    files["junk"].write_bytes(bytes(range(256)) * 20)
    files["header"].write_bytes(whole.read_bytes()[:20])
    files["no-bytes"].touch()
    soundfile.write(files["empty"], np.zeros(0, np.float32), 24_000)
    soundfile.write(files["nan"], np.full(100, np.nan, np.float32), 24_000, subtype="FLOAT")
    soundfile.write(files["long"], np.zeros(int((MAX_SECONDS + 1) * 1_000), np.float32), 1_000)
    return files | {"folder": folder, "nowhere": folder / "nowhere.wav"}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("junk", "cannot be decoded"),
        ("header", "cut short"),
        ("no-bytes", "cannot be decoded"),
        ("empty", "no samples"),
        ("nan", "not finite"),
        ("long", "at most 600 s"),
        ("folder", "cannot be decoded"),
        ("nowhere", "is not there"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, name: str, why: str) -> None:
    path = broken_files(tmp_path)[name]
    with pytest.raises(DataError, match=why) as caught:
        read_audio(path)
    assert caught.value.where == str(path)
