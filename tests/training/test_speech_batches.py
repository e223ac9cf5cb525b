"""Batches: what a step sees is drawn from the generator alone, and a ∅-batch always holds the speaker structure."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from tune_accent.base.errors import DataError
from tune_accent.config.schema import NullBatch, Training
from tune_accent.data.speech import SpeechSampler, training_rows

HELD = 0


def table(accents: int = 3, speakers: int = 4, utterances: int = 6) -> pd.DataFrame:
    """Train speakers of each accent, plus one val speaker; fold = utterance number mod 3."""
    rows = [
        {"speaker": f"a{a}s{s}", "accent": f"a{a}", "split": "val" if s == speakers else "train", "fold": u % 3}
        for a in range(accents)
        for s in range(speakers + 1)
        for u in range(utterances)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    "shape", [NullBatch(), NullBatch(speakers=2, utterances=3), NullBatch(accents=2, speakers=4, utterances=4)]
)
def test_null_batches_hold_the_speaker_structure(shape: NullBatch) -> None:
    frame = table()
    sampler = SpeechSampler(frame, HELD, Training(batch_size=5, null_batch=shape))
    for step in sampler.epoch(np.random.default_rng(0)):
        chosen = frame.iloc[step.null]
        speakers_of = chosen.groupby("accent")["speaker"].nunique()
        assert len(speakers_of) == (shape.accents or 3)
        assert (speakers_of == shape.speakers).all()
        assert set(Counter(chosen["speaker"]).values()) == {shape.utterances}
        assert len(set(step.null)) == len(step.null)


def test_accented_batches_take_every_training_row_once() -> None:
    frame = table()
    sampler = SpeechSampler(frame, HELD, Training(batch_size=7))
    steps = list(sampler.epoch(np.random.default_rng(1)))
    assert len(steps) == sampler.steps
    assert sorted(np.concatenate([step.accented for step in steps])) == sorted(training_rows(frame, HELD))


def test_the_voice_is_another_utterance_of_the_same_speaker() -> None:
    frame = table()
    for step in SpeechSampler(frame, HELD, Training(batch_size=7)).epoch(np.random.default_rng(2)):
        assert (step.voices != step.accented).all()
        assert (frame["speaker"].to_numpy()[step.voices] == frame["speaker"].to_numpy()[step.accented]).all()


def test_neither_held_fold_nor_val_speakers_are_trained_on() -> None:
    frame = table()
    for step in SpeechSampler(frame, HELD, Training(batch_size=7)).epoch(np.random.default_rng(3)):
        chosen = frame.iloc[np.concatenate([step.accented, step.voices, step.null])]
        assert set(chosen["split"]) == {"train"}
        assert HELD not in set(chosen["fold"])


def test_steps_per_epoch_bounds_the_epoch() -> None:
    sampler = SpeechSampler(table(), HELD, Training(batch_size=5, steps_per_epoch=4))
    steps = list(sampler.epoch(np.random.default_rng(0)))
    assert [len(step.accented) for step in steps] == [5, 5, 5, 5]


def test_equal_generators_give_equal_epochs() -> None:
    sampler = SpeechSampler(table(), HELD, Training(batch_size=7))
    first, second = (list(sampler.epoch(np.random.default_rng(9))) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert (a.accented == b.accented).all() and (a.voices == b.voices).all() and (a.null == b.null).all()


def test_a_speaker_with_one_training_utterance_is_named() -> None:
    with pytest.raises(DataError, match="a0s0"):
        SpeechSampler(table(utterances=2), HELD, Training())


def test_one_training_speaker_per_accent_is_refused() -> None:
    with pytest.raises(DataError, match="two training speakers"):
        SpeechSampler(table(speakers=1), HELD, Training())
