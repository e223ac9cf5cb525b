"""The second pass over the shards of CORAA-MUPE-ASR: chosen rows of one row group become audio files and utterances."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tune_accent.base.files import sha256_bytes, write_bytes
from tune_accent.data.audio import SAMPLING_RATE, SUFFIX, encode_audio
from tune_accent.data.hygiene import Accepted, Hygiene, Unusable, accept_audio
from tune_accent.data.manifest import Utterance
from tune_accent.data.sources import Rejected, brazil
from tune_accent.data.sources.census import Candidate
from tune_accent.data.sources.in_parts import Outcome, raise_if_stopped
from tune_accent.data.sources.naming import slug
from tune_accent.data.sources.shards import Shard, batches

SOURCE = "CORAA-MUPE-ASR"
COLUMNS = ("audio.bytes", "normalized_text", "original_text", "start_time", "audio_name", "age", "birth_state")
MAX_TEXT = 5_000  # characters


@dataclass(frozen=True)
class Work:
    """Rows of a row group that were chosen, by their place in it; `text` says which transcript is taken first."""

    shard: Shard
    group: int
    rows: Mapping[int, Candidate]
    hygiene: Hygiene
    text: str


def import_rows(root: Path, work: Work) -> Outcome:
    """Write the audio of the chosen rows below `root/audio/`.

    Raises:
        DataError: the shard is damaged.
    """
    outcome = Outcome()
    place = 0
    for batch in batches(work.shard, work.group, COLUMNS):
        for values in zip(*batch.values(), strict=True):
            if (chosen := work.rows.get(place)) is not None:
                _import(root, chosen, dict(zip(batch, values, strict=True)), work, outcome)
                raise_if_stopped()
            place += 1
    return outcome


def _import(root: Path, chosen: Candidate, row: Mapping[str, Any], work: Work, outcome: Outcome) -> None:
    try:
        text = _text(row, work.text)
        accepted = accept_audio(row["audio.bytes"] or b"", work.hygiene)
        seconds = len(accepted.wave) / SAMPLING_RATE
        if seconds < work.hygiene.min_s:
            raise Unusable(f"without silence it lasts {seconds:.3f} s, at least {work.hygiene.min_s:g} s are wanted")
    except Unusable as error:
        outcome.rejected.append(Rejected(chosen.utt_id, str(error)))
        return
    data = encode_audio(accepted.wave)
    path = f"audio/{slug(chosen.speaker)}/{chosen.utt_id}{SUFFIX}"
    write_bytes(root / path, data)
    outcome.rows.append(_utterance(chosen, row, text, accepted, path, sha256_bytes(data)))
    outcome.sounds[chosen.utt_id] = accepted.sha256


def _utterance(chosen: Candidate, row: Mapping[str, Any], text: str, accepted: Accepted, path: str, digest: str) -> Utterance:
    return Utterance(
        utt_id=chosen.utt_id,
        audio_path=path,
        speaker=chosen.speaker,
        accent=chosen.accent,
        text_id=None,
        text=text,
        gender=chosen.gender,
        duration_s=len(accepted.wave) / SAMPLING_RATE,
        sampling_rate=SAMPLING_RATE,
        source=SOURCE,
        start_s=_start(row["start_time"]),
        age=_age(row["age"]),
        birth_state=brazil.state(row["birth_state"]),
        session=_plain_text(row["audio_name"]) or None,
        audio_sha256=digest,
        snr_db=round(accepted.snr_db, 2),
        clipping=round(accepted.clipping, 6),
    )


def _text(row: Mapping[str, Any], first: str) -> str:
    """The transcript; the other one where the first is empty."""
    columns = sorted(("normalized_text", "original_text"), key=lambda name: not name.startswith(first))
    text = next(filter(None, (_plain_text(row[name]) for name in columns)), "")
    if not text:
        raise Unusable("it has no transcript")
    if len(text) > MAX_TEXT:
        raise Unusable(f"its transcript has {len(text)} characters, at most {MAX_TEXT} are read")
    return text


def _plain_text(value: Any) -> str:
    return " ".join(str(value or "").replace("\0", " ").split())


def _start(value: Any) -> float:
    """Seconds from the beginning of the interview; 0 where they are not known."""
    seconds = 0.0 if value is None else float(value)
    return max(seconds, 0.0) if math.isfinite(seconds) else 0.0


def _age(value: Any) -> int | None:
    return int(value) if value is not None and 0 < value < 150 else None
