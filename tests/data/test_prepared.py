"""The cache is computed once, from train speakers only where something is fitted, and never half there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from tests.data.small_corpora import SMALL
from tune_accent.base.errors import DataError, UserError
from tune_accent.base.progress import silent
from tune_accent.config import schema
from tune_accent.data.audio import Wave, read_audio, set_loudness
from tune_accent.data.codec import MfccPq
from tune_accent.data.corpus import ensure_corpus
from tune_accent.data.prepared import Prepared, open_prepared, prepare


def spectrum(wave: Wave) -> npt.NDArray[np.float32]:
    """A stand-in for the speaker encoder: the energy in 8 bands."""
    bands: npt.NDArray[np.float64] = np.log(np.abs(np.fft.rfft(wave, 4096)[:2048]).reshape(8, -1).sum(axis=1) + 1e-6)
    return bands.astype(np.float32)


def tokens(text: str) -> list[int]:
    return list(text.encode())


def never(*_: Any) -> Any:
    raise AssertionError("a second call computes nothing")


def config(root: Path, **changes: Any) -> schema.Data:
    return schema.Data(root=str(root), source=SMALL, codec=schema.MfccPq(codewords=16)).model_copy(update=changes)


def prepared(cfg: schema.Data, seed: int = 0, model: str = "model", embed: Callable[..., Any] = spectrum) -> Prepared:
    corpus = ensure_corpus(cfg, 0, silent)
    tokenize = never if embed is never else tokens
    return prepare(corpus, cfg, seed, embed=embed, tokenize=tokenize, embedder_fingerprint=model, progress=silent)


@pytest.fixture(scope="module")
def root(made_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the demo corpus for the tests that only read the cache."""
    return Path(shutil.copytree(made_demo, tmp_path_factory.mktemp("cached") / "demo"))


@pytest.fixture(scope="module")
def cache(root: Path) -> Prepared:
    return prepared(config(root))


@pytest.fixture
def cached_root(cache: Prepared, root: Path, tmp_path: Path) -> Path:
    """A copy with its cache that a test may damage."""
    return Path(shutil.copytree(root, tmp_path / "demo"))


def test_every_row_holds_its_utterance(cache: Prepared, root: Path) -> None:
    corpus = ensure_corpus(config(root), 0, silent)
    codec = MfccPq.load(cache.folder / "codec")
    assert codec.fingerprint == cache.codec_fingerprint
    assert cache.codebook_size == 16
    for index, row in enumerate(corpus.manifest.rows):
        wave = set_loudness(read_audio(root / row.audio_path), -23.0)
        np.testing.assert_array_equal(cache.codes_of(index), codec.encode(wave))
        np.testing.assert_array_equal(cache.speaker_embeddings[index], spectrum(wave))
        assert cache.text_of(index) == tokens(row.text)
        place = (corpus.splits.split[row.speaker], corpus.splits.fold[row.utt_id])
        assert tuple(cache.table.iloc[index]) == (row.utt_id, row.speaker, row.accent, row.text_id, row.gender, *place)
    assert cache.frame_offsets[-1] == len(cache.codes)
    assert cache.text_offsets[-1] == len(cache.text_tokens)


def test_types_and_rows(cache: Prepared) -> None:
    assert [str(array.dtype) for array in (cache.codes, cache.text_tokens, cache.speaker_embeddings)] == [
        "int16",
        "int32",
        "float32",
    ]
    assert isinstance(cache.codes, np.memmap)
    assert not cache.codes.flags.writeable
    assert [len(cache.rows_of(name)) for name in ("train", "val", "test")] == [18, 9, 9]
    assert set(cache.table["split"].iloc[cache.rows_of("val")]) == {"val"}
    assert cache.held_fold == 0


