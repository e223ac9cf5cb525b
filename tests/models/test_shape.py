"""Weights and FLOPs from widths, against the real classes on the meta device, the profiler's own count, and the published figures."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.step_model import LORA, Case, Step, config_of
from tests.support import small_experiment
from tune_accent.config.load import resolve
from tune_accent.models.flops import forward_flops, read_bytes, step_flops
from tune_accent.models.forward import PROMPT
from tune_accent.models.published import published_config
from tune_accent.models.shape import PROMPT as COUNTED
from tune_accent.models.shape import Batch, Shape, shape_of
from tune_accent.models.tiny import ensure_tiny


@pytest.mark.parametrize(
    ("size", "weights", "adapter", "low", "high"), [("0.6B", 914.6, 4.6, 0.60, 0.70), ("1.7B", 1928.7, 6.4, 0.33, 0.42)]
)
def test_published_sizes(size: str, weights: float, adapter: float, low: float, high: float) -> None:
    shape = Shape.of(config_of(size))
    assert shape.weights / 1e6 == pytest.approx(weights, rel=0.02), "all but speaker encoder and norms"
    assert shape.adapter(16, ("q", "k", "v", "o"), False) / 1e6 == pytest.approx(adapter, rel=0.02)
    assert low < forward_flops(shape, Batch.equal(8, 80)).predictor_share < high


@pytest.mark.parametrize("size", ["0.6B", "1.7B"])
def test_weights_are_those_of_the_real_classes(size: str) -> None:
    from tune_accent.models.qwen_import import import_qwen_tts

    import_qwen_tts()
    from qwen_tts.core.models import Qwen3TTSConfig, Qwen3TTSForConditionalGeneration

    with torch.device("meta"):
        model = Qwen3TTSForConditionalGeneration(Qwen3TTSConfig(**(published_config(size) or {})))
    counted = sum(p.numel() for name, p in model.talker.named_parameters() if "norm" not in name and not name.endswith("bias"))
    assert Shape.of(config_of(size)).weights == counted


def test_flops_are_those_that_torch_counts() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    case = Case("tiny", 2, 10)
    step = Step(case, torch.device("cpu"))
    with FlopCounterMode(display=False) as counter:
        step.whole()
    shape, positions = Shape.of(config_of("tiny")), case.rows * case.batch.positions
    trained = shape.adapter(LORA.rank, LORA.target, LORA.code_predictor)
    adapter = 6 * trained * positions  # forward, backward and gradient: small beside a real model, not beside a tiny one
    assert step_flops(shape, case.batch) + adapter == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_checkpointing_costs_a_forward_and_fewer_frames_cost_less() -> None:
    shape, batch = Shape.of(config_of("0.6B")), Batch.equal(4, 50)
    found = forward_flops(shape, batch)
    assert step_flops(shape, batch) == 2 * found.forward
    assert step_flops(shape, batch, talker_again=True) == 2 * found.forward + found.talker
    assert step_flops(shape, batch, predictor_again=True) == 2 * found.forward + found.predictor
    assert forward_flops(shape, Batch.equal(4, 50, sub_frames=100)).predictor == found.predictor / 2
    assert read_bytes(shape) == 4 * shape.read_weights < 4 * shape.weights


def test_a_batch_has_the_positions_of_the_forward() -> None:
    assert COUNTED == PROMPT, "models/forward.py needs torch"
    batch = Batch.equal(2, 40, 12, sub_frames=500)
    assert (batch.positions, batch.frames, batch.chosen, batch.text) == (63, 80, 80, 24)
    assert Batch.equal(2, 40, sub_frames=10).chosen == 10


def test_a_backbone_is_known_by_folder_or_published_name(tmp_path: Path) -> None:
    def named(name: str) -> Shape | None:
        return shape_of(resolve(small_experiment(tmp_path), {"model.backbone": name}))

    tiny, large = named("tiny"), named("Qwen/Qwen3-TTS-12Hz-1.7B-Base")
    assert tiny is not None and (tiny.talker.count, tiny.talker.hidden) == (2, 32)
    assert large is not None and (large.talker.hidden, large.text_hidden) == (2048, 2048)
    assert named("someone/else") is None
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert named(str(tmp_path)) is None, "another model, which is refused when it is loaded"


@pytest.mark.parametrize(("hidden", "layers"), [(32, 2), (64, 4), (96, 3)])
def test_the_tiny_model_is_told_from_its_settings(hidden: int, layers: int, tmp_path: Path) -> None:
    """Without torch, as the folder's own config.json tells it."""
    spec = resolve(small_experiment(tmp_path), {"model.tiny.hidden": hidden, "model.tiny.layers": layers})
    folder = ensure_tiny(tmp_path, spec.model.tiny, 32)
    told, read = shape_of(spec), shape_of(resolve(spec, {"model.backbone": str(folder)}))
    assert told is not None and read is not None and replace(told, held=0) == replace(read, held=0)
    assert told.held > told.weights


def test_shapes_are_told_without_torch() -> None:
    code = "import sys, tune_accent.models.memory, tune_accent.models.flops, tune_accent.tuning.peak; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
