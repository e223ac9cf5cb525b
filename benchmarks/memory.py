"""Memory of a training step at the published shapes: the forecast of `--dry-run` beside the allocator's own events, on the CPU.

    python -m benchmarks.memory [--sizes 0.6B 1.7B] [--rows 2] [--frames 40 100] [--precision fp32]

Random weights of the real classes, LoRA as in configs/qwen3_tts_*.yaml, its steps with and without checkpointing. What is counted are bytes of tensors that a step makes: what
autograd keeps, gradients, passing ones. Beside them a GPU holds the context and what the caching allocator rounds up, which no CPU can show. Attention is the math kernel that
deterministic training uses there too. A CPU without bf16 instructions is very slow in bf16, which trials use on CUDA. 1.7B in fp32 holds 10.4 GB of tensors.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.models.shaped import batch_of, peak_bytes, shaped, step_loss
from tune_accent.config.load import load_experiment
from tune_accent.config.schema import Experiment, Precision
from tune_accent.models.backbone import Backbone, set_checkpointing
from tune_accent.models.lora import attach
from tune_accent.models.memory import estimate, setting_of
from tune_accent.models.published import PARAMETERS, published_config
from tune_accent.models.shape import PROMPT, Batch, Shape

TOKENS = 25  # of a text
TYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
SWITCHES: tuple[dict[str, Any], ...] = (
    {"gradient_checkpointing": False, "predictor_checkpointing": False, "sub_frames": None},
    {"gradient_checkpointing": True, "predictor_checkpointing": False, "sub_frames": 64},
    {"gradient_checkpointing": True, "predictor_checkpointing": True, "sub_frames": None},
)
WORDS = ("nothing", "talker, 64 sub_frames", "both")


@dataclass(frozen=True)
class Measured:
    """Bytes of one case: forecast and counted, of the frozen weights and of what a step adds to them."""

    weights: tuple[float, float]
    step: tuple[float, float]


def experiment_of(size: str, precision: Precision, **switches: Any) -> Experiment:
    """The shipped config of that size, with other switches."""
    spec = load_experiment(Path(f"configs/qwen3_tts_{size.lower()}.yaml")).experiment
    return spec.model_copy(update={"training": spec.training.model_copy(update={"precision": precision, **switches})})


def measure(backbone: Backbone, spec: Experiment, shape: Shape, rows: int, frames: int) -> Measured:
    """One forward and backward of `rows` utterances of `frames` frames."""
    set_checkpointing(backbone, spec.training.gradient_checkpointing, spec.training.predictor_checkpointing)
    inputs = batch_of(backbone, rows, frames, TOKENS)
    accent = torch.zeros(1, backbone.hidden, requires_grad=True)

    def step() -> None:
        with sdpa_kernel(SDPBackend.MATH):
            with torch.autocast("cpu", torch.bfloat16, enabled=spec.training.precision == "bf16"):
                loss = step_loss(backbone, inputs, accent, spec.model.layer, spec.training.sub_frames)
            torch.autograd.backward(loss)

    with tempfile.TemporaryDirectory() as folder:
        counted = peak_bytes(step, Path(folder) / "trace.json")
    for parameter in backbone.model.parameters():
        parameter.grad = None
    batch = Batch(rows, PROMPT + TOKENS + frames, rows * frames, spec.training.sub_frames or rows * frames)
    found = estimate(shape, setting_of(spec), batch, Batch(0, 0, 0, 0))
    held = sum(p.numel() * p.element_size() for p in backbone.model.parameters() if not p.requires_grad)
    # weights and moments of the adapter were there before the step, its gradients were not
    return Measured((found.weights, held), (found.adapter / 4 + found.activations + found.transient, counted))


def table(sizes: list[str], precision: Precision, rows: int, lengths: list[int]) -> Iterator[str]:
    """The table, line by line."""
    yield f"{'':<6} {'rows':>4} {'frames':>6}  {'checkpointed':<22} {'forecast MB':>12} {'counted MB':>11} {'ratio':>6}"
    for size in sizes:
        config = published_config(size)
        assert config is not None, size
        shape = Shape.of(config, PARAMETERS[config["talker_config"]["hidden_size"]])
        backbone = shaped(config, "cpu", TYPES[precision])
        attach(backbone, experiment_of(size, precision).model.lora, seed=0)
        backbone.model.train()
        for place, switches in enumerate(SWITCHES):
            for frames in lengths:
                found = measure(backbone, experiment_of(size, precision, **switches), shape, rows, frames)
                if not place and frames == lengths[0]:
                    yield f"{size:<6} {'':>4} {'':>6}  {'frozen weights':<22} {_pair(found.weights)}"
                yield f"{size:<6} {rows:>4} {frames:>6}  {WORDS[place]:<22} {_pair(found.step)}"
        del backbone  # before the next one is made


def _pair(found: tuple[float, float]) -> str:
    forecast, counted = found
    return f"{forecast / 1e6:>12.1f} {counted / 1e6:>11.1f} {forecast / counted:>6.3f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=("0.6B", "1.7B"), default=["0.6B", "1.7B"])
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--frames", nargs="+", type=int, default=[40, 100])
    parser.add_argument("--precision", choices=tuple(TYPES), default="fp32")
    arguments = parser.parse_args()
    for line in table(arguments.sizes, arguments.precision, arguments.rows, arguments.frames):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
