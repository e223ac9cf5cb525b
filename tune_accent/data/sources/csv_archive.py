"""A corpus in CSV form: a folder or ZIP archive with `wav/<speaker>/<text>.wav`, `metadata.csv` and, if wanted, `texts.json`.

`metadata.csv` has the columns utt_id, speaker, accent, text_id, rel_path and may have text, gender, age, duration, source, session, start_s,
birth_state. Whatever is wrong with one utterance leaves it out with a reason; whatever is wrong with the whole is one `DataError`. Nothing is unpacked:
the only files written are clean FLAC files below `audio/` whose names are made here.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tune_accent.base.errors import DataError, visible
from tune_accent.base.files import remove, sha256_bytes, sha256_file, sha256_json, write_bytes
from tune_accent.base.progress import Progress
from tune_accent.data.audio import MAX_BYTES, SAMPLING_RATE, SUFFIX, encode_audio
from tune_accent.data.hygiene import Accepted, Hygiene, Unusable, accept_audio, duplicates
from tune_accent.data.manifest import Utterance
from tune_accent.data.sources import Rejected
from tune_accent.data.sources.csv_files import METADATA, TEXTS, Files, open_files
from tune_accent.data.sources.csv_table import Listed, read_table, read_texts
from tune_accent.data.sources.in_parts import Outcome, Part, do_parts, outcomes, raise_if_stopped

PART = 32  # rows
RECIPE = 1  # counts up when the same files give another corpus
MAX_TABLE = 512 * 2**20  # bytes of metadata.csv, and of texts.json
TOLERANCE_S, TOLERANCE = 0.5, 0.05  # between the duration of the table and that of the file: seconds, or a share
PLAIN = re.compile(r"(?!.*-[0-9a-f]{8}$)[a-z0-9][a-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class CsvArchive:
    """The `Source` of a corpus in CSV form; which process does what changes no byte.

    Args:
        path: the folder or the ZIP archive.
        hygiene: what is done to each recording.
        workers: processes that decode, clean and encode.
    """

    path: Path
    hygiene: Hygiene = field(default_factory=Hygiene)
    workers: int = 2

    @property
    def record(self) -> Mapping[str, Any]:
        """Everything that decides the corpus: content, not place."""
        return {"source": "csv", "recipe": RECIPE, "content": self._content, "hygiene": asdict(self.hygiene)}

    @functools.cached_property
    def _content(self) -> str:
        """SHA-256 of the archive, or of the table, the texts and every file that the table lists."""
        if self.path.is_file():
            return sha256_file(self.path)
        with open_files(self.path) as files:
            rows, _ = _table(files, self.path)
            names = [METADATA, *([TEXTS] if files.has(TEXTS) else []), *sorted({row.rel_path for row in rows})]
            return sha256_json({name: _hash_of(files, name) for name in names})

    def fill(self, root: Path, progress: Progress) -> tuple[Sequence[Utterance], Sequence[Rejected]]:
        """Import every recording of the table that can be used; the rows are in its order.

        Raises:
            DataError: the archive breaks a rule, there is no table, it cannot be read or lacks a column, or a process died.
        """
        with open_files(self.path) as files:
            rows, rejected = _table(files, self.path)
        parts = [self._part(number, rows[start : start + PART]) for number, start in enumerate(range(0, len(rows), PART))]
        do_parts(root, parts, import_rows, self.workers, "importing", progress)
        done = list(outcomes(root, parts))
        sounds = {utt_id: sound for outcome in done for utt_id, sound in outcome.sounds.items()}
        twins = duplicates(sounds.items())
        found = [row for outcome in done for row in outcome.rows]
        for row in found:
            if row.utt_id in twins:
                remove(root / row.audio_path)
        rejected += [item for outcome in done for item in outcome.rejected]
        rejected += [Rejected(name, f"the same sound as {twin}") for name, twin in twins.items()]
        kept = [row for row in found if row.utt_id not in twins]
        return kept, sorted(rejected, key=lambda item: (item.utt_id, item.reason))

    def _part(self, number: int, rows: Sequence[Listed]) -> Part:
        work = Work(self.path, self._content, self.hygiene, tuple(rows))
        key = sha256_json({**self.record, "rows": [asdict(row) for row in rows]})
        return Part(f"rows-{number:06d}", key, len(rows), work)


@dataclass(frozen=True)
class Work:
    """Rows to import from `path`, whose content has the hash `content`."""

    path: Path
    content: str
    hygiene: Hygiene
    rows: tuple[Listed, ...]


def import_rows(root: Path, work: Work) -> Outcome:
    """Read, clean and write the recordings of some rows."""
    outcome = Outcome()
    files = _opened(work.path, work.content)
    for row in work.rows:
        raise_if_stopped()
        try:
            accepted = accept_audio(files.read(row.rel_path, MAX_BYTES), work.hygiene)
            _check_duration(row.duration, accepted.duration_s)
        except (Unusable, DataError) as problem:
            reason = problem.what if isinstance(problem, DataError) else f"{row.rel_path}: {problem}"
            outcome.rejected.append(Rejected(row.utt_id, visible(reason)))
            continue
        content = encode_audio(accepted.wave)
        write_bytes(root / _target(row), content)
        outcome.rows.append(_utterance(row, accepted, sha256_bytes(content)))
        outcome.sounds[row.utt_id] = accepted.sha256
    return outcome


@functools.lru_cache(maxsize=1)
def _opened(path: Path, content: str) -> Files:
    """The source, opened and checked once in a process; it stays open until another one is wanted."""
    return open_files(path)


def _check_duration(stated: float | None, found: float) -> None:
    if stated is not None and abs(stated - found) > max(TOLERANCE_S, TOLERANCE * found):
        raise Unusable(f"it lasts {found:.2f} s, the table says {stated:g} s")


def _table(files: Files, path: Path) -> tuple[list[Listed], list[Rejected]]:
    if not files.has(METADATA):
        raise DataError(
            f"there is no {METADATA}", where=str(path), fix=f"give the folder or ZIP archive that holds {METADATA} and wav/"
        )
    texts = read_texts(files.read(TEXTS, MAX_TABLE), f"{path}/{TEXTS}") if files.has(TEXTS) else {}
    return read_table(files.read(METADATA, MAX_TABLE), texts, f"{path}/{METADATA}")


def _hash_of(files: Files, name: str) -> str | None:
    """None for a file that cannot be read: its utterance is left out."""
    try:
        return sha256_bytes(files.read(name, MAX_BYTES))
    except DataError:
        return None


def _target(row: Listed) -> str:
    return f"audio/{_plain(row.speaker)}/{_plain(row.utt_id)}{SUFFIX}"


def _plain(name: str) -> str:
    """A file name for any text: the text itself where no system can misread it, else what is left of it and a hash."""
    if PLAIN.fullmatch(name) and not name.endswith("."):
        return name
    return f"{re.sub(r'[^a-z0-9_]+', '-', name.casefold())[:60].strip('-') or 'x'}-{sha256_bytes(name.encode())[:8]}"


def _utterance(row: Listed, accepted: Accepted, digest: str) -> Utterance:
    return Utterance(
        utt_id=row.utt_id,
        audio_path=_target(row),
        speaker=row.speaker,
        accent=row.accent,
        text_id=row.text_id,
        text=row.text,
        gender=row.gender,
        duration_s=len(accepted.wave) / SAMPLING_RATE,
        sampling_rate=SAMPLING_RATE,
        source=row.source,
        start_s=row.start_s,
        age=row.age,
        birth_state=row.birth_state,
        session=row.session,
        audio_sha256=digest,
        snr_db=round(accepted.snr_db, 2),
        clipping=round(accepted.clipping, 6),
    )
