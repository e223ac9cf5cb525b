"""From (z, table) to checked arrays in a canonical order.

Rows are sorted by `utt_id`; speakers, accents and texts are numbered in the order in which they first appear. Every later step sees
numbers only, so no result can depend on the order of the rows or on a name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tune_accent.base.errors import DataError
from tune_accent.evaluation.protocol import Protocol

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

COLUMNS = ("utt_id", "speaker", "accent", "split", "fold")
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Rows:
    """Train and scored utterances of all accents, in canonical order. Indices below are positions in these arrays.

    Attributes:
        z: (N, D) representation.
        speaker, accent, text, fold: (N,) numbers; text is -1 where there is none, fold -1 in a gap.
        scored: (N,) whether the row belongs to the unseen speakers that are scored.
        gate: numbers of the accents that count.
        accent_names, speaker_names: name of each accent and speaker number.
        speaker_accent: (speakers,) accent of each speaker number.
    """

    z: Floats
    speaker: Ints
    accent: Ints
    text: Ints
    fold: Ints
    scored: Bools
    gate: tuple[int, ...]
    accent_names: tuple[str, ...]
    speaker_names: tuple[str, ...]
    speaker_accent: Ints

    def speakers_of(self, accent: int, scored: bool) -> Ints:
        """Numbers of the speakers of `accent`, ascending, among the scored or among the train rows."""
        return np.unique(self.speaker[(self.accent == accent) & (self.scored == scored)])

    def gate_rows(self, scored: bool) -> Ints:
        """Row indices of the gate accents, ascending, of the scored or of the train speakers."""
        return np.flatnonzero(np.isin(self.accent, self.gate) & (self.scored == scored))


def read_rows(z: npt.NDArray[Any], table: pd.DataFrame, protocol: Protocol) -> Rows:
    """Check `z` (N, D) and its `table`, and bring the rows that the protocol reads into canonical order.

    Raises:
        DataError: a column is missing, shapes differ, an id repeats, a speaker has two accents or two splits, a value of z is not
            finite in a row that is read, or fewer than two accents can be compared.
    """
    _check_columns(z, table)
    _check_speakers(table)
    splits = table["split"].to_numpy(dtype=object)
    kept = np.flatnonzero((splits == "train") | (splits == protocol.score_split))
    ids = table["utt_id"].astype(str).to_numpy(dtype=object)[kept]
    kept = kept[np.argsort(ids, kind="stable")]
    values = np.ascontiguousarray(np.asarray(z)[kept], dtype=np.float64)
    _check_finite(values, table["utt_id"].iloc[kept])
    speaker, speakers = pd.factorize(table["speaker"].iloc[kept])
    accent, names = pd.factorize(table["accent"].iloc[kept])
    text = pd.factorize(table["text_id"].iloc[kept])[0] if "text_id" in table else np.full(len(kept), -1)
    first = np.unique(speaker, return_index=True)[1]
    rows = Rows(
        z=values,
        speaker=speaker.astype(np.int64),
        accent=accent.astype(np.int64),
        text=text.astype(np.int64),
        fold=pd.to_numeric(table["fold"]).to_numpy(dtype=np.int64)[kept],
        scored=np.asarray(splits[kept] != "train", dtype=np.bool_),
        gate=(),
        accent_names=tuple(str(name) for name in names),
        speaker_names=tuple(str(name) for name in speakers),
        speaker_accent=accent[first].astype(np.int64),
    )
    return Rows(**{**rows.__dict__, "gate": _gate(rows, protocol)})


def _check_columns(z: npt.NDArray[Any], table: pd.DataFrame) -> None:
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise DataError(f"the table has no column {', '.join(missing)}", where="table", fix=f"it needs {', '.join(COLUMNS)}")
    shape = np.shape(z)
    if len(shape) != 2 or shape[0] != len(table) or shape[1] == 0:
        raise DataError(f"z has shape {shape}, the table {len(table)} rows", where="z", fix="give one vector per row: (N, D)")
    repeated = table["utt_id"][table["utt_id"].duplicated()]
    if len(repeated):
        raise DataError(f"utt_id {repeated.iloc[0]!r} occurs twice", where="table: utt_id", fix="give every utterance one row")
    for column in COLUMNS:
        empty = table["utt_id"][table[column].isna()]
        if len(empty):
            raise DataError(f"utterance {empty.iloc[0]!r} has no {column}", where=f"table: {column}", fix="fill it in")
    number = pd.to_numeric(table["fold"], errors="coerce")
    broken = table[number.isna() | (number % 1 != 0)]
    if len(broken):
        message = f"utterance {broken['utt_id'].iloc[0]!r} has fold {broken['fold'].iloc[0]!r}"
        raise DataError(message, where="table: fold", fix="number the folds 0, 1, …, and -1 for rows in none")
    unknown = sorted({str(name) for name in table["split"].unique()} - set(SPLITS))
    if unknown:
        raise DataError(f"unknown split {unknown[0]!r}", where="table: split", fix=f"use {', '.join(SPLITS)}")


def _check_speakers(table: pd.DataFrame) -> None:
    for column, rule in (("accent", "give each speaker one accent"), ("split", "put each speaker into one split")):
        pairs = table[["speaker", column]].drop_duplicates()
        twice = pairs[pairs["speaker"].duplicated(keep=False)]
        if len(twice):
            speaker = twice["speaker"].iloc[0]
            found = ", ".join(repr(name) for name in sorted(twice.loc[twice["speaker"] == speaker, column].astype(str)))
            message = f"speaker {speaker!r} has {len(twice[twice['speaker'] == speaker])} values of {column}: {found}"
            raise DataError(message, where=f"table: {column}", fix=rule)


def _check_finite(values: Floats, ids: pd.Series[Any]) -> None:
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        some = ", ".join(repr(str(ids.iloc[i])) for i in bad[:3]) + (", …" if len(bad) > 3 else "")
        raise DataError(
            f"{len(bad)} rows hold NaN or infinity: {some}",
            where="z",
            fix="give every utterance finite values: the model may have diverged, or the recording may be silent or broken; or leave these rows out",
        )


def _gate(rows: Rows, protocol: Protocol) -> tuple[int, ...]:
    """Numbers of the gate accents: those asked for, or all with two speakers on both sides."""
    counts = {
        name: (len(rows.speakers_of(number, False)), len(rows.speakers_of(number, True)))
        for number, name in enumerate(rows.accent_names)
    }
    wanted = protocol.gate_accents
    if wanted is None:
        gate = [name for name in rows.accent_names if min(counts[name]) >= 2]
    else:
        gate = list(dict.fromkeys(wanted))
        for name in gate:
            train, scored = counts.get(name, (0, 0))
            if min(train, scored) < 2:
                message = (
                    f"accent {name!r} has {train} speakers in train and {scored} in {protocol.score_split}, at least 2 are needed"
                )
                raise DataError(message, where="table: accent", fix="leave it out of the gate accents, or add speakers")
    if len(gate) < 2:
        seen = ", ".join(f"{name} ({train} train, {scored} {protocol.score_split})" for name, (train, scored) in counts.items())
        message = f"{len(gate)} accents have two speakers in train and in {protocol.score_split}, at least 2 are needed: {seen or 'no rows'}"
        raise DataError(message, where="table: accent", fix="add speakers, or split them again")
    return tuple(sorted(rows.accent_names.index(name) for name in gate))
