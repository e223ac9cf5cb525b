"""How accent and leakage are measured: one frozen object that works bare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PROTOCOL_VERSION = 3  # raised whenever a number would change for the same representation and seed


@dataclass(frozen=True)
class Protocol:
    """Choices of the evaluation; M and U clip to what the data has, and `Evaluation.used` says what was used.

    Args:
        speakers: M, speakers per accent in a leakage probe (one M for seen and unseen: balanced accuracy depends on it).
        utterances: U, utterances per speaker in a leakage probe; None takes all.
        draws: R, seeded draws of M speakers and U utterances that are averaged; one where a draw can only take everything.
        c_grid: inverse L2 strengths; chosen by inner cross-validation, grouped by speaker (accent) or by fold (speaker).
        bootstrap: resamples of speakers behind every interval.
        permutations: B of the permutation null of macro-F1; 0 takes the F1 of the expected confusion as chance, no p-value (in-trial reports).
        gate_accents: the accents that count; None takes all with two speakers in train and in `score_split`.
        held_fold: fold of train speakers on which `seen` leakage is scored, fitted on the others; None cross-fits over all folds.
        score_split: whose speakers are the unseen ones; rows of the other split are never read.
        text_drop: measure the text drop.
        intervals: compute intervals.
        secondary: fit one more probe, of all accents that have a train speaker, for the recall of the secondary ones.
        threads: of BLAS; a figure may depend on it in the last digit, as every sum in floating point does.
    """

    speakers: int = 8
    utterances: int | None = None
    draws: int = 3
    c_grid: tuple[float, ...] = (0.01, 0.1, 1.0)
    bootstrap: int = 2000
    permutations: int = 999
    gate_accents: tuple[str, ...] | None = None
    held_fold: int | None = None
    score_split: Literal["val", "test"] = "val"
    text_drop: bool = True
    intervals: bool = True
    secondary: bool = True
    threads: int = 1

    def __post_init__(self) -> None:
        if self.speakers < 2:
            raise ValueError(f"speakers must be at least 2, got {self.speakers}")
        if self.utterances is not None and self.utterances < 2:
            raise ValueError(f"utterances must be at least 2 or None, got {self.utterances}")
        if min(self.draws, self.bootstrap, self.threads) < 1 or self.permutations < 0:
            raise ValueError("draws, bootstrap and threads must be at least 1, permutations at least 0")
        if not self.c_grid or min(self.c_grid) <= 0 or tuple(sorted(set(self.c_grid))) != tuple(self.c_grid):
            raise ValueError(f"c_grid must be positive and ascending, got {self.c_grid}")
        if self.score_split not in ("val", "test"):
            raise ValueError(f"score_split must be 'val' or 'test', got {self.score_split!r}")
