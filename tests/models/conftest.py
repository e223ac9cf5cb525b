"""A tiny backbone built once, and a loud copy of it in which every path matters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tune_accent.config.schema import Tiny
from tune_accent.models.backbone import Backbone, load_backbone
from tune_accent.models.forward import Inputs, collate
from tune_accent.models.tiny import ensure_tiny

CODEBOOK = 64
MakeBatch = Callable[..., Inputs]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_tiny(tmp_path_factory.mktemp("tiny"), Tiny(), CODEBOOK)


@pytest.fixture(scope="session")
def shared(tiny_folder: Path) -> Backbone:
    """Never changed by a test."""
    return load_backbone(tiny_folder)


@pytest.fixture
def backbone(tiny_folder: Path) -> Backbone:
    """One test's own."""
    return load_backbone(tiny_folder)


@pytest.fixture(scope="session")
def loud(tiny_folder: Path) -> Backbone:
    """Weights so large that no embedding, projection or position could be wrong unnoticed; norms are not 1 either."""
    backbone = load_backbone(tiny_folder)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in sorted(backbone.talker.named_parameters()):
        std = 0.5 if "embedding" in name else parameter.shape[-1] ** -0.5
        draw = torch.randn(parameter.shape, generator=generator)
        parameter.data = 1 + 0.3 * draw if name.endswith("norm.weight") else std * draw
    return backbone


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Of different lengths."""
    return ["The north wind and the sun.", "Close the door behind you, please, and sit down."]


@pytest.fixture(scope="session")
def make_batch(texts: list[str]) -> MakeBatch:
    """Lays out the two utterances, of different text and frame counts, or some of them."""

    def make(backbone: Backbone, rows: slice = slice(None), language: str | None = "english") -> Inputs:
        rng = np.random.default_rng(0)
        codes = [rng.integers(0, CODEBOOK, (count, 16)).astype(np.int16) for count in (9, 14)]
        return collate(backbone, [backbone.text_tokens(text) for text in texts][rows], codes[rows], language)

    return make


@pytest.fixture(scope="session")
def batch(shared: Backbone, make_batch: MakeBatch) -> Inputs:
    """The two utterances."""
    return make_batch(shared)


@pytest.fixture(scope="session")
def voices() -> torch.Tensor:
    """(2, 64): two different speaker embeddings."""
    return torch.randn(2, 64, generator=torch.Generator().manual_seed(1)) * 0.3
