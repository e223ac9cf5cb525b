"""The cache is computed once, from train speakers only where something is fitted, and never half there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from tests.data.caches import Encoding, config, never, prepared, spectrum, tokens
from tests.data.calibrated_codec import write_calibrated
from tests.warm import Warm
from tune_accent.base.errors import DataError
from tune_accent.base.files import GONE, sha256_file, sha256_json
from tune_accent.base.progress import silent
from tune_accent.config import speech
from tune_accent.data import cache_format, preparing
from tune_accent.data.audio import Wave, read_audio, set_loudness
from tune_accent.data.codec import MfccPq
from tune_accent.data.corpus import ensure_corpus
from tune_accent.data.prepared import Prepared, _remove_parts, open_prepared, prepare, reopen_prepared
from tune_accent.models.qwen_codec import QwenTokenizer


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
    keys.add(prepared(config(demo_root, codec=speech.MfccPq(codewords=17))).key)
    keys.add(prepared(config(demo_root, splits=speech.Splits(held_fold=1))).key)
    assert len(keys) == 6


@pytest.mark.parametrize("name", ["codes.npy", "table.npy", "utt_ids.npy", "prepared.json", "codec/codebooks.safetensors"])
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


def files_of(cache: Prepared) -> dict[str, bytes]:
    """Every file of a cache."""
    return {str(path.relative_to(cache.folder)): path.read_bytes() for path in cache.folder.rglob("*") if path.is_file()}


def test_an_interrupted_preparation_goes_on_with_what_is_finished(
    cache: Prepared, demo_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "PART", 5)
    fitted: list[int] = []
    fit = MfccPq.fit

    def counted(waves: Iterator[Wave], codewords: int, seed: int) -> MfccPq:
        fitted.append(1)
        return fit(waves, codewords, seed)

    monkeypatch.setattr(MfccPq, "fit", counted)
    for last, finished in ((13, 2), (14, 4)):
        with pytest.raises(KeyboardInterrupt):
            prepared(config(demo_root), embed=Encoding(last))
        assert [path.name for path in (demo_root / "prepared").iterdir()] == [f".{cache.key}.parts"]
        assert len(list(demo_root.glob("prepared/.*.parts/*/part.json"))) == finished
    rest = Encoding()
    again = prepared(config(demo_root), embed=rest)
    assert rest.count == 36 - 20 and fitted == [1]
    assert files_of(again) == files_of(cache), "the size of parts does not matter either"
    assert not list(demo_root.glob("prepared/.*.parts"))


@pytest.mark.parametrize("damage", ["gone", "cut", "flipped", "record"])
def test_a_damaged_part_is_made_again(cache: Prepared, demo_root: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    monkeypatch.setattr(preparing, "PART", 10)
    with pytest.raises(KeyboardInterrupt):
        prepared(config(demo_root), embed=Encoding(35))
    path = next(demo_root.glob("prepared/.*.parts/000001")) / ("part.json" if damage == "record" else "part.safetensors")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] if damage == "cut" else data[:-6] + bytes([data[-6] ^ 1]) + data[-5:])
    if damage == "gone":
        path.unlink()
    rest = Encoding()
    assert files_of(prepared(config(demo_root), embed=rest)) == files_of(cache)
    assert rest.count == 6 + 10


PROCESS = "tests.data.prepare_process"


def test_parts_are_gone_although_another_process_removes_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has moved its folder away and removes that; this one finds it, and finds it gone on the way."""
    parts, moved = tmp_path / ".key.parts", tmp_path / f"..key.parts{GONE}"
    for folder in (parts, moved):
        folder.mkdir()
        (folder / ".lock").touch()
    remove_tree = shutil.rmtree

    def overtaken(folder: Path) -> None:
        monkeypatch.setattr(shutil, "rmtree", remove_tree)
        remove_tree(folder)
        raise FileNotFoundError(folder)

    monkeypatch.setattr(shutil, "rmtree", overtaken)
    _remove_parts(parts)
    assert shutil.rmtree is remove_tree, "it was overtaken"
    assert not list(tmp_path.iterdir())


def test_two_processes_share_the_work(cache: Prepared, demo_root: Path, warm: Warm) -> None:
    """Nothing is done twice, and both see the same cache."""
    running = [warm.start(demo_root.parent, PROCESS, str(demo_root)) for _ in range(2)]
    said = [json.loads(process.communicate(timeout=120)[0]) for process in running]
    assert [process.poll() for process in running] == [0, 0]
    assert {answer["key"] for answer in said} == {cache.key}
    assert sum(answer["encoded"] for answer in said) == 36
    assert files_of(open_prepared(demo_root / "prepared" / cache.key)) == files_of(cache)
    assert not list(demo_root.glob("prepared/.*.parts"))


@pytest.mark.slow
def test_a_killed_process_leaves_its_parts_to_the_next(cache: Prepared, demo_root: Path, warm: Warm) -> None:
    killed = warm.start(demo_root.parent, PROCESS, str(demo_root))
    while not list(demo_root.glob("prepared/.*.parts/000002/part.json")) and killed.poll() is None:
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=60)
    assert killed.poll() == -signal.SIGKILL, "it was to be killed at its work"
    command = [sys.executable, "-m", PROCESS, str(demo_root)]
    answer = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert answer["encoded"] <= 36 - 3 * 4
    assert files_of(open_prepared(demo_root / "prepared" / cache.key)) == files_of(cache)


