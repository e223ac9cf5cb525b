"""How a process is set up for training: by the experiment alone, and by nothing that ran in it before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tune_accent.config.schema import Training
from tune_accent.training.seeding import configure_torch, seed_everything


def switches() -> dict[str, bool | int]:
    cuda: Any = torch.backends.cuda
    cudnn = torch.backends.cudnn
    return {
        "algorithms": torch.are_deterministic_algorithms_enabled(),
        "flash": cuda.flash_sdp_enabled(),
        "efficient": cuda.mem_efficient_sdp_enabled(),
        "cudnn attention": cuda.cudnn_sdp_enabled(),
        "math": cuda.math_sdp_enabled(),
        "tf32": cudnn.allow_tf32 or cuda.matmul.allow_tf32,
        "cudnn": cudnn.deterministic,
        "autotuning": cudnn.benchmark,
        "threads": torch.get_num_threads(),
    }


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Other tests find the switches of a deterministic process."""
    yield
    configure_torch(Training())


def test_a_deterministic_process_has_one_attention_kernel_and_full_products() -> None:
    configure_torch(Training())
    found = switches()
    assert [name for name, on in found.items() if on is True] == ["algorithms", "math", "cudnn"]
    assert found["threads"] == 1


def test_what_was_trained_before_does_not_matter() -> None:
    """`training.deterministic` can be searched, and trials share a worker."""
    fast, exact = Training(deterministic=False, threads=2), Training()
    found = []
    for training in (fast, exact, fast, exact):
        configure_torch(training)
        found.append(switches())
    assert found[:2] == found[2:]
    assert found[0]["flash"] and found[0]["efficient"] and not found[0]["algorithms"] and found[0]["threads"] == 2


def test_draws_are_those_of_the_names() -> None:
    drawn = []
    for name in ("epoch", "epoch", "other"):
        seed_everything(3, name, 1)
        drawn.append(torch.rand(4))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
