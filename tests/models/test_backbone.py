"""Loading: what a backbone offers, and what each bad folder or Hub id says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tune_accent.base.errors import DataError, ModelError
from tune_accent.config.schema import Model, Tiny
from tune_accent.models.backbone import Backbone, load_backbone
from tune_accent.models.tiny import ensure_tiny


def wave(seconds: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(0).normal(size=int(24_000 * seconds)) * 0.1).astype(np.float32)


@pytest.fixture
def copy(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    return folder


def test_frozen_and_in_evaluation_mode(shared: Backbone) -> None:
    assert not any(parameter.requires_grad for parameter in shared.model.parameters())
    assert not any(module.training for module in shared.model.modules())
    assert (shared.dtype, shared.device) == (torch.float32, torch.device("cpu"))


def test_dtype_is_that_of_the_weights(tiny_folder: Path) -> None:
    assert load_backbone(tiny_folder, dtype=torch.bfloat16, attention="eager").dtype == torch.bfloat16


def test_text_tokens_are_the_content_that_generate_takes(shared: Backbone) -> None:
    prompt = shared.tts._tokenize_texts([shared.tts._build_assistant_text("Olá, mundo")])[0][0].tolist()
    tokens = shared.text_tokens("\n Olá, mundo \n")
    assert tokens == prompt[3:-5] and list(shared.role) == prompt[:3]
    assert shared.tts.processor.tokenizer.decode(tokens) == "Olá, mundo"
    assert shared.text_tokens("") == []


def test_speaker_embedding_is_that_of_the_voice_clone_prompt(shared: Backbone) -> None:
    embedding = shared.speaker_embedding(wave())
    prompt = shared.tts.create_voice_clone_prompt((wave(), 24_000), x_vector_only_mode=True)
    assert embedding.dtype == np.float32 and embedding.shape == (64,)
    assert np.array_equal(embedding, prompt[0].ref_spk_embedding.numpy())
    assert not np.allclose(embedding, shared.speaker_embedding(wave()[::-1].cumsum().clip(-1, 1)), atol=1e-3)


def test_speaker_embedding_takes_short_and_loud_audio_but_not_a_click(
    shared: Backbone, capsys: pytest.CaptureFixture[str]
) -> None:
    assert np.isfinite(shared.speaker_embedding(20 * wave(0.15))).all()
    assert capsys.readouterr().out == ""
    with pytest.raises(DataError, match="too short"):
        shared.speaker_embedding(wave(0.1))


def test_fingerprint_follows_weights_and_not_place(shared: Backbone, copy: Path, tmp_path: Path) -> None:
    assert load_backbone(copy).fingerprint == shared.fingerprint
    assert load_backbone(ensure_tiny(tmp_path, Tiny(seed=1), 64)).fingerprint != shared.fingerprint


def test_custom_voice_is_refused(copy: Path) -> None:
    edit(copy, lambda config: config.update(tts_model_type="custom_voice"))
    with pytest.raises(ModelError, match=r"custom_voice.*only Base(?s:.)*use a \*-Base"):
        load_backbone(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.update(model_type="llama"), "not a Qwen3-TTS Base checkpoint"),
        (lambda config: config["talker_config"].update(codec_language_id={}), "knows no language"),
        (lambda config: config["talker_config"].update(hidden_size=96), "cannot be loaded|differs"),
        (lambda config: config.update(talker_config="oops"), "not that of a model"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(copy: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_backbone(edit(copy, change))


@pytest.mark.parametrize("part", ["model.safetensors", "speech_tokenizer/model.safetensors"])
def test_damaged_weights_are_refused(copy: Path, part: str) -> None:
    (copy / part).write_bytes((copy / part).read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_backbone(copy)


@pytest.mark.parametrize("part", ["model.safetensors", "speech_tokenizer/model.safetensors"])
def test_a_pickle_is_never_loaded(copy: Path, part: str) -> None:
    (copy / part).rename((copy / part).with_name("pytorch_model.bin"))
    with pytest.raises(ModelError, match=r"no \*\.safetensors"):
        load_backbone(copy)


def test_missing_folder_and_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no folder"):
        load_backbone(tmp_path / "absent")
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_backbone(tmp_path)


def test_an_unreachable_hub_id_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"(?s)'nobody/nothing-Base' cannot be fetched.*folder of a copy"):
        load_backbone("nobody/nothing-Base")


def test_a_hub_id_goes_through_the_same_code(monkeypatch: pytest.MonkeyPatch, tiny_folder: Path) -> None:
    """The Hub's client is replaced; what it returns is a real folder."""
    asked: list[str] = []

    def download(name: str, file: str = "", **_: object) -> str:
        asked.append(name)
        return str(tiny_folder / file)

    monkeypatch.setattr("tune_accent.base.hub._silence", lambda: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    backbone = load_backbone("someone/Tiny-Base")
    assert asked == ["someone/Tiny-Base"] * 2
    assert (backbone.name, backbone.folder) == ("someone/Tiny-Base", tiny_folder)


def test_flash_attention_says_what_it_lacks(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ModelError, match=r"(?s)model\.attention: flash_attention_2 needs the package flash_attn.*model\.attention: sdpa"
    ):
        load_backbone(tiny_folder, attention="flash_attention_2", dtype=torch.bfloat16)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    with pytest.raises(ModelError, match="needs a CUDA GPU"):
        load_backbone(tiny_folder, attention="flash_attention_2", dtype=torch.bfloat16)


@pytest.mark.parametrize("name", ["Qwen/Qwen3-TTS-12Hz-0.6B-CustomVoice", "models/Qwen3-TTS-12Hz-1.7B-VoiceDesign/"])
def test_a_config_that_names_another_kind_is_refused_before_anything_is_fetched(name: str) -> None:
    with pytest.raises(ValidationError, match=r"no speaker encoder, hence no place for S: use the \*-Base"):
        Model(backbone=name)
