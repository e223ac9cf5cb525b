"""Acoustic statistics against sounds whose pitch, level and rate are known."""

from __future__ import annotations

import numpy as np
import pytest

from tests.data.small_corpora import sine
from tune_accent.data.acoustic import NAMES, acoustic_features
from tune_accent.data.audio import Wave


def named(wave: Wave) -> dict[str, float]:
    """The statistics by name."""
    return dict(zip(NAMES, acoustic_features(wave).tolist(), strict=True))


def syllables(per_second: float, seconds: float = 4.0, hertz: float = 150.0) -> Wave:
    """A harmonic tone whose level falls to a hundredth between syllables."""
    time = np.arange(int(seconds * 24_000)) / 24_000
    voice = sum(np.sin(2 * np.pi * hertz * harmonic * time) / harmonic for harmonic in range(1, 8))
    swell = 0.01 + 0.99 * (0.5 - 0.5 * np.cos(2 * np.pi * per_second * time)) ** 2
    return (0.2 * voice * swell).astype(np.float32)


@pytest.mark.parametrize("hertz", [80.0, 120.0, 220.0, 400.0])
def test_pitch_of_a_tone(hertz: float) -> None:
    found = named(sine(1.5, hertz))
    assert found["f0_p50"] == pytest.approx(np.log2(hertz), abs=0.03)
    assert found["f0_sd"] < 0.1 and found["voiced_share"] > 0.95


@pytest.mark.parametrize("per_second", [2.0, 4.0, 6.0])
def test_rate_counts_syllables(per_second: float) -> None:
    found = named(syllables(per_second))
    assert found["syllables_per_s"] * found["speech_share"] == pytest.approx(per_second, rel=0.1)


def test_level_moves_energy_alone() -> None:
    quiet, loud = named(syllables(3.0)), named(10 * syllables(3.0))
    assert loud["energy_mean"] - quiet["energy_mean"] == pytest.approx(20.0, abs=0.1)
    same = ("f0_p50", "voiced_share", "energy_sd", "syllables_per_s", "mfcc_01_mean", "mfcc_05_sd")
    assert [loud[name] for name in same] == pytest.approx([quiet[name] for name in same], rel=1e-2)


def test_noise_is_speech_without_voice() -> None:
    found = named((0.1 * np.random.default_rng(0).standard_normal(24_000)).astype(np.float32))
    assert found["voiced_share"] < 0.05 and found["speech_share"] == 1.0


@pytest.mark.parametrize(
    "wave", [np.zeros(24_000), np.zeros(1), np.ones(30), sine(0.02)], ids=["silence", "one", "constant", "short"]
)
def test_every_wave_gives_finite_numbers(wave: Wave) -> None:
    found = acoustic_features(wave.astype(np.float32))
    assert found.shape == (len(NAMES),) and found.dtype == np.float32 and np.isfinite(found).all()


def test_speech_gives_the_same_numbers_again(waves: list[Wave]) -> None:
    for wave in waves[:4]:
        assert acoustic_features(wave).tobytes() == acoustic_features(wave.copy()).tobytes()


def test_speech_is_measured_within_what_speech_does(waves: list[Wave]) -> None:
    found = [named(wave) for wave in waves]
    assert all(60 <= 2 ** row["f0_p50"] <= 450 and 0.3 < row["voiced_share"] < 0.95 for row in found)
    assert 2.5 < np.median([row["syllables_per_s"] for row in found]) < 8
