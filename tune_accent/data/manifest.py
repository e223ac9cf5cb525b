"""`manifest.jsonl`: one frozen, checked record per utterance, and beside it the SHA-256 of the file.

A broken row is an error that names file, line, field, value and rule. Links that leave the root are caught when audio is opened.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

from tune_accent.base.errors import DataError
from tune_accent.base.files import canonical_json, sha256_bytes, write_bytes, write_text

NAME, SIDECAR = "manifest.jsonl", "manifest.jsonl.sha256"
MAX_LINE = 1_000_000  # bytes
MAX_SECONDS = 1e7  # of a duration or a start: four months


@dataclass(frozen=True)
class Utterance:
    """One recording of one sentence. Durations and times in seconds, the sampling rate in Hz."""

    utt_id: str
    audio_path: str  # relative to the folder of the manifest, with forward slashes
    speaker: str
    accent: str
    text_id: str | None  # equal for the same sentence of different speakers; None where texts are not shared
    text: str
    gender: str | None
    duration_s: float
    sampling_rate: int
    source: str
    start_s: float  # in its session; orders the utterances of a speaker
    age: int | None = None
    birth_state: str | None = None
    session: str | None = None
    audio_sha256: str | None = None  # of the audio file: with it, the hash of the manifest covers the sound
    snr_db: float | None = None  # speech to noise, estimated at import
    clipping: float | None = None  # share of the original's samples at full scale

    def to_json(self) -> str:
        """One canonical JSON line without line end; optional fields that are None are left out."""
        return canonical_json({key: value for key, value in asdict(self).items() if key in _REQUIRED or value is not None})


_TEXTS = {"utt_id", "audio_path", "speaker", "accent", "text", "source"}
_MAYBE_TEXTS = {"text_id", "gender", "birth_state", "session", "audio_sha256"}
_NUMBERS = ("duration_s", "start_s", "snr_db", "clipping")
_MEASURED = {"snr_db": (-200.0, 200.0, "dB from -200 to 200"), "clipping": (0.0, 1.0, "a share from 0 to 1")}
_FIELDS = tuple(item.name for item in fields(Utterance))
_REQUIRED = _FIELDS[: _FIELDS.index("age")]


@dataclass(frozen=True)
class Manifest:
    """The utterances of a corpus.

    Attributes:
        root: the folder that `audio_path` is relative to.
        rows: the utterances, in the order of the file.
        sha256: of the JSONL form of `rows`; equal to the hash of the file unless rows were left out.
    """

    root: Path
    rows: tuple[Utterance, ...]
    sha256: str = field(default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha256", self.sha256 or sha256_bytes(_encode(self.rows)))

    @property
    def speakers(self) -> dict[str, str]:
        """Accent of each speaker, sorted by speaker."""
        return dict(sorted({row.speaker: row.accent for row in self.rows}.items()))

    @property
    def accents(self) -> tuple[str, ...]:
        """The accents, sorted."""
        return tuple(sorted({row.accent for row in self.rows}))


def write_manifest(root: Path, rows: Iterable[Utterance]) -> Manifest:
    """Check `rows` and write them with their hash; the manifest comes last, so that its being there means that it is whole.

    Raises:
        DataError: a row breaks a rule.
    """
    rows = tuple(rows)
    data = _encode(rows)
    parsed = _parse(data, root / NAME)
    digest = sha256_bytes(data)
    write_text(root / SIDECAR, f"{digest}  {NAME}\n")
    write_bytes(root / NAME, data)
    return Manifest(root, parsed, digest)


def read_manifest(root: Path) -> Manifest:
    """Read and check the manifest of a corpus folder.

    Raises:
        DataError: there is no manifest, a row breaks a rule (file, line, field, value and rule are named), or the file is not the
            one that was written.
    """
    path = root / NAME
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"there is no readable manifest ({error.strerror})",
            where=str(path),
            fix="check data.root, or make the corpus with `python -m tune_accent.prepare`",
        ) from error
    rows = _parse(data, path)
    digest = sha256_bytes(data)
    _check_sidecar(root, digest)
    return Manifest(root, rows, digest)


def is_whole(root: Path) -> bool:
    """Whether `root` holds a finished manifest."""
    return (root / NAME).exists()


def _encode(rows: Sequence[Utterance]) -> bytes:
    return "".join(row.to_json() + "\n" for row in rows).encode()


def _check_sidecar(root: Path, digest: str) -> None:
    path = root / SIDECAR
    try:
        recorded = path.read_text(encoding="utf-8").split()[:1]
    except (OSError, UnicodeDecodeError):
        recorded = []
    if recorded != [digest]:
        what = (
            "is missing"
            if not path.exists()
            else f"does not hold the hash of {NAME}, so the manifest was changed after it was made"
        )
        raise DataError(
            f"the file {what}", where=str(path), fix=f"make the corpus again, or if you trust it: sha256sum {NAME} > {SIDECAR}"
        )


def _parse(data: bytes, path: Path) -> tuple[Utterance, ...]:
    lines = data.split(b"\n")
    if lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise DataError("the manifest has no rows", where=str(path), fix="make the corpus again")
    rows: list[Utterance] = []
    ids: dict[str, int] = {}
    accents: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(lines, start=1):
        row = _row(line, f"{path}:{number}")
        if row.utt_id in ids:
            raise _broken(f"{path}:{number}", "utt_id", row.utt_id, f"must be unique, line {ids[row.utt_id]} has it too")
        ids[row.utt_id] = number
        accent, first = accents.setdefault(row.speaker, (row.accent, number))
        if accent != row.accent:
            rule = f"one accent per speaker, but speaker {row.speaker!r} has {accent!r} in line {first}"
            raise _broken(f"{path}:{number}", "accent", row.accent, rule)
        rows.append(row)
    return tuple(rows)


def _row(line: bytes, where: str) -> Utterance:
    if len(line) > MAX_LINE:
        raise DataError(f"the line has {len(line)} bytes, at most {MAX_LINE} are read", where=where)
    try:
        value = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"not a JSON object in UTF-8: {error}", where=where, fix="one JSON object per line") from error
    if not isinstance(value, dict):
        raise DataError(f"not a JSON object but {type(value).__name__}", where=where, fix="one JSON object per line")
    unknown, missing = sorted(value.keys() - set(_FIELDS)), sorted(set(_REQUIRED) - value.keys())
    if unknown or missing:
        what = f"field {missing[0]!r} is missing" if missing else f"field {unknown[0]!r} is not known"
        raise DataError(what, where=where, fix=f"fields: {', '.join(_FIELDS)}")
    _check_fields(value, where)
    return Utterance(**value | {key: float(value[key]) for key in _NUMBERS if value.get(key) is not None})


def _check_fields(value: Mapping[str, Any], where: str) -> None:
    for key, item in value.items():
        rule = _rule_broken(key, item)
        if rule:
            raise _broken(where, key, item, rule)


def _rule_broken(key: str, item: object) -> str | None:
    """The rule that `item` breaks as field `key`, or None."""
    if key in _TEXTS:
        if not _is_text(item):
            return "must be a text that is not empty"
        return _path_rule_broken(str(item)) if key == "audio_path" else None
    if key in _MAYBE_TEXTS:
        return None if item is None or _is_text(item) else "must be a text that is not empty, or null"
    if key == "age":
        return None if item is None or (type(item) is int and 0 <= item < 150) else "must be a whole number of years, or null"
    if key == "sampling_rate":
        return None if type(item) is int and 1_000 <= item <= 768_000 else "must be a whole number of Hz from 1000 to 768000"
    if key in _MEASURED:
        low, high, words = _MEASURED[key]
        return None if item is None or (_is_number(item) and low <= item <= high) else f"must be {words}, or null"
    return _seconds_rule_broken(item, positive=key == "duration_s")


def _is_number(item: object) -> TypeGuard[int | float]:
    return isinstance(item, int | float) and not isinstance(item, bool)


def _is_text(item: object) -> bool:
    return (
        isinstance(item, str)
        and bool(item.strip())
        and "\0" not in item
        and not any("\ud800" <= mark <= "\udfff" for mark in item)
    )


def _seconds_rule_broken(item: object, positive: bool) -> str | None:
    if not _is_number(item) or not abs(item) <= MAX_SECONDS:
        return f"must be a number of seconds, at most {MAX_SECONDS:.0f}"
    if item < 0 or (positive and item == 0):
        return "must be greater than 0" if positive else "must not be negative"
    return None


def _path_rule_broken(text: str) -> str | None:
    path = PurePosixPath(text)
    if not path.parts or path.is_absolute() or "\\" in text or "\0" in text or ":" in path.parts[0]:
        return "must be a relative path with forward slashes"
    return "must stay inside the folder of the manifest (no `..`)" if ".." in path.parts else None


def _broken(where: str, key: str, value: object, rule: str) -> DataError:
    return DataError(
        f"{key}: {value!r} breaks a rule: {rule}", where=where, fix="correct or remove the row, then write the manifest again"
    )
