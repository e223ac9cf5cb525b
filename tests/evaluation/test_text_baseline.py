"""Text-only baseline: found where accents use other words, at chance where they do not, none where all read the same."""

from __future__ import annotations

import json
import unicodedata
from importlib import import_module

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score

from tests.evaluation.simulated_codes import make_table
from tune_accent.base.errors import DataError
from tune_accent.evaluation.protocol import Protocol
from tune_accent.evaluation.text_baseline import TextBaseline, normal, text_baseline, text_ceiling

PROTOCOL = Protocol(bootstrap=500, permutations=999)
TABLE = make_table(utterances=9)
COMMON = [
    "então",
    "ele",
    "falou",
    "que",
    "amanhã",
    "não",
    "vai",
    "dar",
    "porque",
    "já",
    "é",
    "tarde",
    "avó",
    "está",
    "São João",
    "estação",
]
REGIONAL = [
    ["guri", "bergamota", "bah", "tchê", "piá"],
    ["macaxeira", "oxente", "mainha", "jerimum", "vôte"],
    ["aipim", "maneiro", "mermão", "caô", "irado"],
]


def conversation(table: pd.DataFrame, share: float, seed: int = 0) -> list[str]:
    """Seven words per utterance; of the regional ones, `share` are those of the speaker's own accent, the others of any."""
    generator = np.random.default_rng(seed)
    texts = []
    for accent in pd.factorize(table["accent"])[0]:
        own = REGIONAL[accent if generator.random() < share else generator.integers(3)]
        texts.append(" ".join([*generator.choice(COMMON, 6), generator.choice(own)]))
    return texts


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_dialect_words_are_found(seed: int) -> None:
    found = text_baseline(conversation(TABLE, 0.8, seed), TABLE, PROTOCOL, seed)
    assert found.accent_f1.value is not None
    assert found.accent_f1.low is not None
    assert found.accent_f1.p is not None
    assert found.accent_f1.value > 0.7
    assert found.accent_f1.low > 0.6
    assert found.accent_f1.p <= 0.005
    assert found.accent_f1.n == 15


def test_words_that_say_nothing_are_at_chance_in_most_draws() -> None:
    values, covered, small = [], 0, 0
    table = make_table(train=6, utterances=6)
    for seed in range(20):
        figure = text_baseline(conversation(table, 0.0, seed), table, Protocol(bootstrap=300, permutations=199), seed).accent_f1
        assert figure.value is not None
        assert figure.low is not None
        assert figure.high is not None
        assert figure.chance is not None
        assert figure.p is not None
        values.append(figure.value - figure.chance)
        covered += figure.low <= figure.chance <= figure.high
        small += figure.p <= 0.05
    assert abs(np.mean(values)) < 0.04
    assert covered >= 16
    assert small <= 4


def test_read_speech_has_no_value_and_says_why() -> None:
    read = [f"O céu está azul e a avó foi à feira número {text}." for text in TABLE["text_id"]]
    found = text_baseline(read, TABLE, PROTOCOL)
    assert found.accent_f1.value is None
    assert found.accent_f1.reason is not None
    assert "same texts" in found.accent_f1.reason
    assert "chance is 0.333" in found.accent_f1.reason
    assert found.accent_balanced_accuracy == found.accent_f1
    some = np.random.default_rng(0).random(len(TABLE)) > 0.1  # recordings that are missing do not make texts differ
    kept = TABLE[some].reset_index(drop=True)
    assert text_baseline([read[i] for i in np.flatnonzero(some)], kept, PROTOCOL).accent_f1.value is None


def test_without_transcripts_there_is_no_value() -> None:
    for empty in (None, "", "  "):
        reason = "the utterances have no transcripts"
        assert text_baseline([empty] * len(TABLE), TABLE, PROTOCOL).accent_f1.reason == reason


