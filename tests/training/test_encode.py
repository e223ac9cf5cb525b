"""Encoding any split with any S and A: neutral inputs are the search's to the bit, and what is given arrives."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import torch

from tune_accent.base.errors import DataError
from tune_accent.config.load import resolve
from tune_accent.config.schema import Experiment
from tune_accent.evaluation import Protocol
from tune_accent.training.encode import Given, Representation, represent
from tune_accent.training.measure import base_loss, trial_protocol
from tune_accent.training.protocol import protocol
from tune_accent.training.trainer import TrialRun, train
from tune_accent.training.voices import other_rows

if TYPE_CHECKING:
    from tune_accent.training.inputs import TrialData


@pytest.fixture(scope="module")
def started(small_spec: Experiment, small_data: TrialData) -> Iterator[TrialRun]:
    run = train(resolve(small_spec, {"training.steps_per_epoch": 1}), small_data)
    next(run)
    run.trial.train(small_data, False)
    yield run
    run.close()


def of(run: TrialRun, splits: tuple[str, ...], scored: str | None = None, given: Given | None = None) -> Representation:
    return represent(run.spec, run.data, run.trial.heads, splits=splits, scored=scored, given=given or Given())


def z_of(seen: Representation, rows: np.ndarray) -> np.ndarray:
    assert seen.z is not None
    return seen.z[np.searchsorted(seen.rows, rows)]


def test_a_split_is_encoded_to_the_same_bits_beside_another(started: TrialRun) -> None:
    search, final = represent(started.spec, started.data, started.trial.heads), of(started, ("train", "test"), "test")
    split = started.data.speech.table["split"].to_numpy()
    train_rows = np.flatnonzero(split == "train")
    assert np.array_equal(z_of(search, train_rows), z_of(final, train_rows))
    assert set(split[final.rows]) == {"train", "test"} and set(split[search.rows]) == {"train", "val"}
    assert final.loss != search.loss and math.isfinite(final.loss.codebook0)
    assert math.isnan(of(started, ("test",)).loss.codebook0), "nothing was scored"


def test_the_voice_that_is_given_arrives(started: TrialRun) -> None:
    table = started.data.speech.table
    test = np.flatnonzero(table["split"] == "test")
    voices = np.full(len(table), -1, dtype=np.int64)
    voices[test] = other_rows(table, test, 3, "voices")
    neutral, given = of(started, ("test",)), of(started, ("test",), given=Given(voices=voices))
    assert not np.isclose(z_of(neutral, test), z_of(given, test)).all(1).any()
    others = voices.copy()
    others[test[1::2]] = voices[test[:-1:2]]
    moved = of(started, ("test",), given=Given(voices=others))
    same = np.isclose(z_of(moved, test), z_of(given, test), atol=1e-6).all(1)
    assert np.array_equal(same, (others == voices)[test]) and 0.5 <= same.mean() < 0.9


def test_the_accent_that_is_given_arrives(started: TrialRun) -> None:
    """A row of zeros is A = ∅; another row of the table moves the utterances that it is given to, and no other."""
    table, heads = started.data.speech.table, started.trial.heads
    kept = heads.table.weight.detach().clone()
    rows = np.flatnonzero(table["split"] == "test")
    accents = (np.arange(len(table)) % 2).astype(np.int64)
    with torch.no_grad():
        heads.table.weight.zero_()
        heads.table.weight[1] = 0.5
    neutral, given = of(started, ("test",)), of(started, ("test",), given=Given(accents=accents))
    with torch.no_grad():
        heads.table.weight.copy_(kept)
    same = np.isclose(z_of(neutral, rows), z_of(given, rows), atol=1e-6).all(1)
    assert np.array_equal(same, accents[rows] == 0)
    with pytest.raises(ValueError, match="give the heads"):
        represent(started.spec, started.data, None, given=Given(accents=accents))


def test_the_base_loss_is_of_the_split_that_is_asked_for(started: TrialRun) -> None:
    val, test = (base_loss(started.spec, started.data, started.trial, split) for split in ("val", "test"))
    assert val != test
    assert base_loss(started.spec, started.data, started.trial) == val


def table(speakers: int = 3, utterances: int = 4) -> pd.DataFrame:
    names = [(f"s{s}", f"s{s}u{u}") for s in range(speakers) for u in range(utterances)]
    return pd.DataFrame(names, columns=["speaker", "utt_id"])


def test_a_voice_is_another_utterance_of_the_same_speaker() -> None:
    frame, rows = table(), np.arange(12)
    drawn = other_rows(frame, rows, 0, "voices")
    speakers = frame["speaker"].to_numpy()
    assert (drawn != rows).all() and (speakers[drawn] == speakers).all()
    assert np.array_equal(drawn[::-1], other_rows(frame, rows[::-1], 0, "voices")), "the order of the rows does not matter"
    assert not np.array_equal(drawn, other_rows(frame, rows, 1, "voices"))
    assert not np.array_equal(drawn, other_rows(frame, rows, 0, "other voices"))
    assert set(other_rows(frame, rows[2:4], 0, "voices").tolist()) == {2, 3}, "among the rows that are asked for"


def test_a_speaker_with_one_utterance_is_named() -> None:
    with pytest.raises(DataError, match="s1"):
        other_rows(table(), np.array([0, 1, 4]), 0, "voices")


def test_a_trial_an_audit_and_the_paper_measure_alike(small_spec: Experiment, small_data: TrialData) -> None:
    speech, chosen = small_data.speech, small_spec.evaluation
    bare = protocol(small_spec, speech.gate_accents, speech.held_fold)
    gate = tuple(speech.gate_accents)
    assert bare == Protocol(8, chosen.utterances, 1, (0.1,), 50, permutations=0, gate_accents=gate, held_fold=0)
    assert trial_protocol(small_spec, small_data) == protocol(small_spec, speech.gate_accents, 0, secondary=False)
    raw = trial_protocol(small_spec, small_data, raw=True)
    assert not raw.intervals and not raw.text_drop and raw.score_split == "val"
    paper = protocol(small_spec, speech.gate_accents, 0, permutations=99, score_split="test")
    assert (paper.permutations, paper.score_split, paper.intervals, paper.secondary) == (99, "test", True, True)
