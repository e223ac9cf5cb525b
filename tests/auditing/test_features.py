"""Features of the small demo: what they are, that they are cached, and that an interruption changes no byte."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tune_accent.auditing import extract
from tune_accent.auditing.features import FeatureSet, feature_sets
from tune_accent.base.errors import FolderInUse, UserError
from tune_accent.base.files import folder_lock
from tune_accent.base.progress import silent
from tune_accent.config.load import experiment_hash
from tune_accent.config.schema import Audit, Experiment, Voice
from tune_accent.data.prepared import waves
from tune_accent.evaluation import Protocol, evaluate
from tune_accent.models import layers
from tune_accent.training.encode import represent
from tune_accent.training.inputs import TrialData
from tune_accent.training.voices import other_rows
from tune_accent.tuning.folder import Spec

CPU = torch.device("cpu")
LAYERS = ["text_encoder_out", "decoder_block_00", "decoder_block_01", "pre_vocoder"]


def audit(spec: Experiment, cache: Path, **options: object) -> list[FeatureSet]:
    """The feature sets of the small demo."""
    return feature_sets(spec, Audit.model_validate({"batch_size": 20, **options}), cache, CPU, silent)[1]


def one(sets: Sequence[FeatureSet], name: str, pooling: str = "mean+std", speaker: str | None = "neutral") -> FeatureSet:
    """The set of that description."""
    (found,) = [item for item in sets if (item.name, item.pooling, item.speaker) == (name, pooling, speaker)]
    return found


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit") / "features"


@pytest.fixture(scope="module")
def sets(small_spec: Experiment, small_data: TrialData, cache: Path) -> list[FeatureSet]:
    """All of the backbone's layers, and the acoustic features."""
    return audit(small_spec, cache)


def content(cache: Path) -> dict[str, bytes]:
    """Every file of a cache but its lock."""
    return {
        str(path.relative_to(cache)): path.read_bytes() for path in cache.rglob("*") if path.is_file() and path.name != ".lock"
    }


def test_the_sets_are_those_of_the_config_in_order(sets: list[FeatureSet]) -> None:
    found = [(item.family, item.name, item.depth, item.pooling, item.speaker) for item in sets]
    expected = [
        ("backbone", name, depth, pooling, voice)
        for voice in ("neutral", "given")
        for depth, name in enumerate(LAYERS, start=-1)
        for pooling in ("mean", "mean+std")
    ]
    assert found == [*expected, ("acoustic", "acoustic", None, "mean+std", None)]


def test_the_table_is_what_evaluate_takes_and_holds_no_test_row(
    small_spec: Experiment, small_data: TrialData, sets: list[FeatureSet], cache: Path
) -> None:
    table, _ = feature_sets(small_spec, Audit(batch_size=20), cache, CPU, silent)
    whole = small_data.speech.table
    assert set(table["split"]) == {"train", "val"} and list(table.index) == list(range(len(table)))
    assert table["utt_id"].tolist() == whole["utt_id"][whole["split"] != "test"].tolist()
    assert all(item.load().shape[0] == len(table) and item.load().dtype == np.float32 for item in sets)
    found = evaluate(one(sets, "decoder_block_00").load(), table, Protocol(draws=1, bootstrap=20), 0)
    assert found.accent_f1.value is not None and 0 <= found.accent_f1.value <= 1


def test_a_layer_is_what_a_trial_measures_there(small_spec: Experiment, small_data: TrialData, sets: list[FeatureSet]) -> None:
    seen = represent(small_spec, small_data, None)
    table = small_data.speech.table
    place = {row: number for number, row in enumerate(np.flatnonzero(table["split"] != "test"))}
    loaded = one(sets, "decoder_block_00").load()[[place[row] for row in seen.rows]]
    assert small_spec.model.layer == layers.search_layer("decoder_block_00", 2)
    assert np.allclose(loaded, seen.h, atol=1e-5)


