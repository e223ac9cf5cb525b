"""Half precision: refused where it would silently be another one, and under fp16 a loss that is scaled, resumed and overflows as it should."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.support import small_experiment
from tune_accent.base.checksums import write_checksums
from tune_accent.base.errors import ConfigError, DataError, Diverged, UserError
from tune_accent.config.load import resolve
from tune_accent.config.schema import Experiment, Training
from tune_accent.models.forward import stream_dtype
from tune_accent.training import encode, trainer
from tune_accent.training.checkpoint import save_checkpoint
from tune_accent.training.device import HALF, loss_scaler, require_precision, weights_dtype
from tune_accent.training.trainer import EpochReport, train
from tune_accent.training.trial import set_learning_rate

if TYPE_CHECKING:
    from tune_accent.training.inputs import TrialData

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_without_cuda_is_refused(small_spec: Experiment, small_data: TrialData, precision: str) -> None:
    spec = resolve(small_spec, {"training.precision": precision})
    with pytest.raises(UserError, match=f"{precision} needs a CUDA GPU(?s:.)*training.precision: fp32"):
        train(spec, small_data)
    assert not any(parameter.requires_grad for parameter in small_data.backbone.model.parameters())


def test_a_card_without_bf16_is_told_of_fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    with pytest.raises(UserError, match=r"Tesla T4 has no bf16(?s:.)*training.precision: fp16"):
        require_precision(Training(precision="bf16"), CUDA)
    require_precision(Training(precision="fp16"), CUDA)
    require_precision(Training(), CPU)


def test_weights_are_half_on_cuda_and_the_stream_of_fp16_is_not() -> None:
    for precision, dtype in HALF.items():
        assert weights_dtype(Training(precision=precision), CUDA) == dtype
        assert weights_dtype(Training(precision=precision), CPU) == torch.float32
    assert [stream_dtype(dtype) for dtype in (torch.float16, torch.bfloat16)] == [torch.float32, torch.bfloat16]
    assert loss_scaler(Training(precision="bf16"), CPU) is None and loss_scaler(Training(precision="fp16"), CPU) is not None


def test_flash_attention_needs_half_precision() -> None:
    with pytest.raises(ConfigError, match=r"flash_attention_2 needs training\.precision bf16 or fp16"):
        resolve(Experiment.model_validate({"seed": 0, "data": {"root": "x"}}), {"model.attention": "flash_attention_2"})


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The CPU stands in for the card: real autocast in fp16, a real scaler."""

    def autocast(training: Training, device: torch.device) -> Any:
        return torch.autocast("cpu", HALF[training.precision])

    monkeypatch.setattr(trainer, "require_precision", lambda training, device: None)
    monkeypatch.setattr(trainer, "autocast", autocast)
    monkeypatch.setattr(encode, "autocast", autocast)
    yield


@pytest.fixture
def fp16(small_root: Path) -> Experiment:
    return small_experiment(small_root, precision="fp16", epochs=2)


def metrics(reports: Iterator[EpochReport]) -> list[dict[str, Any]]:
    return [dict(report.metrics) for report in reports]


def test_fp16_gives_the_losses_of_fp32_and_continues_exactly(
    fp16: Experiment, small_root: Path, small_data: TrialData, tmp_path: Path, on_cpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(fp16, small_data)
    scaler = first.trial.scaler
    assert scaler is not None
    scaler.load_state_dict({**scaler.state_dict(), "growth_interval": 2})
    save_checkpoint(tmp_path / "0001", next(first).trial)
    saved = json.loads((tmp_path / "0001" / "state.json").read_text())["scaler"]
    assert saved["scale"] > 2.0**16 and saved == scaler.state_dict(), "it has grown"
    whole = metrics(first)
    continued = train(fp16, small_data, tmp_path / "0001")
    assert continued.trial.scaler is not None and continued.trial.scaler.state_dict() == saved
    assert metrics(continued) == whole

    monkeypatch.undo()
    exact = metrics(train(small_experiment(small_root, epochs=2), small_data))[-1]
    for name in ("loss_a", "loss_null", "val_loss"):
        assert whole[-1][name] == pytest.approx(exact[name], rel=1e-2) and whole[-1][name] != exact[name]


def test_an_overflow_leaves_out_the_step_and_halves_the_scale(fp16: Experiment, small_data: TrialData, on_cpu: None) -> None:
    run = train(fp16, small_data)
    trial = run.trial
    assert trial.scaler is not None
    before = [parameter.detach().clone() for parameter in trial.trained()]

    def overflow() -> float:
        trial.optimizer.zero_grad()
        scaler, first = trial.scaler, trial.trained()[0]
        assert scaler is not None
        torch.autograd.backward(scaler.scale(torch.stack([p.float().sum() for p in trial.trained()]).sum()))
        assert first.grad is not None
        first.grad.view(-1)[0] = float("inf")
        return trainer._step(fp16, trial)

    set_learning_rate(trial, fp16.training, 10)
    assert overflow() == 0.0 and trial.step == 1 and trial.grad_norm is None
    assert trial.scaler.get_scale() == 2.0**15
    assert all(torch.equal(a, b) for a, b in zip(before, trial.trained(), strict=True))
    with pytest.raises(Diverged, match="gradient norm"):
        for _ in range(20):
            overflow()
    assert trial.scaler.get_scale() == trainer.SMALLEST_SCALE
    run.close()


@pytest.mark.parametrize("scaler", [None, {}, {"scale": "big"}, {"scale": 0.0}])
def test_a_checkpoint_without_its_scale_is_refused(
    fp16: Experiment, small_data: TrialData, tmp_path: Path, on_cpu: None, scaler: Any
) -> None:
    run = train(fp16, small_data)
    save_checkpoint(tmp_path / "0001", run.trial)
    run.close()
    path = tmp_path / "0001" / "state.json"
    content = json.loads(path.read_text())
    content["scaler"] = scaler if not scaler else {**content["scaler"], **scaler}
    path.write_text(json.dumps(content))
    (tmp_path / "0001" / "checksums.json").unlink()
    write_checksums(tmp_path / "0001")
    with pytest.raises(DataError, match="cannot be read"):
        train(fp16, small_data, tmp_path / "0001")


def test_memory_is_logged_each_epoch(small_spec: Experiment, small_data: TrialData, caplog: pytest.LogCaptureFixture) -> None:
    run = train(small_spec, small_data)
    with caplog.at_level("INFO", logger="tune_accent"):
        report = next(run)
    run.close()
    assert report.peak_mb >= report.allocated_mb > 50
    assert f"epoch 1: {report.allocated_mb:.0f} MiB of cpu memory allocated, {report.peak_mb:.0f} MiB at the peak" in caplog.text
