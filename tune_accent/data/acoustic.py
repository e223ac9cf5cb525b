"""What plain signal processing hears in an utterance: the baseline that every learnt representation is set beside.

F0 by YIN (de Cheveigné & Kawahara 2002): 3 ms per utterance, where pYIN takes 150 and wins only on voicing, which is taken from energy and
zero crossings here. The rate counts syllable nuclei, peaks of intensity over dips of 2 dB (de Jong & Wempe 2009). All at 50 frames per second.
"""

from __future__ import annotations

from itertools import chain

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d
from scipy.signal import find_peaks

from tune_accent.data.audio import SAMPLING_RATE, Wave

PROTOCOL_VERSION = 1  # raised whenever a value would change for the same wave
HOP, WINDOW, FFT = 480, 720, 1024  # samples: 20 ms, 30 ms, 43 ms (two periods of the lowest F0)
FRAME_RATE = SAMPLING_RATE / HOP
MELS, COEFFICIENTS, LOW_HZ, HIGH_HZ = 40, 13, 50.0, 8000.0
F0_LOW_HZ, F0_HIGH_HZ = 60.0, 450.0
SPEECH_DB, VOICED_CROSSINGS = (
    30.0,
    0.15,
)  # speech: at most so far below the loudest frame; voiced: fewer zero crossings per sample
FLOOR_DB = -100.0
DIP_DB, SYLLABLE_S = 2.0, 0.1  # between two syllable nuclei
SHORTEST = FFT + 1  # samples; shorter waves are padded with silence

NAMES = (
    *chain.from_iterable((f"mfcc_{number:02d}_mean", f"mfcc_{number:02d}_sd") for number in range(COEFFICIENTS)),
    *("f0_mean", "f0_sd", "f0_p05", "f0_p50", "f0_p95", "voiced_share"),  # F0 in octaves re 1 Hz
    *("energy_mean", "energy_sd", "energy_p05", "energy_p95"),  # dB
    *("syllables_per_s", "speech_share"),
)

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def acoustic_features(wave: Wave) -> npt.NDArray[np.float32]:
    """Acoustic statistics of one utterance, named by `NAMES`.

    Args:
        wave: (samples,) float32 at 24 kHz, of equal loudness where level shall not count.

    Returns:
        (38,) float32, finite for any wave; F0 values are 0 where nothing is voiced.
    """
    import librosa

    wave = np.pad(wave, (0, max(0, SHORTEST - len(wave))))
    decibels = np.maximum(
        librosa.amplitude_to_db(librosa.feature.rms(y=wave, frame_length=WINDOW, hop_length=HOP)[0], top_db=None), FLOOR_DB
    )
    mfcc = librosa.feature.mfcc(
        y=wave,
        sr=SAMPLING_RATE,
        n_mfcc=COEFFICIENTS,
        n_mels=MELS,
        n_fft=FFT,
        win_length=WINDOW,
        hop_length=HOP,
        fmin=LOW_HZ,
        fmax=HIGH_HZ,
    )
    f0 = librosa.yin(wave, fmin=F0_LOW_HZ, fmax=F0_HIGH_HZ, sr=SAMPLING_RATE, frame_length=FFT, hop_length=HOP)
    crossings = librosa.feature.zero_crossing_rate(wave, frame_length=WINDOW, hop_length=HOP)[0]
    speech = (decibels > decibels.max() - SPEECH_DB) & (decibels > FLOOR_DB)
    voiced = speech & (crossings < VOICED_CROSSINGS)
    parts = [
        np.stack([mfcc.mean(1), mfcc.std(1)], axis=1).ravel(),
        _pitch(f0, voiced),
        _energy(decibels),
        _rate(decibels, speech, voiced),
    ]
    return np.concatenate(parts).astype(np.float32)


def _pitch(f0: Floats, voiced: Bools) -> Floats:
    """Mean, sd and 5th, 50th, 95th percentile of log2 F0 over voiced frames, and the share of these."""
    if not voiced.any():
        return np.zeros(6)
    octaves = np.log2(f0[voiced])
    return np.array([octaves.mean(), octaves.std(), *np.percentile(octaves, [5, 50, 95]), voiced.mean()])


def _energy(decibels: Floats) -> Floats:
    return np.array([decibels.mean(), decibels.std(), *np.percentile(decibels, [5, 95])])


def _rate(decibels: Floats, speech: Bools, voiced: Bools) -> Floats:
    """Syllable nuclei per second of speech, and the share of frames that are speech."""
    if not speech.any():
        return np.zeros(2)
    smooth = uniform_filter1d(decibels, 3)
    nuclei, _ = find_peaks(smooth, prominence=DIP_DB, distance=int(SYLLABLE_S * FRAME_RATE))
    seconds = speech.sum() / FRAME_RATE
    return np.array([voiced[nuclei].sum() / seconds, speech.mean()])
