"""What is measured and said once per data set: S → A, text alone, what it is too small for, what accent is confounded with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tune_accent.auditing.results import Records, array_fingerprint
from tune_accent.base.files import read_json, sha256_json
from tune_accent.config.speech import Data
from tune_accent.data.corpus import CONFOUNDS
from tune_accent.data.manifest import read_manifest
from tune_accent.data.prepared import Prepared
from tune_accent.evaluation import Figure
from tune_accent.evaluation.text_baseline import text_baseline
from tune_accent.evaluation.voice_accent import voice_accent

MINIMUM = {"accents": 3, "speakers per accent": 8, "texts": 30}  # of a data set that an audit can decide on


def voice_figures(speech: Prepared, records: Records) -> dict[str, Figure]:
    """Leakage S → A: accent of unseen speakers from the speaker embeddings of the frozen encoder, by what it is."""
    place = {name: row for row, name in enumerate(speech.table["utt_id"])}
    embeddings = np.asarray(speech.speaker_embeddings[[place[name] for name in records.table["utt_id"]]])

    def measure() -> Mapping[str, Any]:
        return voice_accent(embeddings, records.table, records.protocol, records.seed).to_dict()

    found = records.get("voice_accent", {"embeddings": array_fingerprint(embeddings)}, measure)
    return {
        "S → A: accent F1 from the speaker embedding of one utterance": Figure.from_dict(found["accent_f1"]),
        "S → A: accent F1 from the mean embedding of a speaker": Figure.from_dict(found["speaker_mean_f1"]),
    }


def text_figures(texts: Mapping[str, str], records: Records) -> dict[str, Figure]:
    """Text-only baseline: accent of unseen speakers from the transcripts, `texts` by utt_id."""
    own = [texts.get(name) for name in records.table["utt_id"]]

    def measure() -> Mapping[str, Any]:
        return text_baseline(own, records.table, records.protocol, records.seed).to_dict()

    found = records.get("text_baseline", {"texts": sha256_json(own)}, measure)
    return {"text alone: accent F1 from the transcripts": Figure.from_dict(found["accent_f1"])}


def transcripts(root: Path) -> dict[str, str]:
    """utt_id → transcript of the corpus in `root`."""
    return {row.utt_id: row.text for row in read_manifest(root).rows}


def small_data(table: pd.DataFrame, texts: Mapping[str, str]) -> list[str]:
    """What the data set has less of than an audit needs, a sentence each.

    Args:
        table: all utterances: utt_id, speaker, accent, text_id (nullable).
        texts: transcript by utt_id, counted where there is no text_id.
    """
    speakers = table.groupby("accent")["speaker"].nunique()
    fewest = str(speakers.idxmin())
    identities = [
        name if isinstance(name, str) else texts[utt] for utt, name in zip(table["utt_id"], table["text_id"], strict=True)
    ]
    found = {"accents": len(speakers), "speakers per accent": int(speakers[fewest]), "texts": len(set(identities))}
    return [
        f"Small data set: {found[what]} {what}{f' ({fewest})' if what == 'speakers per accent' else ''}; at least {least} are needed."
        for what, least in MINIMUM.items()
        if found[what] < least
    ]


def confound_words(cfg: Data) -> list[str]:
    """What the corpus's confounds.json says against comparing its accents, a sentence each; nothing for what is balanced."""
    reasons = {entry.partition(":")[0].strip(): entry.partition(":")[2].strip() for entry in cfg.allow_confounds}
    report: Mapping[str, Any] = read_json(Path(cfg.root) / CONFOUNDS)
    lines = []
    for variable, found in report.items():
        if found.get("blocks"):
            accepted = f" Accepted by the config: {reasons[variable]}." if variable in reasons else ""
            lines.append(f"Confound: accent goes with {variable} (Cramér's V {found['cramers_v']:.2f}).{accepted}")
        if found.get("limitation"):
            name, _, unit = variable.rpartition("_")
            lines.append(
                f"Limitation: {name} differs between accents (medians up to {found['spread']:.1f} {unit} apart, p {found['p']:.2g})."
            )
    return lines