def test_checksums_are_read_again_only_where_a_file_changed(
    cached_root: Path, cache: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = cached_root / "prepared" / cache.key
    assert cache_format.is_whole(folder)
    monkeypatch.setattr(cache_format, "sha256_file", never)
    assert cache_format.is_whole(folder)
    monkeypatch.undo()
    codes = folder / "codes.npy"
    codes.write_bytes(codes.read_bytes()[:-1] + b"\x7f")
    assert not cache_format.is_whole(folder)


def test_a_cache_opens_again_without_its_corpus(cached_root: Path, cache: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cached_root / "prepared" / cache.key
    (cached_root / "manifest.jsonl").unlink()
    again = reopen_prepared(folder, "model")
    assert again is not None and again.table.equals(cache.table)
    assert reopen_prepared(folder, "another") is None
    monkeypatch.setattr(cache_format, "libraries", lambda: {"numpy": "0"})
    assert reopen_prepared(folder, "model") is None


def test_the_table_has_no_object_per_row(cache: Prepared) -> None:
    assert {str(kind) for kind in cache.table.dtypes} == {"str", "int64"}
    assert isinstance(cache.table["utt_id"].array, pd.arrays.ArrowStringArray)


def test_a_corrupt_wav_is_one_error_that_names_it(demo_root: Path) -> None:
    path = demo_root / "audio/en-us_s01/t01.wav"
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(DataError, match="cannot be used") as caught:
        prepared(config(demo_root))
    assert caught.value.where == str(path.resolve())
    assert not [path for path in (demo_root / "prepared").iterdir() if not path.name.startswith(".")]


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


def test_a_codec_that_is_loaded_names_the_cache_and_is_named_in_it(root: Path, waves: list[Wave], tmp_path: Path) -> None:
    corpus, cfg = ensure_corpus(config(root), 0, silent), config(root, codec=speech.QwenCodec(path="anywhere"))
    codec = QwenTokenizer.open(write_calibrated(tmp_path / "codec", waves))

    def made(codec: QwenTokenizer, cfg: speech.Data = cfg, embed: Callable[..., Any] = spectrum) -> Prepared:
        return prepare(corpus, cfg, 0, embed=embed, tokenize=tokens, embedder_fingerprint="model", progress=silent, codec=codec)

    cache = made(codec)
    row = int(np.argmax(np.diff(cache.frame_offsets)))
    wave = read_audio(root / corpus.manifest.rows[row].audio_path)
    np.testing.assert_array_equal(cache.codes_of(row), codec.encode(set_loudness(wave, -23.0)))
    assert (cache.codec_fingerprint, cache.codebook_size) == (codec.fingerprint, 16)
    assert json.loads((cache.folder / "codec" / "codec.json").read_text())["fingerprint"] == codec.fingerprint
    moved = QwenTokenizer.open(Path(shutil.copytree(codec.folder, tmp_path / "moved")))
    assert made(moved, config(root, codec=speech.QwenCodec()), never).key == cache.key, "wherever the same weights lie"
    other = QwenTokenizer.open(write_calibrated(tmp_path / "other", waves[:5]))
    assert made(other).key != cache.key
    with pytest.raises(ValueError, match="has to be given"):
        prepared(cfg)


def test_a_cache_that_holds_the_weights_of_its_codec_still_opens(root: Path, waves: list[Wave], tmp_path: Path) -> None:
    """As earlier versions wrote it: config and weights in `codec/`, all of them in the checksums."""
    corpus, cfg = ensure_corpus(config(root), 0, silent), config(root, codec=speech.QwenCodec(path="anywhere"))
    codec = QwenTokenizer.open(write_calibrated(tmp_path / "codec", waves[:12]))

    def made(embed: Callable[..., Any] = spectrum) -> Prepared:
        return prepare(corpus, cfg, 0, embed=embed, tokenize=tokens, embedder_fingerprint="model", progress=silent, codec=codec)

    cache = made()
    shutil.rmtree(cache.folder / "codec")
    shutil.copytree(codec.folder, cache.folder / "codec")
    meta = json.loads((cache.folder / "prepared.json").read_text())
    kept = {name: digest for name, digest in meta["sha256"].items() if not name.startswith("codec/")}
    weights = {f"codec/{path.name}": sha256_file(path) for path in (cache.folder / "codec").iterdir()}
    (cache.folder / "prepared.json").write_text(json.dumps({**meta, "sha256": kept | weights}))
    assert made(never).key == cache.key and len(weights) == 3
    again = reopen_prepared(cache.folder, "model")
    assert again is not None and again.codec_fingerprint == codec.fingerprint


def test_the_key_of_a_fitted_codec_is_what_it_was(root: Path, cache: Prepared) -> None:
    """A cache of an earlier version is found again: `codec` in the request is the section of the config."""
    request = json.loads((cache.folder / "prepared.json").read_text())["request"]
    assert request["codec"] == {"name": "mfcc_pq", "codewords": 16} and "transforms" not in request
    assert cache.key == sha256_json(request)[:24]
