"""The demo corpus carries accent that can be heard in speakers never heard before; without that a search would be over noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tune_accent.base.progress import silent
from tune_accent.config import speech
from tune_accent.data.audio import read_audio
from tune_accent.data.codec import MfccPq, features
from tune_accent.data.corpus import ensure_corpus

CHANCE = 1 / 3


@pytest.mark.slow
def test_accent_of_unseen_speakers_is_in_the_mfcc_and_in_the_codes(tmp_path: Path) -> None:
    corpus = ensure_corpus(speech.Data(root=str(tmp_path / "demo")), 0, silent)
    rows = corpus.manifest.rows
    waves = [read_audio(corpus.root / row.audio_path) for row in rows]
    accents = np.array([row.accent for row in rows])
    train = np.array([corpus.splits.split[row.speaker] == "train" for row in rows])
    codec = MfccPq.fit([wave for wave, fits in zip(waves, train, strict=True) if fits], 64, 0)
    spread = np.array([features(wave).std(axis=0) for wave in waves])
    histogram = np.sqrt([np.bincount(codec.encode(wave)[:, :4].ravel(), minlength=64) / len(wave) for wave in waves])
    assert macro_f1(spread, accents, train) > CHANCE + 0.15
    assert macro_f1(histogram, accents, train) > CHANCE + 0.25


def macro_f1(values: npt.NDArray[np.float64], accents: npt.NDArray[np.str_], train: npt.NDArray[np.bool_]) -> float:
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=1000)).fit(values[train], accents[train])
    return float(f1_score(accents[~train], probe.predict(values[~train]), average="macro"))
