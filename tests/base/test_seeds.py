"""Seeds by name: stable across processes and versions, none shifts another."""

from __future__ import annotations

import numpy as np

from tune_accent.base.seeds import derive_seed, generator, seed_sequence


def test_a_seed_depends_on_seed_and_name_only() -> None:
    seeds = [derive_seed(seed, *names) for seed in (0, 1) for names in ((), ("data",), ("codec",), ("epoch", 1), ("epoch", 2))]
    assert len(set(seeds)) == len(seeds)
    assert seeds == [derive_seed(seed, *n) for seed in (0, 1) for n in ((), ("data",), ("codec",), ("epoch", 1), ("epoch", 2))]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(5, "epoch", 12) == derive_seed(5, "epoch", "12") != derive_seed(5, "epoch", 1, 2)


def test_the_derivation_is_part_of_every_result() -> None:
    """Golden values: another derivation would give every search other numbers (raise PROTOCOL_VERSION then)."""
    assert derive_seed(0, "data") == 4551906273675907479
    assert derive_seed(2**62, "epoch", 3) == 2108158599539359464
    assert generator(0, "batches", 1).integers(0, 1000, 3).tolist() == [322, 985, 15]


def test_generators_of_one_name_are_equal_and_independent_of_the_global_state() -> None:
    np.random.seed(1)
    first = generator(7, "x").random(4)
    np.random.seed(2)
    assert np.array_equal(first, generator(7, "x").random(4))
    assert isinstance(seed_sequence(7), np.random.SeedSequence)
