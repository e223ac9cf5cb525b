"""The whole way with the codec `qwen`: real speech, the real tokenizer class (small, calibrated), the prepared cache, an epoch of training.

The experiment names the codec by a folder of its own, beside a backbone in another folder, as a person does who keeps both.
"""

from __future__ import annotations

import functools
import json
import math
import shutil
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.data.calibrated_codec import write_calibrated
from tests.support import small_experiment
from tune_accent.config.load import resolve
from tune_accent.config.schema import Experiment, Tiny
from tune_accent.config.speech import QwenCodec
from tune_accent.data.audio import Wave, read_audio, set_loudness
from tune_accent.data.manifest import Utterance, read_manifest
from tune_accent.models.qwen_codec import QwenTokenizer
from tune_accent.models.qwen_import import import_qwen_tts
from tune_accent.models.tiny import ensure_tiny
from tune_accent.training import preparation
from tune_accent.training.checkpoint import adapter_tensors
from tune_accent.training.preparation import PreparedRecord, ensure_prepared, open_inputs
from tune_accent.training.trainer import train

if TYPE_CHECKING:
    from tune_accent.training.inputs import TrialData

CODES = 32
CPU = torch.device("cpu")


class Watch:
    """What the tokenizer's network was given: (utterances, samples) of each call."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        import_qwen_tts()
        from qwen_tts.core import Qwen3TTSTokenizerV2Model

        self.calls: list[tuple[int, ...]] = []
        encode = Qwen3TTSTokenizerV2Model.encode

        @functools.wraps(encode)
        def noted(model: Any, values: Any, *rest: Any, **named: Any) -> Any:
            self.calls.append(tuple(values.shape))
            return encode(model, values, *rest, **named)

        patch.setattr(Qwen3TTSTokenizerV2Model, "encode", noted)

    def taken(self) -> list[tuple[int, ...]]:
        """The calls since the last question."""
        calls, self.calls = self.calls, []
        return calls


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    """For the whole module; the child that prepares runs in this process, whose calls can be counted."""

    def here(workers: int, mp_context: object) -> Executor:
        return ThreadPoolExecutor(workers)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparation, "ProcessPoolExecutor", here)
        yield patch


@pytest.fixture(scope="module")
def watch(patch: pytest.MonkeyPatch) -> Watch:
    return Watch(patch)


@pytest.fixture(scope="module")
def root(small_root: Path, small_data: TrialData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus of the small demo, without what was prepared of it for another codec."""
    folder = tmp_path_factory.mktemp("qwen") / "data"
    return Path(shutil.copytree(small_root, folder, ignore=shutil.ignore_patterns("prepared")))


def wave_of(root: Path, row: Utterance) -> Wave:
    """As the codec is given it: at the loudness of the config."""
    return set_loudness(read_audio(root / row.audio_path), -23.0)


@pytest.fixture(scope="module")
def speech(root: Path) -> list[Wave]:
    return [wave_of(root, row) for row in read_manifest(root).rows[::12]]


@pytest.fixture(scope="module")
def spec(root: Path, speech: list[Wave]) -> Experiment:
    folder = write_calibrated(root.parent / "codec", speech, CODES)
    backbone = ensure_tiny(root.parent, Tiny(hidden=32, layers=2), CODES)
    base = small_experiment(root, epochs=1, steps_per_epoch=2)
    data = base.data.model_copy(update={"codec": QwenCodec(path=str(folder))})
    return resolve(base.model_copy(update={"data": data}), {"model.backbone": str(backbone)})


def path_of(spec: Experiment) -> Path:
    assert isinstance(spec.data.codec, QwenCodec) and spec.data.codec.path
    return Path(spec.data.codec.path)


@pytest.fixture(scope="module")
def record(spec: Experiment, watch: Watch) -> PreparedRecord:
    """The first preparation, as a search makes it; the codec is given one utterance at a time."""
    made, calls = ensure_prepared(spec, show=False), watch.taken()
    assert [rows for rows, _ in calls] == [1] * len(read_manifest(Path(spec.data.root)).rows)
    assert len({samples for _, samples in calls}) > 20, "nothing is padded to a common length"
    return made


@pytest.fixture(scope="module")
def data(spec: Experiment, record: PreparedRecord, watch: Watch) -> TrialData:
    """What a worker of that search opens; the codec has nothing to do there."""
    opened = open_inputs(spec, CPU)
    assert opened.speech.key == record.cache and watch.taken() == []
    return opened


