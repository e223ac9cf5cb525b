"""The contract of every codec, and what is particular to `mfcc_pq`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.data.calibrated_codec import write_calibrated
from tests.data.small_corpora import sine
from tune_accent.base.errors import DataError
from tune_accent.base.files import read_json
from tune_accent.data.audio import Wave
from tune_accent.data.codec import Codec, MfccPq, features
from tune_accent.models.qwen_codec import QwenTokenizer


@pytest.fixture(scope="module", params=["mfcc_pq", "qwen"])
def codec(request: pytest.FixtureRequest, waves: list[Wave], tmp_path_factory: pytest.TempPathFactory) -> Codec:
    if request.param == "mfcc_pq":
        return MfccPq.fit(iter(waves), 16, 0)
    return QwenTokenizer.open(write_calibrated(tmp_path_factory.mktemp("codec") / "speech_tokenizer", waves))


@pytest.mark.parametrize("samples", [1, 479, 480, 1920, 1921, 24_000, 72_345])
def test_a_frame_is_80_ms_of_16_codes(codec: Codec, waves: list[Wave], samples: int) -> None:
    codes = codec.encode(np.tile(waves[0], 2)[:samples])
    assert codes.shape == (-(-samples // 1920), codec.codebooks) == (-(-samples // 1920), 16)
    assert codes.dtype == np.int16
    assert codes.min() >= 0
    assert codes.max() < codec.codebook_size
    assert codec.frame_rate == 12.5


def test_the_same_wave_gives_the_same_codes(codec: Codec, waves: list[Wave]) -> None:
    np.testing.assert_array_equal(codec.encode(waves[0]), codec.encode(waves[0].copy()))
    assert (codec.encode(waves[0])[:20] != codec.encode(waves[1])[:20]).any()


def test_what_was_encoded_before_leaves_no_trace(codec: Codec, waves: list[Wave]) -> None:
    alone = [codec.encode(wave) for wave in waves[:3]]
    for first, again in zip(alone[::-1], [codec.encode(wave) for wave in waves[2::-1]], strict=True):
        np.testing.assert_array_equal(first, again)


def test_what_is_saved_names_the_codec_and_no_place(codec: Codec, tmp_path: Path) -> None:
    codec.save(tmp_path)
    told = read_json(tmp_path / "codec.json")
    assert (told["name"], told["fingerprint"]) == (codec.name, codec.fingerprint)
    assert str(tmp_path.parent) not in (tmp_path / "codec.json").read_text()


def test_a_fitted_codec_is_saved_whole_and_a_loaded_one_by_name(codec: Codec, waves: list[Wave], tmp_path: Path) -> None:
    codec.save(tmp_path)
    if codec.name == "mfcc_pq":
        np.testing.assert_array_equal(MfccPq.load(tmp_path).encode(waves[1]), codec.encode(waves[1]))
    else:
        assert [path.name for path in tmp_path.iterdir()] == ["codec.json"]


def test_every_codebook_is_in_use(codec: Codec, waves: list[Wave]) -> None:
    codes = np.concatenate([codec.encode(wave) for wave in waves])
    assert all(len(np.unique(codes[:, book])) > codec.codebook_size // 2 for book in range(16))


def test_silence_and_noise_are_encoded(codec: Codec) -> None:
    codec.encode(np.zeros(24_000, np.float32))
    codec.encode(np.random.default_rng(0).uniform(-1, 1, 24_000).astype(np.float32))


@pytest.fixture(scope="module")
def mfcc(waves: list[Wave]) -> MfccPq:
    return MfccPq.fit(waves, 16, 0)


def test_fitting_is_a_function_of_the_seed(mfcc: MfccPq, waves: list[Wave]) -> None:
    assert MfccPq.fit(iter(waves), 16, 0).fingerprint == mfcc.fingerprint
    assert MfccPq.fit(waves, 16, 1).fingerprint != mfcc.fingerprint


def test_the_codebooks_do_not_depend_on_the_number_of_threads(mfcc: MfccPq, made_demo: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tune_accent.data.audio import read_audio; from tune_accent.data.codec import MfccPq\n"
        "print(MfccPq.fit([read_audio(p) for p in sorted(Path(sys.argv[1]).glob('audio/*/*.wav'))], 16, 0).fingerprint)"
    )
    threads = {name: "2" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", code, str(made_demo)], env=threads, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == mfcc.fingerprint


def test_a_saved_codec_comes_back(mfcc: MfccPq, waves: list[Wave], tmp_path: Path) -> None:
    mfcc.save(tmp_path)
    loaded = MfccPq.load(tmp_path)
    assert loaded.fingerprint == mfcc.fingerprint
    np.testing.assert_array_equal(loaded.encode(waves[3]), mfcc.encode(waves[3]))
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".safetensors"]


@pytest.mark.parametrize("name", ["codebooks.safetensors", "codec.json"])
@pytest.mark.parametrize("damage", ["gone", "cut", "flipped"])
def test_a_damaged_codec_is_refused(mfcc: MfccPq, tmp_path: Path, name: str, damage: str) -> None:
    mfcc.save(tmp_path)
    path, data = tmp_path / name, (tmp_path / name).read_bytes()
    path.write_bytes(data[:-9] if damage == "cut" else data[:-8] + bytes([data[-8] ^ 1]) + data[-7:])
    if damage == "gone":
        path.unlink()
    with pytest.raises(DataError):
        MfccPq.load(tmp_path)


def test_slots_are_level_by_level_and_each_level_says_more(mfcc: MfccPq, waves: list[Wave]) -> None:
    rows = features(waves[0])
    codes = mfcc.encode(waves[0]).reshape(-1, 4, 4).transpose(1, 0, 2).reshape(4, -1)  # (level, sub-frame in time)
    rest, errors = rows, [float((rows**2).mean())]
    for level in range(4):
        rest = rest - mfcc.centroids[level][codes[level]]
        errors.append(float((rest**2).mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.5 * errors[0]


def test_codes_do_not_hear_the_level(mfcc: MfccPq, waves: list[Wave]) -> None:
    """The mean of the utterance is removed, so a gain changes codes only where the floor of the logarithm shows."""
    assert (mfcc.encode(waves[0]) == mfcc.encode(0.5 * waves[0])).mean() > 0.9


def test_mfcc_agree_with_a_plain_discrete_cosine_transform() -> None:
    rows = features(sine(1.0))
    assert rows.shape == (52, 32)
    np.testing.assert_allclose(rows[:50, :16].mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_array_equal(rows[50:], rows[[49, 49]])


def test_too_little_speech_for_the_codewords() -> None:
    with pytest.raises(DataError, match="4 frames of train speech cannot fill 16 codewords"):
        MfccPq.fit([sine(0.05)], 16, 0)
