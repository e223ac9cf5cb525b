"""S given: the voice of a row is heard in another utterance of its speaker, so that S holds nothing of the row itself."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tune_accent.base.errors import DataError
from tune_accent.base.seeds import generator


def other_rows(table: pd.DataFrame, rows: np.ndarray, seed: int, consumer: str) -> np.ndarray:
    """For each of `rows` a different one of them of the same speaker, drawn by the utterance's own generator.

    Args:
        table: columns `utt_id`, `speaker`.
        rows: (N,) row numbers.
        seed: of the draws.
        consumer: name of the generators.

    Returns:
        (N,) int64. What an utterance is given depends on its id and on which rows its speaker has here, on nothing else.

    Raises:
        DataError: a speaker has a single utterance.
    """
    speakers, names = (table[column].to_numpy()[rows] for column in ("speaker", "utt_id"))
    rows_of = {name: np.sort(rows[speakers == name]) for name in np.unique(speakers)}
    lonely = [str(name) for name, own in rows_of.items() if len(own) < 2]
    if lonely:
        what = f"speakers with a single utterance, who have no other to take a voice from: {', '.join(lonely[:5])}"
        raise DataError(what, "manifest.jsonl", "drop these speakers, or add utterances of them")
    drawn = [
        generator(seed, consumer, str(name)).choice(rows_of[speaker][rows_of[speaker] != row])
        for row, speaker, name in zip(rows, speakers, names, strict=True)
    ]
    return np.array(drawn, dtype=np.int64)
