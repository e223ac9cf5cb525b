"""One trial on real speech: deterministic to the bit, exact when continued, and nothing learns that must not."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support import small_experiment
from tune_accent.base.errors import DataError, Diverged
from tune_accent.base.seeds import generator
from tune_accent.config.load import resolve
from tune_accent.config.schema import Experiment
from tune_accent.models.forward import forward, pool
from tune_accent.training import trainer
from tune_accent.training.checkpoint import adapter_tensors, save_checkpoint
from tune_accent.training.encode import represent
from tune_accent.training.loss import speech_loss
from tune_accent.training.trainer import train
from tune_accent.training.trial import Trial, learning_rate_share

if TYPE_CHECKING:
    from tune_accent.training.inputs import TrialData


def snapshot(trial: Trial) -> dict[str, Tensor]:
    """Every trained tensor and all optimizer state, copied."""
    tensors = dict(adapter_tensors(trial))
    for name, module in trial.heads.modules().items():
        tensors |= {f"{name}.{key}": value.clone() for key, value in module.state_dict().items()}
    for owner, optimizer in (("main", trial.optimizer), ("adversary", trial.adversary_optimizer)):
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"{owner}.{index}.{key}": value.clone() for key, value in state.items()}
    return tensors


def run(spec: Experiment, data: TrialData, checkpoint: Path | None = None) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """Metrics of every epoch, and the state after the last."""
    metrics, state = [], {}
    for report in train(spec, data, checkpoint):
        metrics.append(dict(report.metrics))
        state = snapshot(report.trial)
    return metrics, state


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys() and first
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.fixture(scope="module")
def whole(small_spec: Experiment, small_data: TrialData) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """The small experiment, trained to its end."""
    return run(small_spec, small_data)


@pytest.fixture(scope="module")
def checkpoint(small_spec: Experiment, small_data: TrialData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of its first epoch; read only."""
    first, folder = train(small_spec, small_data), tmp_path_factory.mktemp("first") / "0001"
    save_checkpoint(folder, next(first).trial)
    first.close()
    return folder


def test_the_same_seed_gives_the_same_bits(small_spec: Experiment, small_data: TrialData, whole: Any) -> None:
    second = run(small_spec, small_data)
    assert whole[0] == second[0]
    assert_equal(whole[1], second[1])


def test_another_seed_gives_other_weights(small_spec: Experiment, small_data: TrialData, whole: Any) -> None:
    other = small_spec.model_copy(update={"seed": small_spec.seed + 1})
    assert whole[0] != run(other, small_data)[0]


def test_continuing_from_a_checkpoint_is_exact(
    small_spec: Experiment, small_data: TrialData, checkpoint: Path, whole: Any
) -> None:
    torch.randn(7)  # what a process did in between must not matter
    np.random.rand(7)
    rest_metrics, rest_state = run(small_spec, small_data, checkpoint)
    assert rest_metrics == whole[0][1:]
    assert_equal(rest_state, whole[1])


def test_dropout_and_accumulation_continue_exactly_too(small_root: Path, small_data: TrialData, tmp_path: Path) -> None:
    spec = resolve(small_experiment(small_root, epochs=2, accumulation=2), {"model.lora.dropout": 0.2})
    whole_metrics, whole_state = run(spec, small_data)
    first = train(spec, small_data)
    save_checkpoint(tmp_path / "0001", next(first).trial)
    first.close()
    rest_metrics, rest_state = run(spec, small_data, tmp_path / "0001")
    assert rest_metrics == whole_metrics[1:]
    assert_equal(rest_state, whole_state)


@pytest.mark.parametrize(
    "damage", ["heads.safetensors", "optimizer.safetensors", "state.json", "adapter/adapter_model.safetensors"]
)
def test_a_damaged_checkpoint_is_named_and_leaves_the_backbone_clean(
    small_spec: Experiment, small_data: TrialData, checkpoint: Path, tmp_path: Path, damage: str
) -> None:
    file = Path(shutil.copytree(checkpoint, tmp_path / "0001")) / damage
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(DataError, match="this folder is damaged"):
        train(small_spec, small_data, tmp_path / "0001")
    assert not any(parameter.requires_grad for parameter in small_data.backbone.model.parameters())


def test_step_zero_equals_the_base_model(small_spec: Experiment, small_data: TrialData) -> None:
    rows = np.arange(4)
    inputs, voices = small_data.inputs(rows), small_data.voices(rows)
    with torch.no_grad():
        base = forward(small_data.backbone, inputs, speaker=voices, accent=None, layer=1, sub_frames=None, generator=None)
        started = train(small_spec, small_data)
        accent = started.trial.heads.table(torch.from_numpy(small_data.accent_labels[rows]))
        own = forward(small_data.backbone, inputs, speaker=voices, accent=accent, layer=1, sub_frames=None, generator=None)
        started.close()
    assert torch.equal(base.hidden, own.hidden)
    assert torch.equal(base.loss_codebook0, own.loss_codebook0) and torch.equal(base.loss_subtalker, own.loss_subtalker)


