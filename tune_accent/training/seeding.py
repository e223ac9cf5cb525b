"""All random generators and the determinism of torch, set in one place.

An epoch seeds every generator from (experiment seed, epoch number). Nothing random crosses an epoch's border, so a checkpoint at that border
needs no generator state to be exact.
"""

from __future__ import annotations

import os
import random

import numpy as np
import torch

from tune_accent.base.seeds import derive_seed
from tune_accent.config.schema import Training


def seed_everything(seed: int, *names: str | int) -> None:
    """Seed `random`, numpy, torch and CUDA for the consumer called `names`."""
    random.seed(derive_seed(seed, *names, "random"))
    np.random.seed(derive_seed(seed, *names, "numpy") % 2**32)
    torch.manual_seed(derive_seed(seed, *names, "torch"))


def configure_torch(training: Training) -> None:
    """Set threads and deterministic algorithms of this process, whatever was set before; must run before CUDA starts for cuBLAS to be deterministic.

    The same for search and paper run: deterministic algorithms, cuBLAS workspace, cuDNN deterministic and without autotuning, full float32
    products (no TF32); `sdpa` by the math kernel, flash_attention_2 with its deterministic backward.
    """
    exact = training.deterministic
    torch.set_num_threads(training.threads)
    if exact:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        os.environ.setdefault("FLASH_ATTENTION_DETERMINISTIC", "1")  # read by transformers for flash_attention_2
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = exact
    torch.backends.cudnn.allow_tf32 = not exact
    torch.backends.cuda.matmul.allow_tf32 = False
    # The others' backward passes add in any order. Switched back on, since a worker trains trials of both kinds where `deterministic` is searched.
    torch.backends.cuda.enable_flash_sdp(not exact)
    torch.backends.cuda.enable_mem_efficient_sdp(not exact)
    torch.backends.cuda.enable_cudnn_sdp(not exact)
    torch.backends.cuda.enable_math_sdp(True)
    torch.use_deterministic_algorithms(exact)
