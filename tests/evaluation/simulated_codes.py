"""Simulated representations whose accent, speaker and text content is known by construction."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]


def make_table(
    accents: int = 3, train: int = 10, val: int = 5, test: int = 2, utterances: int = 12, folds: int = 3
) -> pd.DataFrame:
    """Read speech: every speaker reads the same texts; folds go by text."""
    rows = []
    for accent in range(accents):
        for speaker in range(train + val + test):
            split = "train" if speaker < train else "val" if speaker < train + val else "test"
            for text in range(utterances):
                name = f"a{accent}s{speaker:02d}"
                rows.append((f"{name}u{text:02d}", name, f"accent{accent}", f"text{text:02d}", split, text % folds))
    return pd.DataFrame(rows, columns=["utt_id", "speaker", "accent", "text_id", "split", "fold"])


def make_code(
    table: pd.DataFrame,
    accent: float = 0.0,
    speaker: float = 0.0,
    text: float = 0.0,
    dims: int = 32,
    noise: float = 1.0,
    seed: int = 0,
) -> Floats:
    """(N, dims): Gaussian noise plus a random direction per accent, speaker and text with the given amplitudes."""
    generator = np.random.default_rng(seed)
    code = noise * generator.normal(size=(len(table), dims))
    for column, amplitude in (("accent", accent), ("speaker", speaker), ("text_id", text)):
        number, names = pd.factorize(table[column])
        code += amplitude * generator.normal(size=(len(names), dims))[number]
    return code


def make_text_driven(table: pd.DataFrame, dims: int = 32, seed: int = 0) -> Floats:
    """A code in which an accent can only be read off words it has heard: one direction per (accent, text)."""
    return make_code(table.assign(text_id=table["accent"] + table["text_id"]), text=1.5, dims=dims, seed=seed)
