"""Batches: what a step sees is drawn from the generator alone, and a ∅-batch always holds the speaker structure."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from tune_accent.base.errors import DataError
from tune_accent.config.schema import NullBatch, Training
from tune_accent.data.speech import SpeechSampler, StepRows, mean_of_rows, numbers_of, training_rows

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


def copied(frame: pd.DataFrame) -> pd.DataFrame:
    """With a copy of every training row at its end, as a prepared cache has them."""
    frame = frame.assign(utt_id=[f"u{row}" for row in range(len(frame))], copy_of=None)
    trained = frame.iloc[training_rows(frame, HELD)]
    copies = trained.assign(utt_id=trained["utt_id"] + "~1", copy_of=trained["utt_id"], split="train copy")
    return pd.concat([frame, copies], ignore_index=True)


@pytest.mark.parametrize(
    ("copies", "training", "digest"),
    [
        (False, Training(batch_size=7), "acf7e5322d5dca796a52"),
        (True, Training(batch_size=7), "440492dae8c42dd905bb"),
        (
            True,
            Training(batch_size=5, steps_per_epoch=40, null_batch=NullBatch(accents=2, speakers=4, utterances=3)),
            "a1990870a7da52fd2749",
        ),
    ],
)
def test_the_draws_are_those_of_every_version_before(copies: bool, training: Training, digest: str) -> None:
    """Three epochs of a sampler that looked rows up by name; a search that is continued must go on with the same batches."""
    sampler = SpeechSampler(copied(table()) if copies else table(), HELD, training)
    drawn = hashlib.sha256()
    for seed in range(3):
        for step in sampler.epoch(np.random.default_rng(seed)):
            for rows in (step.accented, step.voices, step.null):
                drawn.update(rows.astype("<i8").tobytes() + b"|")
    assert drawn.hexdigest().startswith(digest)


def test_length_buckets_save_padding_and_leave_no_row_out() -> None:
    frame, lengths = table(), np.random.default_rng(0).integers(10, 200, size=5 * 3 * 6)
    plain = SpeechSampler(frame, HELD, Training(batch_size=7))
    sampler = SpeechSampler(frame, HELD, Training(batch_size=7, length_buckets=4), lengths)
    before, steps = (list(one.epoch(np.random.default_rng(1))) for one in (plain, sampler))
    assert sorted(np.concatenate([step.accented for step in steps])) == sorted(training_rows(frame, HELD))
    assert sorted(len(step.accented) for step in steps) == sorted(len(step.accented) for step in before)

    def padding(many: list[StepRows]) -> int:
        return sum(int(np.sum(lengths[step.accented].max() - lengths[step.accented])) for step in many)

    assert padding(steps) < 0.6 * padding(before)
    longest = [int(lengths[step.accented].max()) for step in steps]
    assert longest != sorted(longest), "batches come in random order"
    again = list(sampler.epoch(np.random.default_rng(1)))
    assert all((a.accented == b.accented).all() and (a.null == b.null).all() for a, b in zip(steps, again, strict=True))


def test_labels_and_means_of_many_rows_are_those_of_plain_python() -> None:
    rng = np.random.default_rng(0)
    names = [f"s{number}" for number in rng.integers(0, 9, size=500)]
    known = ["s1", "s3", "s7"]
    assert numbers_of(pd.Series(names), known).tolist() == [known.index(name) if name in known else -1 for name in names]
    values, rows = rng.standard_normal((500, 6)).astype(np.float32), np.flatnonzero(rng.random(500) < 0.7)
    plain = np.asarray(values[rows], dtype=np.float64).mean(axis=0)
    for chunk in (1, 64, 10_000):
        np.testing.assert_array_equal(mean_of_rows(values, rows, chunk), plain)