def test_mean_is_the_first_half(sets: list[FeatureSet]) -> None:
    both, mean = (one(sets, "pre_vocoder", pooling).load() for pooling in ("mean+std", "mean"))
    assert both.shape[1] == 64 and np.array_equal(mean, both[:, :32]) and (both[:, 32:] > 0).all()


def test_the_voice_is_in_every_layer_but_the_text(sets: list[FeatureSet]) -> None:
    pairs = {name: [one(sets, name, speaker=voice).load() for voice in ("neutral", "given")] for name in LAYERS}
    equal = [name for name, (neutral, given) in pairs.items() if np.allclose(neutral, given, atol=1e-4)]
    assert equal == ["text_encoder_out"]


def test_a_given_voice_is_that_of_another_utterance_of_the_speaker(small_data: TrialData) -> None:
    rows = np.flatnonzero(small_data.speech.table["split"] != "test")
    others = other_rows(small_data.speech.table, rows, 5, "audit voices")
    speakers = small_data.speech.table["speaker"].to_numpy()
    assert (others != rows).all() and (speakers[others] == speakers[rows]).all()
    some = np.arange(len(rows))[::-2]
    assert not np.array_equal(others, other_rows(small_data.speech.table, rows, 6, "audit voices"))
    assert len(set(others.tolist())) > len(rows) / 3
    assert np.array_equal(other_rows(small_data.speech.table, rows, 5, "audit voices")[some], others[some])