def test_the_codec_is_fitted_on_train_speakers_only(cache: Prepared, root: Path) -> None:
    corpus = ensure_corpus(config(root), 0, silent)
    train = [row for row in corpus.manifest.rows if corpus.splits.split[row.speaker] == "train"]
    waves = [set_loudness(read_audio(root / row.audio_path), -23.0) for row in train]
    assert MfccPq.fit(waves, 16, 0).fingerprint == cache.codec_fingerprint


def test_a_second_call_computes_nothing(cache: Prepared, root: Path) -> None:
    again = prepared(config(root), embed=never)
    assert again.key == cache.key
    np.testing.assert_array_equal(again.codes, cache.codes)


def test_the_cache_is_bit_identical_elsewhere(cache: Prepared, demo_root: Path) -> None:
    other = prepared(config(demo_root))
    assert other.key == cache.key
    for file in cache.folder.rglob("*"):
        assert file.is_dir() or file.read_bytes() == (other.folder / file.relative_to(cache.folder)).read_bytes()


def test_whatever_the_content_depends_on_is_in_the_key(cache: Prepared, demo_root: Path) -> None:
    keys = {cache.key}
    keys.add(prepared(config(demo_root), seed=1).key)
    keys.add(prepared(config(demo_root), model="another").key)
    keys.add(prepared(config(demo_root, loudness_lufs=None)).key)
    keys.add(prepared(config(demo_root, codec=schema.MfccPq(codewords=17))).key)
    keys.add(prepared(config(demo_root, splits=schema.Splits(held_fold=1))).key)
    assert len(keys) == 6


@pytest.mark.parametrize("name", ["codes.npy", "table.json", "prepared.json", "codec/codebooks.safetensors"])
@pytest.mark.parametrize("damage", ["gone", "cut", "flipped"])
def test_a_damaged_cache_is_made_again(
    cache: Prepared, cached_root: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = cached_root / "prepared" / cache.key / name
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] if damage == "cut" else data[:-6] + bytes([data[-6] ^ 1]) + data[-5:])
    if damage == "gone":
        path.unlink()
    again = prepared(config(cached_root))
    assert path.read_bytes() == data
    assert again.key == cache.key
    assert "made again" in caplog.text


def test_an_interrupted_preparation_leaves_nothing(demo_root: Path) -> None:
    calls: list[int] = []

    def interrupted(wave: Wave) -> npt.NDArray[np.float32]:
        calls.append(1)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return spectrum(wave)

    with pytest.raises(KeyboardInterrupt):
        prepared(config(demo_root), embed=interrupted)
    assert [path.name for path in (demo_root / "prepared").iterdir()] == [".lock"]
    assert len(prepared(config(demo_root)).table) == 36


def test_a_corrupt_wav_is_one_error_that_names_it(demo_root: Path) -> None:
    path = demo_root / "audio/en-us_s01/t01.wav"
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(DataError, match="cannot be used") as caught:
        prepared(config(demo_root))
    assert caught.value.where == str(path.resolve())
    assert [path.name for path in (demo_root / "prepared").iterdir()] == [".lock"]


def test_exchanged_audio_is_found(demo_root: Path) -> None:
    path = demo_root / "audio/en-us_s01/t01.wav"
    soundfile.write(path, np.zeros(30_000, np.float32), 22_050)
    with pytest.raises(DataError, match="'en-us_s01_t01' is not the file that the manifest was written for"):
        prepared(config(demo_root))


def test_a_link_that_leaves_the_folder(demo_root: Path, tmp_path: Path) -> None:
    path = demo_root / "audio/en-us_s01/t01.wav"
    path.rename(tmp_path / "outside.wav")
    path.symlink_to(tmp_path / "outside.wav")
    with pytest.raises(DataError, match="leaves its folder"):
        prepared(config(demo_root))


def test_a_folder_that_is_no_cache(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be opened"):
        open_prepared(tmp_path)


def test_the_real_codec_is_asked_for_in_vain(demo_root: Path) -> None:
    with pytest.raises(UserError, match="no codec 'qwen'"):
        prepared(config(demo_root, codec=schema.QwenCodec()))
