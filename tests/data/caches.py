"""Prepared caches of the small demo, with a stand-in for the speaker encoder; slim to import, for processes of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.data.small_corpora import SMALL
from tune_accent.base.progress import silent
from tune_accent.config import speech
from tune_accent.data.audio import Wave
from tune_accent.data.corpus import ensure_corpus
from tune_accent.data.prepared import Prepared, prepare


def spectrum(wave: Wave) -> npt.NDArray[np.float32]:
    """A stand-in for the speaker encoder: the energy in 8 bands."""
    bands: npt.NDArray[np.float64] = np.log(np.abs(np.fft.rfft(wave, 4096)[:2048]).reshape(8, -1).sum(axis=1) + 1e-6)
    return bands.astype(np.float32)


def tokens(text: str) -> list[int]:
    return list(text.encode())


def never(*_: Any) -> Any:
    raise AssertionError("a second call computes nothing")


def config(root: Path, **changes: Any) -> speech.Data:
    return speech.Data(root=str(root), source=SMALL, codec=speech.MfccPq(codewords=16)).model_copy(update=changes)


def prepared(cfg: speech.Data, seed: int = 0, model: str = "model", embed: Callable[..., Any] = spectrum) -> Prepared:
    corpus = ensure_corpus(cfg, 0, silent)
    tokenize = never if embed is never else tokens
    return prepare(corpus, cfg, seed, embed=embed, tokenize=tokenize, embedder_fingerprint=model, progress=silent)


class Encoding:
    """`spectrum`, counted; at the `last` utterance it is interrupted."""

    def __init__(self, last: int | None = None) -> None:
        self.count, self.last = 0, last

    def __call__(self, wave: Wave) -> npt.NDArray[np.float32]:
        self.count += 1
        if self.count == self.last:
            raise KeyboardInterrupt
        return spectrum(wave)
