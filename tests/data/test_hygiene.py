"""What real recordings come with is measured or named; nothing that a file says of itself is believed."""

from __future__ import annotations

import io
import resource
import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pyloudnorm
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.small_corpora import sine
from tune_accent.data.audio import Wave, encode_audio
from tune_accent.data.hygiene import Accepted, Hygiene, Unusable, accept_audio, duplicates, snr_db, trim_silence

PLAIN = Hygiene(loudness_lufs=None)


def encoded(samples: npt.NDArray[Any], rate: int = 24_000, kind: str = "WAV", subtype: str = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def flac_that_says(data: bytes, frames: int | None = None, rate: int | None = None) -> bytes:
    """A FLAC file with other values in its STREAMINFO: 20 bits of rate, 3 of channels, 5 of depth, 36 of length from byte 18."""
    value = int.from_bytes(data[18:26], "big")
    if frames is not None:
        value = (value >> 36 << 36) | frames
    if rate is not None:
        value = (value & ((1 << 44) - 1)) | (rate << 44)
    return data[:18] + value.to_bytes(8, "big") + data[26:]


def pink(count: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    spectrum = np.fft.rfft(rng.standard_normal(count))
    return np.fft.irfft(spectrum / np.sqrt(np.maximum(np.fft.rfftfreq(count, 1 / 24_000), 50.0)), count)


def noisy(wave: Wave, noise: npt.NDArray[np.float64], level: float) -> Wave:
    noise = noise * np.sqrt(np.square(wave.astype(np.float64)).mean() / np.square(noise).mean() / 10 ** (level / 10))
    return (wave + noise).astype(np.float32)


def test_a_recording_is_mono_24_khz_of_equal_loudness_with_its_own_figures(waves: list[Wave]) -> None:
    stereo = 0.5 * np.stack([waves[0], waves[0]], axis=1)
    found = accept_audio(encoded(stereo, 48_000), Hygiene())
    assert found.wave.dtype == np.dtype(np.float32)
    assert found.wave.ndim == 1
    assert abs(len(found.wave) - len(waves[0]) / 2) <= 1
    assert found.duration_s == len(waves[0]) / 48_000
    assert found.sampling_rate == 48_000
    assert pyloudnorm.Meter(24_000).integrated_loudness(found.wave.astype(np.float64)) == pytest.approx(-23.0, abs=0.05)
    assert found.clipping == 0.0


@pytest.mark.parametrize("colour", ["white", "pink"])
def test_the_snr_estimate_is_within_two_decibels_from_0_to_20(waves: list[Wave], colour: str) -> None:
    rng = np.random.default_rng(0)
    for level in (0.0, 5.0, 10.0, 15.0, 20.0):
        errors = []
        for wave in waves[:12]:
            noise = rng.standard_normal(len(wave)) if colour == "white" else pink(len(wave), rng)
            errors.append(snr_db(noisy(wave, noise, level)) - level)
        assert abs(np.mean(errors)) < 2.0, (level, np.mean(errors))
        assert np.std(errors) < 2.0


def test_the_snr_estimate_falls_with_more_noise_and_does_not_depend_on_level_or_offset(waves: list[Wave]) -> None:
    rng = np.random.default_rng(1)
    noise = rng.standard_normal(len(waves[1]))
    found = [snr_db(noisy(waves[1], noise, level)) for level in (25.0, 15.0, 5.0, -5.0)]
    assert found == sorted(found, reverse=True)
    assert snr_db(0.1 * waves[1] + np.float32(0.05)) == pytest.approx(snr_db(waves[1]), abs=0.1)
    assert snr_db(np.concatenate([waves[1], np.zeros(24_000, np.float32)])) == 60.0
    assert snr_db(rng.standard_normal(48_000).astype(np.float32)) < 0.0


@pytest.mark.parametrize(
    ("subtype", "kind"), [("PCM_U8", "WAV"), ("PCM_16", "WAV"), ("PCM_24", "WAV"), ("PCM_16", "FLAC"), ("FLOAT", "WAV")]
)
def test_clipping_is_the_share_of_samples_at_the_full_scale_of_the_format(subtype: str, kind: str) -> None:
    wave = sine(1.0, level=0.5)
    wave[:2_400] = np.tile(np.array([1.0, -1.0], np.float32), 1_200)
    assert accept_audio(encoded(wave, kind=kind, subtype=subtype), PLAIN).clipping == pytest.approx(0.1)


def test_the_same_samples_are_found_in_another_container_and_named_by_the_first(waves: list[Wave]) -> None:
    same, another = ((20_000 * wave).clip(-20_000, 20_000).astype(np.int16) for wave in waves[:2])
    wav, flac = (accept_audio(encoded(same, kind=kind), Hygiene()).sha256 for kind in ("WAV", "FLAC"))
    other = accept_audio(encoded(another), Hygiene()).sha256
    slower = accept_audio(encoded(same, 22_050), Hygiene()).sha256
    assert wav == flac
    assert len({wav, other, slower}) == 3
    assert duplicates([("c", wav), ("b", other), ("a", flac), ("d", wav)]) == {"c": "a", "d": "a"}


def test_silence_is_trimmed_at_both_ends_only(waves: list[Wave]) -> None:
    pause = np.zeros(24_000, np.float32)
    padded = np.concatenate([pause, waves[0], pause, waves[0], pause])
    trimmed = accept_audio(encoded(padded), Hygiene(loudness_lufs=None, trim_silence=True)).wave
    lost = len(padded) - len(trimmed)
    assert 2 * 24_000 - 3 * 2_400 < lost < 2 * 24_000 + 12_000
    np.testing.assert_array_equal(accept_audio(encoded(padded), PLAIN).wave.shape, padded.shape)
    assert len(trim_silence(waves[0])) <= len(waves[0])


SPEECH = sine(1.0)
FLAC = encoded(SPEECH, kind="FLAC")
UNUSABLE = {
    "nothing": (b"", "is empty"),
    "text": (b"this is no audio" * 100, "no WAV, FLAC, Ogg, MP3 or AIFF"),
    "header only": (encoded(SPEECH)[:44], "cut short|no samples"),
    "half a WAV": (encoded(SPEECH)[:20_000], "cut short: 48044 bytes are announced and 20000 are there"),
    "half a FLAC": (FLAC[: len(FLAC) // 2], "cannot be decoded|cut short"),
    "zeroed FLAC": (FLAC[:5_000] + bytes(500) + FLAC[5_500:], "cannot be decoded|cut short"),
    "no samples": (encoded(np.zeros(0, np.float32)), "no samples"),
    "silence": (encoded(np.zeros(24_000, np.float32)), "is silent"),
    "an offset": (encoded(np.full(24_000, 0.5, np.float32)), "is silent"),
    "not finite": (encoded(np.full(24_000, np.nan, np.float32), subtype="FLOAT"), "not finite"),
    "infinite": (encoded(np.full(24_000, np.inf, np.float32), subtype="FLOAT"), "not finite"),
    "a click": (encoded(np.full(30, 0.5, np.float32)), "is silent|less than one frame"),
    "a short tone": (encoded(sine(0.01)), "less than one frame"),
    "hours of FLAC": (flac_that_says(FLAC, frames=2**36 - 1), "at most 600 s"),
    "FLAC of no length": (flac_that_says(FLAC, frames=0), "does not say how long it is"),
    "more FLAC than is there": (flac_that_says(FLAC, frames=48_000), "cannot be decoded|cut short"),
    "FLAC of 1 Hz": (flac_that_says(FLAC, rate=1), "sampling rate is 1 Hz"),
    "FLAC of 2 kHz": (flac_that_says(FLAC, rate=2_000), "at least 8000 Hz"),
    "many channels": (encoded(np.full((2_400, 9), 0.1, np.float32)), "9 channels"),
    "601 s": (encoded(np.zeros(601 * 8_000, np.float32), 8_000), "at most 600 s"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_cannot_be_used_is_named(name: str) -> None:
    data, why = UNUSABLE[name]
    with pytest.raises(Unusable, match=why):
        accept_audio(data, Hygiene())


@pytest.mark.parametrize(("seconds", "kept"), [(2.99, False), (3.0, True), (15.0, True), (15.01, False)])
def test_limits_of_duration_are_inclusive(seconds: float, kept: bool) -> None:
    data = encoded(sine(seconds, rate=16_000), 16_000)
    if kept:
        assert accept_audio(data, Hygiene(min_s=3.0, max_s=15.0)).duration_s == seconds
    else:
        with pytest.raises(Unusable, match=r"at (least 3|most 15) s are wanted"):
            accept_audio(data, Hygiene(min_s=3.0, max_s=15.0))


def test_ten_kilobytes_of_flac_that_hold_an_hour_cost_no_more_than_the_limit() -> None:
    hour = encoded(np.zeros(3_600 * 8_000, np.float32), 8_000, "FLAC")
    unsaid = flac_that_says(hour, frames=0)
    tracemalloc.start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for data in (hour, unsaid):
        with pytest.raises(Unusable, match=r"600 s|how long"):
            accept_audio(data, Hygiene())
    assert tracemalloc.get_traced_memory()[1] < 64e6  # 600 s at 8 kHz in float32 are 19 MB
    tracemalloc.stop()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_what_is_written_comes_back_to_16_bits(waves: list[Wave]) -> None:
    wave = accept_audio(encoded(waves[0]), Hygiene()).wave
    back, rate = soundfile.read(io.BytesIO(encode_audio(wave)), dtype="float32")
    assert rate == 24_000
    np.testing.assert_allclose(back, wave, atol=2**-15)
    assert encode_audio(wave) == encode_audio(wave)
    assert soundfile.read(io.BytesIO(encode_audio(3 * sine(0.1, level=1.0))), dtype="float32")[0].max() > 0.99


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(["WAV", "FLAC", "OGG", "AIFF"]), st.binary(max_size=40), st.integers(0, 4_000), st.integers(0, 60))
def test_damaged_bytes_are_used_or_named(kind: str, junk: bytes, start: int, removed: int) -> None:
    data = ENCODED[kind]
    try:
        found = accept_audio(data[:start] + junk + data[start + removed :], Hygiene())
    except Unusable as problem:
        assert str(problem)
    else:
        assert isinstance(found, Accepted)
        assert np.isfinite(found.wave).all()
        assert 0 < len(found.wave) < 600 * 24_000 + 1


ENCODED = {
    kind: encoded(sine(0.1, rate=16_000), 16_000, kind, subtype)
    for kind, subtype in (("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("AIFF", "PCM_16"))
}
