"""Copies differ from their originals as the config says, by seed, and reach training alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyloudnorm
import pytest
from pydantic import ValidationError
from scipy import signal

from tests.data.small_corpora import SMALL, corpus_of, sine
from tune_accent.base.errors import DataError
from tune_accent.base.files import sha256_json
from tune_accent.base.progress import silent
from tune_accent.config import speech
from tune_accent.data import prepared as module
from tune_accent.data.audio import Wave
from tune_accent.data.corpus import ensure_corpus
from tune_accent.data.prepared import Prepared, prepare
from tune_accent.data.speech import training_rows
from tune_accent.data.splits import make_splits
from tune_accent.data.transforms import TRAIN_COPY, add_noise, copies_of, original_rows, transform

ALL = speech.Transforms(copies=2, speed=(0.9, 1.1), band_hz=(300, 3400), noise_snr_db=(10, 20), gain_db=(-6, 6))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def level(wave: Wave) -> float:
    return float(10 * np.log10(np.square(wave.astype(np.float64)).mean()))


def peak_hertz(wave: Wave) -> float:
    return float(np.abs(np.fft.rfft(wave)).argmax() * 24_000 / len(wave))


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_speed_changes_length_and_pitch_together(factor: float) -> None:
    cfg = speech.Transforms(copies=1, speed=(factor, factor))
    fast = transform(sine(2.0, 440.0), cfg, None, rng())
    assert len(fast) == pytest.approx(48_000 / factor, abs=2)
    assert peak_hertz(fast) == pytest.approx(440.0 * factor, rel=0.01)


@pytest.mark.parametrize("snr", [0.0, 15.0])
def test_noise_has_the_power_asked_for(snr: float) -> None:
    wave = sine(2.0)
    noise = add_noise(wave, snr, rng()) - wave
    assert level(wave) - level(noise) == pytest.approx(snr, abs=0.1)


def test_a_band_keeps_what_is_in_it() -> None:
    cfg = speech.Transforms(copies=1, band_hz=(300, 3400))
    low, middle, high = (transform(sine(1.4, hertz), cfg, None, rng())[4_800:-4_800] for hertz in (60.0, 1_000.0, 8_000.0))
    assert level(middle) == pytest.approx(level(sine(1.0, 1_000.0)), abs=0.1)
    assert max(level(low), level(high)) < level(middle) - 40
    np.testing.assert_allclose(middle, sine(1.4, 1_000.0)[4_800:-4_800], atol=1e-3)  # no delay


def test_gain_is_relative_to_the_loudness_and_peaks_stay_below_one(waves: list[Wave]) -> None:
    def loudness(wave: Wave) -> float:
        return float(pyloudnorm.Meter(24_000).integrated_loudness(wave.astype(np.float64)))

    quiet = transform(waves[0], speech.Transforms(copies=1, gain_db=(-6, -6)), -23.0, rng())
    assert loudness(quiet) == pytest.approx(-29.0, abs=0.05)
    loud = transform(waves[0], speech.Transforms(copies=1, gain_db=(40, 40)), -23.0, rng())
    assert 0.99 < np.abs(loud).max() < 1.0


def test_every_copy_is_drawn_by_seed(waves: list[Wave]) -> None:
    one, same, other = (transform(waves[0], ALL, -23.0, rng(seed)) for seed in (0, 0, 1))
    assert one.dtype == np.float32 and np.isfinite(one).all()
    np.testing.assert_array_equal(one, same)
    assert one.shape != other.shape
    frequencies, power = signal.welch(one, 24_000, nperseg=2_048)
    assert power[frequencies < 3_000].sum() > power[frequencies > 6_000].sum()


@pytest.mark.parametrize(
    "broken",
    [
        {"copies": 1},
        {"gain_db": (-3, 3)},
        {"copies": 1, "gain_db": (3, -3)},
        {"copies": 1, "speed": (0.1, 1.0)},
        {"copies": 1, "band_hz": (300, 12_000)},
        {"copies": 1, "noise_snr_db": (float("nan"), 1.0)},
    ],
)
def test_settings_that_make_no_sense(broken: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        speech.Transforms.model_validate(broken)


def test_only_rows_that_are_trained_on_have_copies() -> None:
    manifest = corpus_of({"A": 6, "B": 6}, [f"t{number}" for number in range(6)])
    splits = make_splits(manifest, speech.Splits(), 0)
    copies = copies_of(manifest.rows, splits, ALL)
    assert len(copies) == 2 * 6 * 4  # copies × train speakers × texts outside the held fold
    assert {splits.split[copy.original.speaker] for copy in copies} == {"train"}
    assert splits.held_fold not in {splits.fold[copy.original.utt_id] for copy in copies}
    assert len({copy.utt_id for copy in copies}) == len(copies)
    assert copies_of(manifest.rows, splits, speech.Transforms()) == []
    taken = [copies[0].original, *manifest.rows]
    renamed = type(taken[0])(**{**vars(taken[0]), "utt_id": copies[0].utt_id})
    with pytest.raises(DataError, match="has the name that a copy"):
        copies_of([renamed, *manifest.rows], with_gap(splits, renamed.utt_id), ALL)


def with_gap(splits: Any, utt_id: str) -> Any:
    """The splits with one more utterance, in a gap."""
    return type(splits)(**{**vars(splits), "fold": {**splits.fold, utt_id: -1}})


def spectrum(wave: Wave) -> npt.NDArray[np.float32]:
    return np.abs(np.fft.rfft(wave, 4096)[:8]).astype(np.float32)


def cache_of(root: Path, transforms: speech.Transforms) -> tuple[Prepared, Any, speech.Data]:
    cfg = speech.Data(root=str(root), source=SMALL, codec=speech.MfccPq(codewords=16), transforms=transforms)
    corpus = ensure_corpus(cfg, 0, silent)
    cache = prepare(
        corpus, cfg, 3, embed=spectrum, tokenize=lambda text: list(text.encode()), embedder_fingerprint="m", progress=silent
    )
    return cache, corpus, cfg


def test_without_transforms_the_key_and_the_table_are_as_they_always_were(demo_root: Path) -> None:
    cache, corpus, _ = cache_of(demo_root, speech.Transforms())
    from importlib.metadata import version

    request = {
        "format": 2,
        "manifest": corpus.manifest.sha256,
        "splits": corpus.splits.sha256,
        "codec": {"name": "mfcc_pq", "codewords": 16},
        "codec_seed": 3,
        "loudness_lufs": -23.0,
        "embedder": "m",
        "libraries": {name: version(name) for name in ("numpy", "scipy", "scikit-learn", "soundfile", "soxr", "pyloudnorm")},
    }
    assert cache.key == sha256_json(request)[:24]
    assert tuple(cache.table) == ("utt_id", "speaker", "accent", "text_id", "gender", "split", "fold")
    np.testing.assert_array_equal(original_rows(cache.table), np.arange(len(cache.table)))


def test_copies_come_last_and_only_training_can_see_them(demo_root: Path) -> None:
    plain, _, _ = cache_of(demo_root, speech.Transforms())
    cache, corpus, _ = cache_of(demo_root, ALL)
    count = len(corpus.manifest.rows)
    assert cache.key != plain.key
    assert cache.codec_fingerprint == plain.codec_fingerprint  # fitted on originals
    np.testing.assert_array_equal(cache.codes[: len(plain.codes)], plain.codes)
    np.testing.assert_array_equal(cache.speaker_embeddings[:count], plain.speaker_embeddings)
    assert cache.table.iloc[:count][list(plain.table)].equals(plain.table)
    originals = original_rows(cache.table)
    copied = {row: int(first) for row, first in enumerate(originals) if row != first}
    trained = training_rows(plain.table, plain.held_fold)
    assert sorted(copied.values()) == sorted([*trained, *trained])
    assert sorted(copied) == list(range(count, len(cache.table)))
    for row, original in copied.items():
        copy, first = cache.table.iloc[row], cache.table.iloc[original]
        assert copy["split"] == TRAIN_COPY
        for name in ("speaker", "accent", "text_id", "gender", "fold"):
            assert copy[name] == first[name]
        assert cache.text_of(row) == cache.text_of(original)
        assert 0.85 < len(cache.codes_of(original)) / len(cache.codes_of(row)) < 1.15
    for split in ("train", "val", "test"):
        np.testing.assert_array_equal(cache.rows_of(split), plain.rows_of(split))


def test_the_values_of_transforms_are_in_the_key(demo_root: Path) -> None:
    corpus = ensure_corpus(speech.Data(root=str(demo_root), source=SMALL), 0, silent)
    keys = set()
    for changes in ({}, {"copies": 1}, {"speed": (0.9, 1.2)}, {"noise_snr_db": None}):
        transforms = speech.Transforms.model_validate(ALL.model_dump() | changes)
        cfg = speech.Data(root=str(demo_root), source=SMALL, transforms=transforms)
        keys.add(sha256_json(module._request(corpus, cfg, 0, "m", None)))
    assert len(keys) == 4
