"""Weights and FLOPs from widths, against the real classes on the meta device, the profiler's own count, and the published figures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.step_model import LORA, Case, Step, shape_of
from tests.support import small_experiment
from tune_accent.checking import shapes
from tune_accent.checking.shapes import Load, forward_flops, step_bytes, step_flops
from tune_accent.config.schema import Lora
from tune_accent.models.published import published_config


@pytest.mark.parametrize(
    ("size", "weights", "adapter", "low", "high"), [("0.6B", 914.6, 4.6, 0.60, 0.70), ("1.7B", 1928.7, 6.4, 0.33, 0.42)]
)
def test_published_sizes(size: str, weights: float, adapter: float, low: float, high: float) -> None:
    shape = shape_of(size)
    assert shape.weights / 1e6 == pytest.approx(weights, rel=0.02), "all but speaker encoder and norms"
    assert shape.adapter(Lora(rank=16)) / 1e6 == pytest.approx(adapter, rel=0.02)
    assert low < forward_flops(shape, Load(8, 80)).predictor_share < high


@pytest.mark.parametrize("size", ["0.6B", "1.7B"])
def test_weights_are_those_of_the_real_classes(size: str) -> None:
    from tune_accent.models.qwen_import import import_qwen_tts

    import_qwen_tts()
    from qwen_tts.core.models import Qwen3TTSConfig, Qwen3TTSForConditionalGeneration

    with torch.device("meta"):
        model = Qwen3TTSForConditionalGeneration(Qwen3TTSConfig(**(published_config(size) or {})))
    counted = sum(p.numel() for name, p in model.talker.named_parameters() if "norm" not in name and not name.endswith("bias"))
    assert shape_of(size).weights == counted


def test_flops_are_those_that_torch_counts() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    case = Case("tiny", 2, 10)
    step = Step(case, torch.device("cpu"))
    with FlopCounterMode(display=False) as counter:
        step.whole()
    shape, positions = shape_of("tiny"), case.rows * case.load.length
    adapter = (
        6 * shape.adapter(LORA) * positions
    )  # forward, backward and gradient: small beside a real model, not beside a tiny one
    assert step_flops(shape, case.load) + adapter == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_checkpointing_costs_a_forward_and_fewer_frames_cost_less() -> None:
    shape, load = shape_of("0.6B"), Load(4, 50)
    found = forward_flops(shape, load)
    assert step_flops(shape, load) == 2 * found.forward
    assert step_flops(shape, load, talker_again=True) == 2 * found.forward + found.talker
    assert step_flops(shape, load, predictor_again=True) == 2 * found.forward + found.predictor
    assert forward_flops(shape, load, sub_frames=100).predictor == found.predictor / 2
    assert step_bytes(shape) == 4 * shape.read_weights < 4 * shape.weights


def test_a_backbone_is_known_by_folder_or_published_name(tmp_path: Path) -> None:
    spec = small_experiment(tmp_path)

    def named(name: str) -> shapes.Shape | None:
        return shapes.shape_of(spec.model_copy(update={"model": spec.model.model_copy(update={"backbone": name})}))

    tiny, large = named("tiny"), named("Qwen/Qwen3-TTS-12Hz-1.7B-Base")
    assert tiny is not None and (tiny.talker.layers, tiny.talker.hidden) == (2, 32)
    assert large is not None and large.talker.hidden == 2048
    assert named("someone/else") is None
