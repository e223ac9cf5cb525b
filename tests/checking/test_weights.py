"""Checkpoint, tokenizer and codec of a real tiny folder, whole and with planted faults."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.support import small_experiment
from tune_accent.base.errors import ModelError
from tune_accent.checking.finding import Skip
from tune_accent.checking.weights import (
    check_codec,
    check_tokenizer,
    check_weights,
    judged_codec,
    weights_folder,
)
from tune_accent.config.schema import Experiment, Tiny
from tune_accent.config.speech import QwenCodec
from tune_accent.data.audio import Wave
from tune_accent.data.codec import Codes
from tune_accent.models.tiny import ensure_tiny


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_tiny(tmp_path_factory.mktemp("tiny"), Tiny(hidden=32, layers=2), 32)


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def with_backbone(root: Path, name: str) -> Experiment:
    spec = small_experiment(root)
    return spec.model_copy(update={"model": spec.model.model_copy(update={"backbone": name})})


def statuses(folder: Path) -> dict[str, str]:
    return {one.name: one.status for one in check_weights(folder, "a/checkpoint")}


def test_a_whole_checkpoint_is_ok(whole: Path) -> None:
    assert statuses(whole) == {"weights": "ok", "speaker encoder": "ok"}
    assert [one.status for one in check_tokenizer(whole)] == ["ok"]


def drop(folder: Path, prefix: str) -> None:
    file = folder / "model.safetensors"
    kept = {name: value for name, value in load_file(file).items() if not name.startswith(prefix)}
    save_file(kept, file)


def test_a_missing_speaker_encoder_is_found(folder: Path) -> None:
    drop(folder, "speaker_encoder.")
    assert statuses(folder) == {"weights": "ok", "speaker encoder": "failed"}


def test_missing_weights_are_found(folder: Path) -> None:
    drop(folder, "talker.code_predictor.")
    found = next(check_weights(folder, "a/checkpoint"))
    assert found.status == "failed" and "talker.code_predictor" in found.found and "hf download a/checkpoint" in str(found.fix)


def test_a_missing_shard_is_found(folder: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    found = next(check_weights(folder, "a/checkpoint"))
    assert found.status == "failed" and "model-00002-of-00002.safetensors" in found.found


def test_a_damaged_file_and_another_model_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(ModelError, match="damaged"):
        list(check_weights(folder, "x"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tts_model_type": "custom_voice"}))
    with pytest.raises(ModelError, match="only Base has a speaker encoder"):
        list(check_weights(folder, "x"))


def test_a_tokenizer_that_splits_the_role_is_found(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    merges = (folder / "merges.txt").read_text().splitlines()
    (folder / "merges.txt").write_text("\n".join(merges[:-1]) + "\n")  # the last one builds "assistant"
    (found,) = check_tokenizer(folder)
    assert found.status == "failed" and "assistant into 2 tokens" in found.found


def test_no_tokenizer_is_refused(folder: Path) -> None:
    for name in ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(ModelError, match="no tokenizer"):
        list(check_tokenizer(folder))


@pytest.mark.parametrize("name", ["models/none", "/nowhere/none", "Qwen/Qwen3-TTS-12Hz-0.6B-Base"])
def test_weights_that_are_not_there_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    with pytest.raises(ModelError) as caught:
        weights_folder(with_backbone(tmp_path, name))
    assert caught.value.fix is not None and "folder" in caught.value.fix


def test_a_folder_that_is_not_there_is_not_asked_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tune_accent.models.checkpoint.fetched", lambda *_: pytest.fail("it is no Hub id"))
    for name in ("models/none", "here/none", "./none", "a/b/c"):
        with pytest.raises(ModelError, match=f"no folder {name!r}") as caught:
            weights_folder(with_backbone(tmp_path, name))
        assert str(tmp_path) in caught.value.what and "hf download" in str(caught.value.fix)


def test_a_fitted_codec_belongs_to_the_tiny_model_only(tmp_path: Path) -> None:
    assert [one.status for one in check_codec(small_experiment(tmp_path), None)] == ["ok"]
    (found,) = check_codec(with_backbone(tmp_path, "models/real"), None)
    assert found.status == "failed" and "qwen" in str(found.fix)


def test_the_codec_of_a_checkpoint_is_loaded_and_encodes(tmp_path: Path, whole: Path) -> None:
    spec = with_backbone(tmp_path, str(whole))
    spec = spec.model_copy(update={"data": spec.data.model_copy(update={"codec": QwenCodec()})})
    (found,) = check_codec(spec, whole)
    assert found.status == "ok" and "13 frames of 16 codes" in found.found
    with pytest.raises(Skip):
        list(check_codec(spec, None))
    with pytest.raises(ModelError, match="no folder"):
        list(check_codec(spec, tmp_path))


class Wrong:
    """A codec that gives what it is told to."""

    name, codebooks, codebook_size, frame_rate, fingerprint = "wrong", 16, 8, 12.5, ""

    def __init__(self, *answers: Codes) -> None:
        self.answers = list(answers)

    def encode(self, wave: Wave) -> Codes:
        return self.answers.pop(0)

    def save(self, folder: Path) -> None:
        raise NotImplementedError


def test_wrong_codes_are_found() -> None:
    right = np.zeros((13, 16), dtype=np.int16)
    assert judged_codec(Wrong(right, right), "here").status == "ok"
    for answers in ((right[:12], right), (right + np.int16(8), right), (right, right + np.int16(1))):
        assert judged_codec(Wrong(*answers), "here").status == "failed"
