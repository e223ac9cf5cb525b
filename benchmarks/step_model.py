"""One training step on random weights of the real classes, whole and in its four parts: what benchmarks/step_time.py times."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tune_accent.base.seeds import generator
from tune_accent.config.schema import Lora, Objective, Tiny, Training
from tune_accent.models.backbone import Backbone
from tune_accent.models.forward import Inputs, codebook0_logits, collate, embed, forward, pool, subtalker_logits, trunk
from tune_accent.models.lora import attach
from tune_accent.models.published import HUB_IDS, published_config
from tune_accent.models.qwen_import import import_qwen_tts
from tune_accent.models.shape import Batch, Shape
from tune_accent.models.tiny import LANGUAGES, SPECIAL, model_config
from tune_accent.training.device import autocast, weights_dtype
from tune_accent.training.heads import Heads, build_heads
from tune_accent.training.loss import Labels, accent_loss, leakage_loss, speech_loss
from tune_accent.training.seeding import configure_torch

Mode = Literal["eager", "compiled"]
SIZES = ("tiny", *HUB_IDS)
PARTS = ("talker", "code predictor", "heads", "optimizer")
SPEAKERS = {0: [0, 1], 1: [2, 3]}  # of two accents
TINY_CODES, TINY_WORDS = 64, 300
TEXT = 25  # tokens of an utterance
LORA, OBJECTIVE = Lora(rank=16), Objective()
WARM_UP = 2


@dataclass(frozen=True)
class Case:
    """What is timed: which model, how much of a batch, eager or compiled blocks."""

    size: str
    rows: int
    frames: int
    mode: Mode = "eager"

    @property
    def batch(self) -> Batch:
        """Its size."""
        return Batch.equal(self.rows, self.frames, TEXT)


def config_of(size: str) -> dict[str, Any]:
    """config.json of the tiny model of the demo, or of a published one."""
    if size == "tiny":
        words = {word: number for number, word in enumerate([*map(str, range(TINY_WORDS)), *SPECIAL])}
        return model_config(Tiny(), TINY_CODES, words, LANGUAGES)
    config = published_config(size)
    assert config is not None, size
    return config


def shape_of(size: str) -> Shape:
    """Widths of a model."""
    return Shape.of(config_of(size))


def training_of(device: torch.device) -> Training:
    """bf16 where there is CUDA; deterministic, as trials are."""
    return Training(precision="bf16" if device.type == "cuda" else "fp32")


def build_backbone(size: str, device: torch.device) -> Backbone:
    """Random weights of the real classes, frozen, on the device, in the type that trials have there."""
    import_qwen_tts()
    from qwen_tts.core.models import Qwen3TTSConfig, Qwen3TTSForConditionalGeneration

    config = config_of(size)
    with device:
        model = Qwen3TTSForConditionalGeneration(Qwen3TTSConfig(**config))
    model.to(weights_dtype(training_of(device), device)).requires_grad_(False).eval()
    talker = config["talker_config"]
    widths = (talker["num_hidden_layers"], talker["hidden_size"], talker["hidden_size"])
    codes = talker["code_predictor_config"]["vocab_size"]
    return Backbone(model, None, size, Path(size), *widths, codes, talker["codec_language_id"], (0, 1, 2))


class Step:
    """A ∅-batch of one trial: speech loss, accent and leakage terms, adversary, backward, clipping, both optimizers."""

    def __init__(self, case: Case, device: torch.device) -> None:
        self.training, self.device = training_of(device), device
        configure_torch(self.training)
        self.backbone = build_backbone(case.size, device)
        adapter = attach(self.backbone, LORA, 0)
        self.heads: Heads = build_heads(("a", "b"), SPEAKERS, self.backbone.hidden, self.backbone.hidden, OBJECTIVE)
        for module in self.heads.modules().values():
            module.to(device)
        self.trained = [p for p in adapter.parameters() if p.requires_grad]
        self.trained += [*self.heads.table.parameters(), *self.heads.z.parameters(), *self.heads.classifier.parameters()]
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-5)
        self.adversary_optimizer = torch.optim.Adam(self.heads.adversary.parameters(), lr=1e-3)
        self.inputs, self.labels = _batch(self.backbone, case).to(device), _labels(case.rows, device)
        self.speaker = torch.zeros(case.rows, self.backbone.hidden, device=device)
        self.layer = self.backbone.layers // 2
        self.backbone.model.train()
        if case.mode == "compiled":
            compile_blocks(self.backbone)

    def whole(self) -> None:
        """Everything, as the trainer does it."""
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.training, self.device):
            output = forward(self.backbone, self.inputs, speaker=self.speaker, accent=None, layer=self.layer)
            z = self.heads.encode(pool(output.hidden, output.frames).float(), 1.0)
        loss = speech_loss(output, OBJECTIVE) + self._heads_loss(z)
        torch.autograd.backward(loss)
        self._update()

    def parts(self) -> dict[str, Callable[[], None]]:
        """The same work in four pieces, each with its own backward."""
        with autocast(self.training, self.device), torch.no_grad():
            x = embed(self.backbone, self.inputs, self.speaker, None)
            last, hidden = (state.detach().requires_grad_() for state in trunk(self.backbone, x, self.layer, whole=True))
        self.whole()  # gradients for the optimizer to step on
        pieces = (self._talker, lambda: self._predictor(last), lambda: self._heads(hidden), self._update)
        return dict(zip(PARTS, pieces, strict=True))

    def _talker(self) -> None:
        with autocast(self.training, self.device):
            last, _ = trunk(self.backbone, embed(self.backbone, self.inputs, self.speaker, None), self.layer, whole=True)
            loss = F.cross_entropy(codebook0_logits(self.backbone, self.inputs, last).float(), self.inputs.labels)
        torch.autograd.backward(loss)

    def _predictor(self, last: Tensor) -> None:
        with autocast(self.training, self.device):
            logits = subtalker_logits(self.backbone, self.inputs, last, None)
            loss = F.cross_entropy(logits.flatten(0, 1).float(), self.inputs.codes[:, 1:].flatten())
        torch.autograd.backward(loss)

    def _heads(self, hidden: Tensor) -> None:
        z = self.heads.encode(pool(hidden, self.inputs.frames).float(), 1.0)
        torch.autograd.backward(self._heads_loss(z))

    def _heads_loss(self, z: Tensor) -> Tensor:
        adversary = self.heads.adversary
        adversary.requires_grad_(True)
        self.adversary_optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(adversary.loss(z.detach(), self.labels.speaker, self.labels.group))
        self.adversary_optimizer.step()
        adversary.requires_grad_(False)
        aligned, opposed = leakage_loss(adversary, z, self.labels)
        return accent_loss(self.heads, z, self.labels) + aligned + 0.1 * opposed

    def _update(self) -> None:
        float(torch.nn.utils.clip_grad_norm_(self.trained, 1.0))
        self.optimizer.step()


def compile_blocks(backbone: Backbone) -> None:
    """Compile every decoder block of talker and code predictor: a region at a time, so that equal blocks share their code.

    What was compiled for another case is forgotten. One code object serves both stacks, with gradients and without, in training and not: more variants than the eight after which torch
    would run the rest eagerly, with a warning only.
    """
    torch.compiler.reset()
    torch._dynamo.config.recompile_limit = 64
    for block in (*backbone.talker.model.layers, *backbone.talker.code_predictor.model.layers):
        block.compile(dynamic=False)


def _batch(backbone: Backbone, case: Case) -> Inputs:
    draw = generator(0, "batch", case.rows, case.frames)
    texts = [draw.integers(0, TINY_WORDS, TEXT).tolist() for _ in range(case.rows)]
    codes = [draw.integers(0, backbone.codebook_size, (case.frames, 16)).astype(np.int16) for _ in range(case.rows)]
    return collate(backbone, texts, codes, None)


def _labels(rows: int, device: torch.device) -> Labels:
    """Speakers 0 to 3 in turn; two belong to each accent."""
    speaker = torch.arange(rows, device=device) % 4
    return Labels(speaker // 2, speaker, speaker // 2)


def seconds(work: Callable[[], None], device: torch.device, repeats: int) -> float:
    """Median seconds of `work`, after a warm-up; waits for the device."""
    for _ in range(WARM_UP):
        work()
    taken = []
    for _ in range(repeats):
        wait(device)
        began = time.perf_counter()
        work()
        wait(device)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def wait(device: torch.device) -> None:
    """Until the device has done everything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