def test_the_second_time_nothing_is_computed(
    small_spec: Experiment, sets: list[FeatureSet], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(cache)
    for name in ("data", "corpus"):
        monkeypatch.setattr(extract.Sources, name, property(lambda self: pytest.fail("opened")))
    assert audit(small_spec, cache) == sets
    assert audit(small_spec, cache, layers=["decoder_block_01"], speaker=["given"], acoustic=False, poolings=["mean"]) == [
        one(sets, "decoder_block_01", "mean", "given")
    ]
    assert content(cache) == before and not list((cache / "parts").iterdir())


class Stopped(Exception):
    """Stands for a kill."""


def stopping(monkeypatch: pytest.MonkeyPatch, after: int) -> list[int]:
    """Let the pass over the layers die after some batches; returns the sizes of those that it saw."""
    real, sizes = layers.pooled_layers, list[int]()

    def dying(backbone: object, inputs: object, *rest: object) -> object:
        if len(sizes) == after:
            raise Stopped
        sizes.append(inputs.rows)  # type: ignore[attr-defined]
        return real(backbone, inputs, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(layers, "pooled_layers", dying)
    return sizes


@pytest.mark.parametrize("after", [0, 3])
def test_an_interrupted_extraction_goes_on_and_gives_the_same_bytes(
    small_spec: Experiment, sets: list[FeatureSet], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    with monkeypatch.context() as patched:
        stopping(patched, after)
        with pytest.raises(Stopped):
            audit(small_spec, tmp_path)
    assert len(list((tmp_path / "parts").glob("*/[0-9]*"))) == after
    sizes = stopping(monkeypatch, 1000)
    again = audit(small_spec, tmp_path)
    batches = -(-len(sets[0].load()) // 20)
    assert len(sizes) == 2 * batches - after
    assert content(tmp_path) == content(cache)
    assert [item.file.relative_to(tmp_path) for item in again] == [item.file.relative_to(cache) for item in sets]


def test_what_was_asked_for_in_parts_is_the_same_as_at_once(
    small_spec: Experiment, sets: list[FeatureSet], cache: Path, tmp_path: Path, small_data: TrialData
) -> None:
    for layer in reversed(LAYERS):
        audit(small_spec, tmp_path, layers=[layer], speaker=["neutral"], acoustic=False)
    whole = content(cache)
    found = content(tmp_path)
    assert len(found) == 3 * len(LAYERS) and all(whole[name] == data for name, data in found.items())


def test_a_damaged_folder_is_made_again_with_a_word(
    small_spec: Experiment, sets: list[FeatureSet], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = content(cache)
    damaged = one(sets, "decoder_block_00", speaker="given").file
    data = bytearray(damaged.read_bytes())
    data[-3] ^= 1
    damaged.write_bytes(data)
    with caplog.at_level(logging.WARNING, logger="tune_accent"):
        audit(small_spec, cache)
    assert damaged.parent.name in caplog.text and "features.npy is changed" in caplog.text
    assert content(cache) == before


def test_a_damaged_chunk_is_made_again(
    small_spec: Experiment, cache: Path, sets: list[FeatureSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        stopping(patched, 3)
        with pytest.raises(Stopped):
            audit(small_spec, tmp_path, acoustic=False)
    (first,) = (tmp_path / "parts").glob("*/00000/features.safetensors")
    first.write_bytes(first.read_bytes()[:-8])
    sizes = stopping(monkeypatch, 1000)
    audit(small_spec, tmp_path, speaker=["neutral"], acoustic=False)
    assert len(sizes) == -(-len(sets[0].load()) // 20) - 2
    whole = content(cache)
    assert all(whole[name] == data for name, data in content(tmp_path).items())


def test_the_key_covers_what_the_numbers_depend_on(small_spec: Experiment, small_data: TrialData) -> None:
    def key(spec: Experiment, device: str = "cpu", voice: Voice = "neutral", batch_size: int = 20) -> str:
        sources = extract.Sources(spec, device, silent)
        return extract.backbone_layers(sources, ("pre_vocoder",), voice, batch_size).folder(Path(), "pre_vocoder").name

    changed = {
        key(small_spec, voice="given"),
        key(small_spec, batch_size=21),
        key(small_spec, device="cuda:0"),
        key(small_spec.model_copy(update={"training": small_spec.training.model_copy(update={"threads": 2})})),
        key(small_spec.model_copy(update={"model": small_spec.model.model_copy(update={"attention": "eager"})})),
    }
    assert len(changed) == 5 and key(small_spec) not in changed
    lora = small_spec.model.lora.model_copy(update={"rank": 16})
    assert key(small_spec.model_copy(update={"model": small_spec.model.model_copy(update={"lora": lora})})) == key(small_spec)
    half = small_spec.model_copy(update={"training": small_spec.training.model_copy(update={"precision": "bf16"})})
    assert key(half) == key(small_spec) and key(half, device="cuda:0") != key(small_spec, device="cuda:0")


def test_two_audits_do_not_fill_one_cache_at_once(small_spec: Experiment, small_data: TrialData, tmp_path: Path) -> None:
    with folder_lock(tmp_path), pytest.raises(FolderInUse):
        audit(small_spec, tmp_path)


def test_an_unknown_layer_is_told_before_anything_is_computed(small_spec: Experiment, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"'decoder_block_07'(.|\n)*text_encoder_out, decoder_block_00, decoder_block_01, pre_vocoder"
    ):
        audit(small_spec, tmp_path / "new", layers=["decoder_block_07"])
    assert not (tmp_path / "new").exists()


def test_acoustic_features_are_those_of_the_sound_that_models_hear(
    small_spec: Experiment, small_data: TrialData, sets: list[FeatureSet]
) -> None:
    from tune_accent.data.acoustic import acoustic_features

    loaded = one(sets, "acoustic", speaker=None).load()
    sources = extract.Sources(small_spec, CPU, silent)
    chosen = [sources.corpus.manifest.rows[row] for row in sources.rows[[0, 17]]]
    heard = waves(sources.corpus, chosen, small_spec.data, "", silent)
    assert np.array_equal(loaded[[0, 17]], [acoustic_features(wave) for wave in heard])


def test_the_audit_is_no_part_of_the_identity_of_a_search(small_spec: Experiment) -> None:
    other = small_spec.model_copy(update={"audit": Audit(layers=("pre_vocoder",), ecapa=True)})
    assert experiment_hash(other) == experiment_hash(small_spec)
    space: dict[str, Any] = {"parameters": {}}
    first, second = (Spec(spec.model_dump(mode="json"), space, {}).sha256() for spec in (small_spec, other))
    assert first == second
