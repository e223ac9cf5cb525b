"""Text-only baseline: the accent of an unseen speaker from the words alone (character n-gram TF-IDF of the transcript).

Speakers of a region may talk of other things in other words. What a transcript tells of the accent, no voice is needed for, and an
accent F1 of z means something only above it. Where every accent reads the same texts it is at chance by construction and is not measured.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from tune_accent.base.errors import DataError
from tune_accent.evaluation.accent import Confusions, accent_figures, gate_position, inner_groups, scored_accents, tally
from tune_accent.evaluation.figures import Figure
from tune_accent.evaluation.probes import blas_threads, choose
from tune_accent.evaluation.protocol import Protocol
from tune_accent.evaluation.table import Floats, Ints, Rows, read_rows

NGRAMS = (2, 4)  # characters, inside words and their borders
FEATURES = 50_000  # the most frequent n-grams of the train transcripts
STRENGTHS = (0.1, 1.0, 10.0)  # TF-IDF rows have length 1, not √D as the standardised rows of `Protocol.c_grid`
SAME = 0.05  # balanced accuracy above chance within which texts are the same up to recordings that are missing


@dataclass(frozen=True)
class TextBaseline:
    """Accent of unseen speakers from their transcripts, macro over the gate accents; or no value and the reason."""

    accent_f1: Figure
    accent_balanced_accuracy: Figure

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {field.name: getattr(self, field.name).to_dict() for field in fields(self)}


def text_baseline(texts: Sequence[str | None], table: pd.DataFrame, protocol: Protocol, seed: int = 0) -> TextBaseline:
    """Measure how far the transcripts alone give the accent away.

    L2 logistic regression, balanced classes, C by cross-validation grouped by speaker; vocabulary, weights and C are of train speakers only.

    Args:
        texts: N transcripts, None where there is none. Unicode forms, case and spaces make no difference.
        table: N rows, as for `evaluate`.
        protocol: gate accents, split, intervals, permutations; its strengths are of another kind of row.
        seed: of bootstrap and permutations.

    Raises:
        DataError: the input breaks a rule, or some utterances have a transcript and others have none.
    """
    if len(texts) != len(table):
        raise DataError(f"there are {len(texts)} texts for {len(table)} rows", where="texts", fix="give one text per row")
    numbers = np.arange(len(table), dtype=np.float64)[:, None]  # in the place of z: which text belongs to a canonical row
    rows = read_rows(numbers, table, protocol)
    own = [normal(texts[int(number)]) for number in rows.z[:, 0]]
    reason = _unmeasurable(own, rows, table)
    if reason is not None:
        return TextBaseline(Figure(None, reason=reason), Figure(None, reason=reason))
    seeds = np.random.SeedSequence(seed).spawn(2)
    with blas_threads(protocol.threads):
        found = _confusions(own, rows)
        return TextBaseline(*accent_figures(found, protocol, (seeds[0], seeds[1])))


def normal(text: str | None) -> str:
    """NFC, case folded, single spaces; empty where there is no text."""
    return " ".join(unicodedata.normalize("NFC", (text or "").casefold()).split())


def text_ceiling(texts: Sequence[str], accents: Ints) -> float:
    """Balanced accuracy of the best guess at the accent by who knows which text was read: mean over accents of P(text | accent) where it is largest.

    Args:
        texts: one per utterance; equal ones count as the same text.
        accents: (n,) in 0 … K - 1, each of which occurs.

    Returns:
        1/K where every accent reads every text equally often, 1 where no two accents share a text.
    """
    number, names = pd.factorize(np.asarray(texts, dtype=object))
    counts = np.zeros((accents.max() + 1, len(names)))
    np.add.at(counts, (accents, number), 1.0)
    return float((counts / counts.sum(axis=1, keepdims=True)).max(axis=0).sum() / len(counts))


def _unmeasurable(own: list[str], rows: Rows, table: pd.DataFrame) -> str | None:
    """Why there is no value, or None."""
    missing = [index for index, text in enumerate(own) if not text]
    if len(missing) == len(own):
        return "the utterances have no transcripts"
    if missing:
        name = table["utt_id"].iloc[int(rows.z[missing[0], 0])]
        what = f"utterance {name!r} has no transcript, as {len(missing)} of {len(own)}"
        raise DataError(what, where="texts", fix="give every utterance its transcript, or none")
    at = rows.gate_rows(scored=False)
    ceiling = text_ceiling([own[i] for i in at], gate_position(rows, at))
    if ceiling > 1 / len(rows.gate) + SAME:
        return None
    return (
        "every accent reads the same texts, so that a baseline of text alone must be at chance: knowing the text by heart "
        f"gives balanced accuracy {ceiling:.3f} of train utterances, chance is {1 / len(rows.gate):.3f}"
    )


def _confusions(own: list[str], rows: Rows) -> Confusions:
    """Predictions on the scored speakers, at the strength that does best on held-out train speakers."""
    train, scored = rows.gate_rows(scored=False), rows.gate_rows(scored=True)
    labels, groups = gate_position(rows, train), inner_groups(rows, train)
    texts = np.asarray(own, dtype=object)
    held = [groups == fold for fold in np.unique(groups)]
    logits = [_logits(texts[train[~out]], labels[~out], texts[train[out]], STRENGTHS) for out in held]
    best = choose(logits, [labels[out] for out in held], len(STRENGTHS))
    predicted = _logits(texts[train], labels, texts[scored], STRENGTHS[best : best + 1])[:, 0].argmax(axis=1)
    return Confusions(tally(rows, scored, predicted), scored_accents(rows))


def _logits(known: Iterable[str], labels: Ints, unknown: Iterable[str], strengths: Sequence[float]) -> Floats:
    """Log probabilities (unknown, S, K) by TF-IDF and logistic regressions of the known texts."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    words = TfidfVectorizer(analyzer="char_wb", ngram_range=NGRAMS, max_features=FEATURES, sublinear_tf=True, lowercase=False)
    rows, others = words.fit_transform(known), words.transform(unknown)
    models = [LogisticRegression(C=c, class_weight="balanced", max_iter=1000).fit(rows, labels) for c in strengths]
    return np.stack([model.predict_log_proba(others) for model in models], axis=1)