def test_only_adapter_heads_and_table_receive_gradient(small_spec: Experiment, small_data: TrialData) -> None:
    started = train(small_spec, small_data)
    rows = next(started.sampler.epoch(generator(0)))
    before = {name: value.clone() for name, value in small_data.backbone.model.state_dict().items() if "lora_" not in name}
    trainer._pair(small_spec, small_data, started.trial, rows, 1.0)
    trained = {name for name, p in small_data.backbone.model.named_parameters() if p.grad is not None}
    assert trained and all("lora_" in name for name in trained)
    for name in ("table", "z", "classifier"):
        assert any(p.grad is not None for p in started.trial.heads.modules()[name].parameters()), name
    trainer._step(small_spec, started.trial)
    after = small_data.backbone.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    started.close()


def test_accented_batches_touch_neither_accent_nor_leakage_term(
    small_spec: Experiment, small_data: TrialData, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, int]] = []

    def spy(*args: Any, **kwargs: Any) -> Any:
        seen.append((kwargs["accent"] is not None, len(kwargs["speaker"])))
        return forward(*args, **kwargs)

    pooled: list[int] = []

    def pool_spy(hidden: Tensor, frames: Tensor) -> Tensor:
        pooled.append(len(hidden))
        return pool(hidden, frames)

    monkeypatch.setattr(trainer, "forward", spy)
    monkeypatch.setattr(trainer, "pool", pool_spy)
    started = train(small_spec, small_data)
    rows = next(started.sampler.epoch(generator(0)))
    trainer._pair(small_spec, small_data, started.trial, rows, 1.0)
    started.close()
    assert seen == [(True, len(rows.accented)), (False, len(rows.null))]
    assert pooled == [len(rows.null)]
    heads_only = [p.grad for name in ("z", "classifier") for p in started.trial.heads.modules()[name].parameters()]
    assert all(grad is not None for grad in heads_only)


def test_the_accented_loss_alone_leaves_the_heads_without_gradient(small_spec: Experiment, small_data: TrialData) -> None:
    started = train(small_spec, small_data)
    rows = next(started.sampler.epoch(generator(0)))
    output = trainer._accented(small_spec, small_data, started.trial, rows)
    torch.autograd.backward(speech_loss(output, small_spec.objective))
    assert started.trial.heads.table.weight.grad is not None
    for name in ("z", "classifier", "adversary"):
        assert all(p.grad is None for p in started.trial.heads.modules()[name].parameters())
    started.close()


def test_the_leakage_weight_acts(small_spec: Experiment, small_data: TrialData) -> None:
    strong, none = (run(resolve(small_spec, {"leakage_weight": weight}), small_data)[0][-1] for weight in (10.0, 0.0))
    assert strong["loss_alignment"] < none["loss_alignment"]


def test_no_lora_trains_heads_on_an_unchanged_trunk(small_spec: Experiment, small_data: TrialData) -> None:
    metrics, state = run(resolve(small_spec, {"model.lora.enabled": False}), small_data)
    assert metrics[-1]["val_loss"] == metrics[-1]["base_val_loss"]
    assert not any("lora" in name for name in state)
    assert metrics[0]["loss_accent"] != metrics[-1]["loss_accent"]


def test_divergence_has_step_and_name(small_spec: Experiment, small_data: TrialData) -> None:
    spec = resolve(small_spec, {"lr": 1e6, "training.clip": 1e9})
    with pytest.raises(Diverged) as caught:
        for _ in train(spec, small_data):
            pass
    assert caught.value.step >= 0 and "not finite" in str(caught.value)


def test_patience_ends_a_trial(small_root: Path, small_data: TrialData) -> None:
    spec = resolve(small_experiment(small_root, epochs=8, patience=1), {"lr": 1e-7, "training.heads_lr": 1e-9})
    reports = list(train(spec, small_data))
    assert 2 <= len(reports) < 8
    assert [report.metrics["ended"] for report in reports] == [False] * (len(reports) - 1) + [True]


def test_test_speakers_are_never_encoded(small_spec: Experiment, small_data: TrialData) -> None:
    started = train(small_spec, small_data)
    seen = represent(small_spec, small_data, started.trial.heads)
    started.close()
    assert set(small_data.speech.table["split"].iloc[seen.rows]) == {"train", "val"}


def test_metrics_are_json_and_complete(whole: Any) -> None:
    import json

    last = json.loads(json.dumps(whole[0][-1], allow_nan=False))
    for name in (
        "accent_f1",
        "accent_balanced_accuracy",
        "speaker_leakage",
        "speaker_leakage_unseen",
        "speaker_leakage_seen",
        "val_loss",
        "score",
    ):
        assert isinstance(last[name], float), name
    for name in ("accent_f1_h", "speaker_leakage_h", "adversary_gap", "grad_norm", "lr", "loss_null", "loss_a"):
        assert isinstance(last[name], float), name
    assert last["speaker_leakage"] == max(last["speaker_leakage_unseen"], last["speaker_leakage_seen"])


def test_the_schedule_warms_up_and_ends_near_zero() -> None:
    shares = [learning_rate_share(step, 100, 0.1) for step in range(100)]
    assert shares[0] == pytest.approx(0.1) and max(shares) == 1.0 and shares[9] == 1.0
    assert shares[-1] < 0.001 and all(a >= b for a, b in pairwise(shares[10:]))