def test_ceiling() -> None:
    generator = np.random.default_rng(0)
    accents = generator.integers(0, 3, 200)
    texts = [f"t{number}" for number in generator.integers(0, 12, 200)]
    shares = pd.crosstab(np.asarray(texts), accents, normalize="columns")
    guess = [int(shares.loc[text].to_numpy().argmax()) for text in texts]
    assert text_ceiling(texts, accents) == pytest.approx(balanced_accuracy_score(accents, guess))
    assert text_ceiling(["a", "b"] * 3, np.repeat([0, 1, 2], 2)) == pytest.approx(1 / 3)
    assert text_ceiling(["a", "b", "c"], np.arange(3)) == 1.0


def test_agreement_with_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module(text_baseline.__module__), "STRENGTHS", (1.0,))
    texts = conversation(TABLE, 0.5)
    found = text_baseline(texts, TABLE, Protocol(intervals=False))
    lines, accents = np.asarray(texts, dtype=object), TABLE["accent"].to_numpy()
    train, val = (TABLE["split"] == "train").to_numpy(), (TABLE["split"] == "val").to_numpy()
    words = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)
    plain = LogisticRegression(class_weight="balanced", max_iter=1000).fit(words.fit_transform(lines[train]), accents[train])
    predicted = plain.predict(words.transform(lines[val]))
    assert found.accent_f1.value == pytest.approx(f1_score(accents[val], predicted, average="macro"))
    assert found.accent_balanced_accuracy.value == pytest.approx(balanced_accuracy_score(accents[val], predicted))


def test_unicode_form_case_and_spaces_make_no_difference() -> None:
    texts = conversation(TABLE, 0.5)
    reference = text_baseline(texts, TABLE, PROTOCOL)
    decomposed = [f" {unicodedata.normalize('NFD', text).upper()}\n" for text in texts]
    assert decomposed[0] != texts[0]
    assert text_baseline(decomposed, TABLE, PROTOCOL) == reference
    assert normal("A  avó,\tÀ sombra ") == "a avó, à sombra"
    assert normal("avó") != normal("avô")  # accents are kept: they are letters of the language


def test_row_order_and_names_make_no_difference() -> None:
    texts = conversation(TABLE, 0.4)
    reference = text_baseline(texts, TABLE, PROTOCOL, seed=3)
    order = np.random.default_rng(0).permutation(len(TABLE))
    assert text_baseline([texts[i] for i in order], TABLE.iloc[order], PROTOCOL, seed=3) == reference
    renamed = TABLE.assign(
        speaker=TABLE["speaker"].map({name: f"x{i}" for i, name in enumerate(sorted(set(TABLE["speaker"]), reverse=True))}),
        accent=TABLE["accent"].map({"accent0": "sul", "accent1": "nordeste", "accent2": "carioca"}),
    )
    assert text_baseline(texts, renamed, PROTOCOL, seed=3) == reference
    assert json.loads(json.dumps(reference.to_dict(), allow_nan=False))["accent_f1"]["n"] == 15


def test_test_speakers_are_not_read() -> None:
    texts: list[str | None] = [*conversation(TABLE, 0.4)]
    without = [None if split == "test" else text for text, split in zip(texts, TABLE["split"], strict=True)]
    reference: TextBaseline = text_baseline(texts, TABLE, PROTOCOL)
    assert text_baseline(without, TABLE, PROTOCOL) == reference


def test_bad_input_is_one_error() -> None:
    texts: list[str | None] = [*conversation(TABLE, 0.4)]
    with pytest.raises(DataError, match="texts for"):
        text_baseline(texts[:-1], TABLE, PROTOCOL)
    texts[3] = None
    with pytest.raises(DataError, match="'a0s00u03' has no transcript"):
        text_baseline(texts, TABLE, PROTOCOL)
    with pytest.raises(DataError, match="no column accent"):
        text_baseline(texts, TABLE.drop(columns=["accent"]), PROTOCOL)
