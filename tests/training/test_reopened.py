"""A worker of a search opens what was prepared: without the corpus, and the same as who prepared it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from tune_accent.base.files import sha256_file, write_json
from tune_accent.config.schema import Experiment
from tune_accent.data import cache_format, corpus
from tune_accent.training import preparation
from tune_accent.training.preparation import PreparedRecord, ensure_prepared, open_inputs, record_path

if TYPE_CHECKING:
    from tune_accent.training.inputs import TrialData


@pytest.fixture
def recorded(small_spec: Experiment, small_data: TrialData) -> PreparedRecord:
    """As `ensure_prepared` leaves it."""
    root = Path(small_spec.data.root)
    manifest, splits = (sha256_file(root / name) for name in ("manifest.jsonl", "splits.json"))
    request, cache = preparation._request(small_spec), small_data.speech.key
    record = PreparedRecord(request, manifest, splits, cache, small_data.backbone.fingerprint)
    write_json(record_path(small_spec), asdict(record))
    return record


def test_a_worker_needs_no_corpus(
    small_spec: Experiment, small_data: TrialData, recorded: PreparedRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "ensure_corpus", lambda *_: pytest.fail("the corpus is not needed"))
    again = open_inputs(small_spec, torch.device("cpu"))
    assert again.speech.table.equals(small_data.speech.table)
    np.testing.assert_array_equal(again.speech.codes, small_data.speech.codes)
    np.testing.assert_array_equal(again.accent_labels, small_data.accent_labels)
    np.testing.assert_array_equal(again.speaker_labels, small_data.speaker_labels)
    assert torch.equal(again.mean_speaker, small_data.mean_speaker)


def test_with_other_libraries_it_is_prepared_again(
    small_spec: Experiment, recorded: PreparedRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ensure_prepared(small_spec, show=False) == recorded
    monkeypatch.setattr(cache_format, "libraries", lambda: {"numpy": "0"})
    assert preparation._known_record(small_spec) is None