def test_codes_and_embeddings_are_those_of_the_real_classes(spec: Experiment, data: TrialData, root: Path) -> None:
    tokenizer, rows = QwenTokenizer.open(path_of(spec)), read_manifest(root).rows
    assert (data.speech.codec_fingerprint, data.speech.codebook_size) == (tokenizer.fingerprint, CODES)
    assert data.speech.table["utt_id"].tolist() == [row.utt_id for row in rows]
    for number in (0, 50, len(rows) - 1):
        wave = wave_of(root, rows[number])
        np.testing.assert_array_equal(data.speech.codes_of(number), tokenizer.encode(wave))
        np.testing.assert_array_equal(data.speech.speaker_embeddings[number], data.backbone.speaker_embedding(wave))
    assert all(len(np.unique(column)) > CODES // 2 for column in np.asarray(data.speech.codes).T)


def test_a_trial_trains_on_them(spec: Experiment, data: TrialData) -> None:
    run = train(spec, data)
    before = {name: value.clone() for name, value in adapter_tensors(run.trial).items()}
    report = next(run)
    after = {name: value.clone() for name, value in adapter_tensors(report.trial).items()}
    run.close()
    assert report.metrics["ended"] and math.isfinite(report.metrics["score"])
    assert 0 < report.metrics["val_loss"] < 2 * 16 * math.log(CODES + 1024)
    assert any(not torch.equal(value, after[name]) for name, value in before.items())


def test_a_second_preparation_reads_the_cache(spec: Experiment, record: PreparedRecord, watch: Watch, tmp_path: Path) -> None:
    """Wherever the same weights lie by then."""
    watch.taken()
    assert ensure_prepared(spec, show=False) == record
    moved = Path(shutil.copytree(path_of(spec), tmp_path / "moved"))
    again = ensure_prepared(resolve(spec, {"data.codec.path": str(moved)}), show=False)
    assert again.cache == record.cache and again.request != record.request
    assert watch.taken() == []


def test_the_cache_holds_the_name_of_the_codec_and_not_its_weights(spec: Experiment, data: TrialData) -> None:
    kept, folder = data.speech.folder / "codec", path_of(spec)
    assert [path.name for path in kept.iterdir()] == ["codec.json"]
    told = json.loads((kept / "codec.json").read_text())
    assert (told["name"], told["fingerprint"], told["origin"]) == ("qwen", data.speech.codec_fingerprint, "codec")
    assert set(told["files"]) == {"config.json", "preprocessor_config.json", "model.safetensors"}
    texts = [path.read_text() for path in data.speech.folder.rglob("*.json")]
    assert len(texts) > 1 and not any(str(folder.parent) in text for text in texts)


def test_other_weights_in_the_folder_are_another_cache(
    spec: Experiment, record: PreparedRecord, watch: Watch, speech: list[Wave], tmp_path: Path
) -> None:
    """The folder keeps its name, so that only its content can tell."""
    watch.taken()
    folder = Path(shutil.copytree(path_of(spec), tmp_path / "codec"))
    copied = resolve(spec, {"data.codec.path": str(folder)})
    assert ensure_prepared(copied, show=False).cache == record.cache and watch.taken() == []
    shutil.rmtree(folder)
    write_calibrated(folder, speech[:6], CODES)
    watch.taken()
    other = ensure_prepared(copied, show=False)
    assert other.cache != record.cache and len(watch.taken()) == len(read_manifest(Path(spec.data.root)).rows)
    opened = open_inputs(copied, CPU)
    assert opened.speech.codec_fingerprint == QwenTokenizer.open(folder).fingerprint and watch.taken() == []
    assert ensure_prepared(spec, show=False) == record, "the first one is still there"


def test_another_revision_of_a_hub_repository_is_another_cache(
    spec: Experiment, record: PreparedRecord, watch: Watch, speech: list[Wave], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client's own cache holds two revisions; which one counts is what was fetched last."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    named, place = resolve(spec, {"data.codec.path": "someone/Codec"}), tmp_path / "models--someone--Codec"
    shutil.copytree(path_of(spec), place / "snapshots" / "a")
    write_calibrated(place / "snapshots" / "b", speech[:6], CODES)
    (place / "refs").mkdir()
    found: dict[str, set[str]] = {}
    for revision in ("a", "b", "a"):
        (place / "refs" / "main").write_text(revision)
        found.setdefault(revision, set()).add(ensure_prepared(named, show=False).cache)
    assert found["a"] == {record.cache} and len(found["b"]) == 1 and found["b"] != found["a"]
