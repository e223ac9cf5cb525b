"""Leakage S → A: found where the embedding carries accent, at chance where it holds speakers alone."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.evaluation.simulated_codes import make_code, make_table
from tune_accent.base.errors import DataError
from tune_accent.evaluation.protocol import Protocol
from tune_accent.evaluation.voice_accent import voice_accent

PROTOCOL = Protocol(bootstrap=500, permutations=999)
TABLE = make_table()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_embeddings_with_accent_are_found(seed: int) -> None:
    found = voice_accent(make_code(TABLE, accent=0.7, speaker=1.0, seed=seed), TABLE, PROTOCOL, seed)
    for figure in (found.accent_f1, found.accent_balanced_accuracy, found.speaker_mean_f1):
        assert figure.value is not None
        assert figure.low is not None
        assert figure.value > 0.7
        assert figure.low > 0.4
        assert figure.n == 15
    assert found.accent_f1.p is not None
    assert found.accent_f1.p <= 0.005


def test_embeddings_of_speakers_alone_are_at_chance_in_most_draws() -> None:
    covered, small = np.zeros(2), np.zeros(2)
    table = make_table(train=8, utterances=6)
    for seed in range(30):
        code = make_code(table, speaker=1.0, dims=16, seed=seed)
        found = voice_accent(code, table, Protocol(bootstrap=300, permutations=199), seed)
        for side, figure in enumerate((found.accent_f1, found.speaker_mean_f1)):
            assert figure.low is not None
            assert figure.high is not None
            assert figure.chance is not None
            assert figure.p is not None
            covered[side] += figure.low <= figure.chance <= figure.high
            small[side] += figure.p <= 0.05
    assert (covered >= 24).all()
    assert (small <= 5).all()


def test_a_mean_of_many_recordings_gives_more_away_than_the_model_is_given() -> None:
    single, mean = [], []
    for seed in range(6):
        found = voice_accent(
            make_code(TABLE, accent=0.5, speaker=0.3, noise=2.0, seed=seed), TABLE, replace(PROTOCOL, intervals=False)
        )
        single.append(found.accent_f1.value)
        mean.append(found.speaker_mean_f1.value)
    assert np.mean(np.asarray(mean, dtype=np.float64)) > np.mean(np.asarray(single, dtype=np.float64)) + 0.1


def test_agreement_with_scikit_learn() -> None:
    code = make_code(TABLE, accent=0.4, speaker=1.0)
    found = voice_accent(code, TABLE, Protocol(c_grid=(0.1,), intervals=False, permutations=0))
    train, val = (TABLE["split"] == "train").to_numpy(), (TABLE["split"] == "val").to_numpy()
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", tol=1e-8, max_iter=2000))
    predicted = plain.fit(code[train], TABLE["accent"][train]).predict(code[val])
    assert found.accent_f1.value == pytest.approx(f1_score(TABLE["accent"][val], predicted, average="macro"))
    assert found.accent_balanced_accuracy.value == pytest.approx(balanced_accuracy_score(TABLE["accent"][val], predicted))
    means = TABLE.assign(**{f"d{i}": code[:, i] for i in range(code.shape[1])}).groupby("speaker")
    voices = means[[f"d{i}" for i in range(code.shape[1])]].mean().to_numpy()
    accents, splits = means["accent"].first().to_numpy(), means["split"].first().to_numpy()
    predicted = plain.fit(voices[splits == "train"], accents[splits == "train"]).predict(voices[splits == "val"])
    assert found.speaker_mean_f1.value == pytest.approx(f1_score(accents[splits == "val"], predicted, average="macro"))


def test_row_order_names_and_scale_make_no_difference() -> None:
    code = make_code(TABLE, accent=0.4, speaker=1.0)
    reference = voice_accent(code, TABLE, PROTOCOL, seed=3)
    order = np.random.default_rng(0).permutation(len(TABLE))
    assert voice_accent(code[order], TABLE.iloc[order], PROTOCOL, seed=3) == reference
    renamed = TABLE.assign(
        speaker=TABLE["speaker"].map({name: f"x{i}" for i, name in enumerate(sorted(set(TABLE["speaker"]), reverse=True))}),
        accent=TABLE["accent"].map({"accent0": "sul", "accent1": "nordeste", "accent2": "carioca"}),
    )
    assert voice_accent(code, renamed, PROTOCOL, seed=3) == reference
    scaled = voice_accent(code * 1e-3, TABLE, PROTOCOL, seed=3)
    assert scaled.accent_f1.value == pytest.approx(reference.accent_f1.value, abs=1e-9)
    assert json.loads(json.dumps(reference.to_dict(), allow_nan=False))["accent_f1"]["n"] == 15


def test_test_speakers_are_not_read() -> None:
    code = make_code(TABLE, accent=0.4)
    spoiled = np.where((TABLE["split"] == "test").to_numpy()[:, None], np.nan, code)
    assert voice_accent(spoiled, TABLE, PROTOCOL) == voice_accent(code, TABLE, PROTOCOL)


def test_bad_input_is_one_error() -> None:
    code = make_code(TABLE)
    with pytest.raises(DataError, match="shape"):
        voice_accent(code[:-1], TABLE, PROTOCOL)
    code[4, 2] = np.nan
    with pytest.raises(DataError, match="a0s00u04"):
        voice_accent(code, TABLE, PROTOCOL)
    one = make_table(accents=1)
    with pytest.raises(DataError, match="at least 2"):
        voice_accent(make_code(one), one, PROTOCOL)
