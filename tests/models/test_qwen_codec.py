"""What is particular to the codec `qwen`; the contract that it shares is in tests/data/test_codec.py."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.calibrated_codec import write_calibrated
from tune_accent.base.errors import ModelError
from tune_accent.base.files import sha256_file
from tune_accent.data.audio import Wave
from tune_accent.models.qwen_codec import QwenTokenizer, origin
from tune_accent.models.qwen_import import import_qwen_tts


@pytest.fixture(scope="module")
def sounds() -> list[Wave]:
    """Noise with a slow envelope, of several lengths."""
    rng = np.random.default_rng(0)
    shape = [0.01, 0.3, 0.05]
    waves = [
        rng.normal(size=count) * np.interp(np.arange(count), [0, 9_000, count], shape)
        for count in (72_000, 36_111, *[72_000] * 4)
    ]
    return [wave.astype(np.float32) for wave in waves]


@pytest.fixture(scope="module")
def made(sounds: list[Wave], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_calibrated(tmp_path_factory.mktemp("codec") / "speech_tokenizer", sounds)


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(made, tmp_path / "copy"))


def test_codes_are_those_of_the_official_interface(made: Path, sounds: list[Wave]) -> None:
    official = import_qwen_tts().Qwen3TTSTokenizer.from_pretrained(str(made))
    for wave in sounds[:3]:
        np.testing.assert_array_equal(
            QwenTokenizer.open(made).encode(wave), official.encode(wave, sr=24_000).audio_codes[0].numpy()
        )


def test_nothing_is_loaded_before_something_is_encoded(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Any:
        raise AssertionError("loaded")

    monkeypatch.setattr("tune_accent.models.qwen_codec.import_qwen_tts", fail)
    codec = QwenTokenizer.open(made)
    assert (codec.codebook_size, len(codec.fingerprint)) == (16, 64)
    with pytest.raises(AssertionError, match="loaded"):
        codec.encode(np.zeros(1920, np.float32))


def test_the_fingerprint_follows_config_and_weights_and_not_the_place(
    made: Path, folder: Path, sounds: list[Wave], tmp_path: Path
) -> None:
    fingerprint = QwenTokenizer.open(made).fingerprint
    assert QwenTokenizer.open(folder).fingerprint == fingerprint
    assert QwenTokenizer.open(write_calibrated(tmp_path / "other", sounds[1:])).fingerprint != fingerprint
    change(folder, sampled_otherwise=True)
    assert QwenTokenizer.open(folder).fingerprint != fingerprint


def test_where_a_codec_came_from_is_told_without_the_path_of_the_machine(made: Path, folder: Path, tmp_path: Path) -> None:
    hub = tmp_path / "hub" / "models--Qwen--Qwen3-TTS-12Hz-0.6B-Base" / "snapshots" / "0123abc" / "speech_tokenizer"
    local = tmp_path / "Qwen3-TTS-12Hz-0.6B-Base" / "speech_tokenizer"
    for place in (hub, local):
        shutil.copytree(made, place)
    assert origin(hub) == "Qwen/Qwen3-TTS-12Hz-0.6B-Base@0123abc/speech_tokenizer"
    assert origin(local) == "Qwen3-TTS-12Hz-0.6B-Base/speech_tokenizer" and origin(folder) == "copy"
    codec, told = QwenTokenizer.open(local), tmp_path / "told"
    codec.save(told)
    record = json.loads((told / "codec.json").read_text())
    assert (record["origin"], record["fingerprint"], record["codebook_size"]) == (origin(local), codec.fingerprint, 16)
    assert record["files"]["model.safetensors"] == sha256_file(made / "model.safetensors")
    assert [path.name for path in told.iterdir()] == ["codec.json"]


def change(folder: Path, **keys: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"model_type": "qwen3_tts_tokenizer_25hz"}, "not the 12 Hz tokenizer"),
        ({"encoder_valid_num_quantizers": 8}, "where .* is needed"),
        ({"input_sample_rate": 16_000}, "where .* is needed"),
    ],
)
def test_another_tokenizer_is_refused(folder: Path, keys: dict[str, Any], message: str) -> None:
    change(folder, **keys)
    with pytest.raises(ModelError, match=message):
        QwenTokenizer.open(folder)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_a_folder_with_a_file_missing_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelError, match=r"missing|no config"):
        QwenTokenizer.open(folder)


def test_damaged_weights_are_told(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be loaded"):
        QwenTokenizer.open(folder).encode(np.zeros(1920, np.float32))


def test_a_folder_that_is_not_there_and_a_hub_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="no folder"):
        QwenTokenizer.open(tmp_path / "absent")
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="no folder 'models/absent'"):
        QwenTokenizer.open("models/absent")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        ModelError, match=r"(?s)data\.codec\.path.*cannot be fetched.*hf download nobody/nothing --local-dir models/nothing"
    ):
        QwenTokenizer.open("nobody/nothing")
