"""Encoders that others trained, here with random weights: layers, caching, and what goes wrong with them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from tune_accent.auditing import speech_encoders
from tune_accent.auditing.extract import Sources
from tune_accent.auditing.features import FeatureSet, feature_sets
from tune_accent.base.errors import MissingDependency, ModelError, UserError
from tune_accent.base.progress import silent
from tune_accent.config.schema import Audit, Experiment, SpeechEncoder
from tune_accent.data.audio import Wave
from tune_accent.training.inputs import TrialData

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 3}
SMALL |= {"conv_dim": (8, 8), "conv_kernel": (400, 2), "conv_stride": (320, 2), "num_feat_extract_layers": 2}
SMALL |= {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}


def saved(kind: str, folder: Path) -> Path:
    """A tiny encoder of the class `kind` with random weights, as a folder of its files."""
    torch.manual_seed(0)
    config_class, model_class = (getattr(transformers, f"{kind}{end}") for end in ("Config", "Model"))
    model_class(config_class(**SMALL)).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def wav2vec2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved("Wav2Vec2", tmp_path_factory.mktemp("encoders") / "wav2vec2")


def audit(spec: Experiment, cache: Path, **options: Any) -> list[FeatureSet]:
    """The sets of an encoder, beside a single layer of the backbone."""
    plain = {"layers": ["text_encoder_out"], "speaker": ["neutral"], "poolings": ["mean+std"], "acoustic": False}
    _, sets = feature_sets(spec, Audit.model_validate({**plain, **options}), cache, CPU, silent)
    return [item for item in sets if item.family != "backbone"]


@pytest.mark.parametrize("kind", ["Wav2Vec2", "Hubert", "WavLM"])
def test_layers_are_the_hidden_states_of_the_encoder_alone(
    small_spec: Experiment, small_data: TrialData, tmp_path: Path, kind: str
) -> None:
    folder = saved(kind, tmp_path / kind)
    sets = audit(small_spec, tmp_path / "cache", ssl={"model": str(folder)}, poolings=["mean", "mean+std"])
    assert [(item.name, item.pooling) for item in sets[-2:]] == [("ssl_03", "mean"), ("ssl_03", "mean+std")]
    assert len(sets) == 8 and {(item.depth, item.speaker) for item in sets} == {(None, None)}
    model = transformers.AutoModel.from_pretrained(folder).eval()
    sources = Sources(small_spec, CPU, silent)
    (wave,) = sources.waves(np.array([7]))
    heard = transformers.Wav2Vec2FeatureExtractor()(speech_encoders._at_16_khz(wave), sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        states = model(heard["input_values"], output_hidden_states=True).hidden_states
    for layer, item in enumerate(sets[1::2]):
        expected = torch.cat([states[layer][0].mean(0), states[layer][0].std(0, correction=0)])
        assert np.allclose(item.load()[7], expected, atol=1e-4)


def test_layers_can_be_chosen_and_the_second_time_nothing_is_loaded(
    small_spec: Experiment, small_data: TrialData, tmp_path: Path, wav2vec2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = audit(small_spec, tmp_path, ssl={"model": str(wav2vec2), "layers": [3, 1, 1]})
    assert [item.name for item in first] == ["ssl_01", "ssl_03"]
    monkeypatch.setattr(speech_encoders, "_load", lambda *_: pytest.fail("loaded"))
    assert audit(small_spec, tmp_path, ssl={"model": str(wav2vec2), "layers": [1, 3]}) == first


def test_other_weights_have_another_key(small_spec: Experiment, small_data: TrialData, tmp_path: Path, wav2vec2: Path) -> None:
    def folder_of(model: Path) -> Path:
        sources = Sources(small_spec, CPU, silent)
        return speech_encoders.ssl_layers(sources, SpeechEncoder(model=str(model))).folder(tmp_path, "ssl_00")

    copy = saved("Wav2Vec2", tmp_path / "copy")
    assert folder_of(copy) == folder_of(wav2vec2)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(copy)
    assert folder_of(copy) != folder_of(wav2vec2)


def test_whisper_is_pooled_over_what_was_said(tmp_path: Path) -> None:
    """Its encoder pads to 30 s; more silence behind must not count."""
    torch.manual_seed(0)
    shape = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = transformers.WhisperConfig(
        **shape,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        vocab_size=8,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=3,
    )
    transformers.WhisperModel(config).save_pretrained(tmp_path)
    transformers.WhisperFeatureExtractor().save_pretrained(tmp_path)
    assert speech_encoders._depth(tmp_path, "whisper") == 2
    model, extractor = speech_encoders._load(tmp_path, "whisper", CPU)
    wave = (0.1 * np.random.default_rng(0).standard_normal(48_000)).astype(np.float32)
    heard = extractor(speech_encoders._at_16_khz(wave), sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        states = model(**heard, output_hidden_states=True).hidden_states
    found = speech_encoders._pooled(model, extractor, wave)
    assert found.shape == (3, 32)
    assert np.allclose(found[2, :16], states[2][0, :100].mean(0), atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": [4]}, r"audit.ssl.layers: the encoder has no layer 4\n.*use 0 to 3"),
        ({"model": "./nowhere"}, r"audit.ssl.model: './nowhere' is no folder"),
    ],
)
def test_what_is_not_there_is_said_before_anything_is_computed(
    small_spec: Experiment, small_data: TrialData, tmp_path: Path, wav2vec2: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        audit(small_spec, tmp_path / "cache", ssl={"model": str(wav2vec2), **options})
    assert not (tmp_path / "cache").exists()


def test_a_folder_without_safetensors_is_refused(
    small_spec: Experiment, small_data: TrialData, tmp_path: Path, wav2vec2: Path
) -> None:
    (tmp_path / "bare").mkdir()
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / "bare" / name).write_bytes((wav2vec2 / name).read_bytes())
    with pytest.raises(ModelError, match="cannot be loaded as a speech encoder"):
        audit(small_spec, tmp_path / "cache", ssl={"model": str(tmp_path / "bare")})
    (tmp_path / "bare" / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match="cannot be loaded as a speech encoder"):
        audit(small_spec, tmp_path / "cache", ssl={"model": str(tmp_path / "bare")})


def test_ecapa_without_its_extra_names_the_install_command(
    small_spec: Experiment, small_data: TrialData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "speechbrain" else real(name, *rest))
    with pytest.raises(MissingDependency, match=r"audit.ecapa: (.|\n)*pip install 'tune-accent\[ecapa\]'"):
        audit(small_spec, tmp_path / "cache", ecapa=True)
    assert not (tmp_path / "cache").exists()


@pytest.fixture
def ecapa_weights(tmp_path: Path) -> Path:
    """Random ones, in the file that SpeechBrain publishes."""
    pytest.importorskip("speechbrain", reason="the ecapa extra")
    from tune_accent.models.qwen_import import import_qwen_tts

    import_qwen_tts()
    torch.manual_seed(0)
    torch.save(speech_encoders.new_ecapa().state_dict(), tmp_path / speech_encoders.ECAPA_WEIGHTS)
    return tmp_path / speech_encoders.ECAPA_WEIGHTS


def test_ecapa_hears_the_spectrum_and_not_the_level(ecapa_weights: Path) -> None:
    embed = speech_encoders.load_ecapa(ecapa_weights, CPU)
    rng = np.random.default_rng(0)
    first, second = ((0.1 * rng.standard_normal(24_000)).astype(np.float32) for _ in range(2))
    low: Wave = np.convolve(second, np.ones(16) / 16, "same").astype(np.float32)
    assert embed(first).shape == (192,) and embed(first).dtype == np.float32
    assert np.array_equal(embed(first), embed(first.copy()))
    assert np.abs(embed(first) - embed(0.5 * first)).max() < 0.1 * np.abs(embed(first) - embed(low)).max()


def test_ecapa_is_a_feature_set(
    small_spec: Experiment, small_data: TrialData, tmp_path: Path, ecapa_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speech_encoders, "local_folder", lambda *_: ecapa_weights.parent)
    monkeypatch.setattr(speech_encoders, "load_ecapa", lambda *_: lambda wave: np.full(192, len(wave), dtype=np.float32))
    (item,) = audit(small_spec, tmp_path / "cache", ecapa=True)
    assert (item.name, item.family, item.depth, item.speaker) == ("ecapa", "ecapa", None, None)
    waves = Sources(small_spec, CPU, silent).waves(np.array([0, 3]))
    assert item.load()[[0, 3], 5].tolist() == [len(wave) for wave in waves]
