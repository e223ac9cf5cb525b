"""Every seed of an experiment is derived from its one seed, by name: adding a consumer never shifts the others."""

from __future__ import annotations

import hashlib

import numpy as np


def seed_sequence(seed: int, *names: str | int) -> np.random.SeedSequence:
    """The `SeedSequence` of the consumer called `names` (e.g. `"epoch", 3`) of the experiment's `seed`."""
    words = [int.from_bytes(hashlib.sha256(str(name).encode()).digest()[:8], "big") for name in names]
    return np.random.SeedSequence([seed, *words])


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the consumer called `names`."""
    return int(seed_sequence(seed, *names).generate_state(1, np.uint64)[0] >> 1)


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A numpy generator for the consumer called `names`."""
    return np.random.default_rng(seed_sequence(seed, *names))
