"""The forecast of memory against the allocator's own events, within 15 %, on every shape and switch that a CPU can run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.models.shaped import batch_of, peak_bytes, shaped, small_config, step_loss
from tune_accent.config.schema import Experiment, Lora
from tune_accent.models.backbone import Backbone, set_checkpointing
from tune_accent.models.lora import attach
from tune_accent.models.memory import Setting, estimate, setting_of, step_bytes, trained_weights
from tune_accent.models.shape import Batch, Shape

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
ROWS, FRAMES, TOKENS = 2, 24, 12


def experiment(**training: Any) -> Experiment:
    attention, lora = training.pop("attention", "sdpa"), {"rank": 4, **training.pop("lora", {})}
    return Experiment.model_validate(
        {"seed": 0, "data": {"root": "x"}, "model": {"attention": attention, "lora": lora}, "training": training}
    )


def kernels(setting: Setting) -> AbstractContextManager[Any]:
    """The attention kernels of the setting, whatever a test before this one has left switched on."""
    fused = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    return sdpa_kernel(SDPBackend.MATH if setting.attention == "math" else fused)


@contextmanager
def computing(setting: Setting) -> Iterator[None]:
    """Autocast and attention kernel of the setting, on the CPU."""
    half = torch.autocast("cpu", TYPES[setting.precision]) if setting.half else nullcontext()
    with half, kernels(setting):
        yield


def ready(spec: Experiment, hidden: int) -> Backbone:
    backbone = shaped(small_config(hidden), "cpu", TYPES[spec.training.precision], spec.model.attention)
    attach(backbone, spec.model.lora, seed=0)
    set_checkpointing(backbone, spec.training.gradient_checkpointing, spec.training.predictor_checkpointing)
    return backbone


def loss_of(backbone: Backbone, accent: Tensor, spec: Experiment, frames: int = FRAMES) -> Tensor:
    return step_loss(backbone, batch_of(backbone, ROWS, frames, TOKENS), accent, 2, spec.training.sub_frames)


def shape_of(hidden: int) -> Shape:
    return Shape.of(small_config(hidden))


CASES = [
    pytest.param({}, 128, id="plain"),
    pytest.param({"precision": "bf16"}, 128, id="bf16"),
    pytest.param({"precision": "fp16"}, 256, id="fp16"),
    pytest.param({"sub_frames": 16}, 256, id="sub_frames"),
    pytest.param({"gradient_checkpointing": True, "sub_frames": 16}, 128, id="talker"),
    pytest.param({"predictor_checkpointing": True, "precision": "bf16"}, 256, id="predictor"),
    pytest.param({"gradient_checkpointing": True, "predictor_checkpointing": True}, 128, id="both"),
    pytest.param({"gradient_checkpointing": True, "predictor_checkpointing": True, "precision": "fp16"}, 256, id="both, fp16"),
    pytest.param({"attention": "eager", "precision": "bf16", "sub_frames": 16}, 128, id="eager"),
    pytest.param({"deterministic": False, "precision": "bf16", "sub_frames": 16}, 128, id="fused"),
    pytest.param(
        {"lora": {"rank": 16, "target": ["q", "k", "v", "o", "gate", "up", "down"], "code_predictor": True}}, 128, id="lora"
    ),
]


@pytest.mark.parametrize(("training", "hidden"), CASES)
def test_a_step_takes_what_was_forecast(training: dict[str, Any], hidden: int, tmp_path: Path) -> None:
    spec = experiment(**training)
    setting, shape, backbone = setting_of(spec), shape_of(hidden), ready(spec, hidden)
    backbone.model.train()
    accent = torch.zeros(1, hidden, requires_grad=True)

    def step() -> None:
        with computing(setting):
            loss = loss_of(backbone, accent, spec)
        with kernels(setting):  # checkpoints compute again
            torch.autograd.backward(loss)

    measured = peak_bytes(step, tmp_path / "trace.json")
    frames = ROWS * FRAMES
    batch = Batch(ROWS, 11 + TOKENS + FRAMES, frames, spec.training.sub_frames or frames)
    found = estimate(shape, setting, batch, Batch(0, 0, 0, 0))
    gradients = found.adapter / 4  # weights and moments were there before the step
    assert trained_weights(shape, setting) == sum(p.numel() for p in adapter_parameters_of(backbone))
    assert gradients + found.activations + found.transient == pytest.approx(measured, rel=0.15)


def adapter_parameters_of(backbone: Backbone) -> list[torch.nn.Parameter]:
    return [parameter for parameter in backbone.model.parameters() if parameter.requires_grad]


@pytest.mark.parametrize(
    "training", [{}, {"precision": "bf16", "sub_frames": 16}, {"precision": "fp16"}, {"deterministic": False}]
)
def test_an_evaluation_batch_takes_what_was_forecast(training: dict[str, Any], tmp_path: Path) -> None:
    spec = experiment(**training)
    setting, backbone = setting_of(spec), ready(spec, 128)

    def batch() -> None:
        with torch.no_grad(), computing(setting):
            loss_of(backbone, torch.zeros(1, 128), spec)

    frames = ROWS * FRAMES
    of = Batch(ROWS, 11 + TOKENS + FRAMES, frames, spec.training.sub_frames or frames)
    found = estimate(shape_of(128), setting, Batch(0, 0, 0, 0), of)
    assert found.evaluation == pytest.approx(peak_bytes(batch, tmp_path / "trace.json"), rel=0.15)


@pytest.mark.parametrize(
    "training",
    [
        {"gradient_checkpointing": True},
        {"predictor_checkpointing": True},
        {"attention": "eager"},
        {"precision": "bf16"},
        {"precision": "fp16"},
    ],
    ids=lambda training: next(iter(training)) + str(next(iter(training.values()))),
)
def test_every_switch_gives_the_same_loss_within_its_precision(training: dict[str, Any]) -> None:
    """Checkpointing to the bit, gradients included; the others to the rounding of their type."""

    def run(spec: Experiment) -> tuple[float, list[Tensor]]:
        backbone = ready(spec, 128)
        backbone.model.train()
        with computing(setting_of(spec)):
            loss = loss_of(backbone, torch.zeros(1, 128), spec, frames=12)
            gradients = torch.autograd.grad(loss, adapter_parameters_of(backbone), allow_unused=True)
        return float(loss.detach()), [gradient for gradient in gradients if gradient is not None]

    (plain, exact), (other, found) = run(experiment()), run(experiment(**training))
    if "precision" in training:
        assert other == pytest.approx(plain, rel=5e-3) and other != plain
    elif "attention" in training:
        assert other == pytest.approx(plain, rel=1e-5)
    else:
        assert other == plain and all(torch.equal(a, b) for a, b in zip(exact, found, strict=True))


def test_each_switch_saves_where_it_should() -> None:
    """On the published proportions: the talker's activations, the code predictor's, and half of both."""
    shape, batch = shape_of(128), Batch(8, 200, 1200, 1200)

    def kept(**training: Any) -> float:
        return step_bytes(shape, setting_of(experiment(**training)), batch)[0]

    assert kept(gradient_checkpointing=True) < kept() > 2 * kept(predictor_checkpointing=True)
    assert kept(precision="bf16") == kept(precision="fp16") < kept()
    assert kept(precision="bf16", gradient_checkpointing=True) < kept(precision="fp16", gradient_checkpointing=True), (
        "its stream is wide"
    )
    assert kept(deterministic=False) < kept()
    assert setting_of(experiment(lora={"enabled": False})).rank == 0 and Lora().rank > 0
