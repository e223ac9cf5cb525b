"""`metadata.csv` and `texts.json` of a corpus in CSV form: bytes in, checked rows and reasons out; no file is opened here.

UTF-8 with or without a byte order mark, separated by commas, semicolons or tabs, quoted fields with line breaks; ids and texts come out in Unicode
form NFC. What concerns the whole table (encoding, quoting, columns) is one `DataError` with file, line and rule; what concerns a row is a reason.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from tune_accent.base.errors import DataError, visible
from tune_accent.base.unzip import name_problem
from tune_accent.data.sources import Rejected

REQUIRED = ("utt_id", "speaker", "accent", "text_id", "rel_path")
OPTIONAL = ("text", "gender", "age", "duration", "source", "session", "start_s", "birth_state")
SEPARATORS = (",", ";", "\t")
MAX_ROWS, MAX_ID, MAX_TEXT = 2_000_000, 200, 5_000  # rows; characters
MALE = ("m", "male", "masculino", "masculine", "male_masculine", "homem", "man")
FEMALE = ("f", "female", "feminino", "feminina", "feminine", "female_feminine", "mulher", "woman")
OTHER = ("x", "other", "outro", "outra", "nb", "non-binary", "nonbinary", "não-binário", "não binário")
UNKNOWN = ("", "unknown", "desconhecido", "n/a", "na", "none", "null", "?", "-")
GENDERS: Mapping[str, str | None] = {
    **dict.fromkeys(MALE, "M"),
    **dict.fromkeys(FEMALE, "F"),
    **dict.fromkeys(OTHER, "X"),
    **dict.fromkeys(UNKNOWN),
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listed:
    """A row of the table that breaks no rule; its audio has not been looked at. `duration` is what the table says, in seconds."""

    utt_id: str
    speaker: str
    accent: str
    text_id: str | None
    rel_path: str
    text: str
    gender: str | None
    age: int | None
    duration: float | None
    source: str
    session: str | None
    start_s: float
    birth_state: str | None


class RowProblem(ValueError):
    """The rule that a row breaks."""


def read_table(data: bytes, texts: Mapping[str, str], where: str) -> tuple[list[Listed], list[Rejected]]:
    """The rows of `metadata.csv` and those that are left out, both in the order of the file.

    Args:
        data: the content of the file.
        texts: text_id → text, for rows without a text of their own.
        where: name of the file, for messages.

    Raises:
        DataError: not UTF-8, not CSV, a required column is missing or a column is there twice.
    """
    table = _Table()
    for line, cells, problem, separator in _records(_decoded(data, where), where):
        try:
            if problem:
                raise RowProblem(problem)
            table.add(line, _listed(cells, texts, comma=separator != ","))
        except RowProblem as broken:
            utt_id = visible(_tidy(cells.get("utt_id", "")))[:MAX_ID]
            table.rejected.append(Rejected(utt_id or f"line {line}", visible(f"line {line}: {broken}")))
    return table.rows, table.rejected


def read_texts(data: bytes, where: str) -> dict[str, str]:
    """`texts.json`: an object of text_id → text.

    Raises:
        DataError: it is not that, or has a text_id twice.
    """
    try:
        value = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"not a JSON object of text_id and text in UTF-8: {error}", where=where, fix="correct the file"
        ) from error
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise DataError("not a JSON object of text_id and text", where=where, fix='write {"t01": "the sentence", …}')
    return {_tidy(key): _tidy(text) for key, text in value.items()}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _decoded(data: bytes, where: str) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"not UTF-8: byte 0x{data[error.start]:02x}",
            where=f"{where}:{line}",
            fix="save it as UTF-8 (from a spreadsheet: “CSV UTF-8”; or iconv -f latin1 -t utf-8)",
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError("it holds a NUL character", where=f"{where}:{line}", fix="save it as CSV in UTF-8")
    return text


def _records(text: str, where: str) -> Iterator[tuple[int, dict[str, str], str | None, str]]:
    """Line number, cells, what is wrong with their number, and the separator, of every row that is not empty."""
    separator, columns = _header(text, where)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for cells in islice(reader, 1, MAX_ROWS + 1):
            if any(cell.strip() for cell in cells):
                same = len(cells) == len(columns)
                problem = None if same else f"it has {len(cells)} fields, the header has {len(columns)}"
                yield reader.line_num, dict(zip(columns, cells, strict=False)), problem, separator
        if next(reader, None) is not None:
            raise DataError(f"it has more than {MAX_ROWS} rows", where=where, fix="split the corpus")
    except csv.Error as error:
        raise DataError(f"not CSV: {error}", where=f"{where}:{reader.line_num}", fix='quote as "like ""this"""') from error


def _header(text: str, where: str) -> tuple[str, list[str]]:
    """The separator under which the header has most of the required columns, and the names of the columns."""
    candidates: list[tuple[int, str, list[str]]] = []
    for separator in SEPARATORS:
        try:
            first = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True), [])
        except csv.Error:
            continue
        columns = [cell.strip().casefold() for cell in first]
        candidates.append((len(set(columns) & set(REQUIRED)), separator, columns))
    if not candidates:
        raise DataError("not CSV: the header cannot be read", where=f"{where}:1", fix=f"columns: {', '.join(REQUIRED)}")
    _, separator, columns = max(candidates, key=lambda item: item[0])
    missing = [name for name in REQUIRED if name not in columns]
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if missing or twice:
        what = f"column {missing[0]!r} is missing" if missing else f"column {twice[0]!r} is there twice"
        fix = f"columns: {', '.join(REQUIRED)}; optional: {', '.join(OPTIONAL)}"
        raise DataError(visible(what), where=f"{where}:1", fix=fix)
    ignored = sorted(set(columns) - {*REQUIRED, *OPTIONAL})
    if ignored:
        log.warning("%s: columns that are not read: %s", where, visible(", ".join(map(repr, ignored))[:500]))
    return separator, columns


@dataclass
class _Table:
    """Rows so far, and what the rows to come must agree with."""

    rows: list[Listed] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)  # of utt_ids
    accents: dict[str, tuple[str, int]] = field(default_factory=dict)  # of speakers, and the first line
    spoken: dict[str, tuple[str, int]] = field(default_factory=dict)  # texts of text_ids, and the first line

    def add(self, line: int, row: Listed) -> None:
        """Keep `row`, or raise the rule that it breaks beside the others."""
        if row.utt_id in self.lines:
            raise RowProblem(f"utt_id {row.utt_id!r} is that of line {self.lines[row.utt_id]} already")
        accent, first = self.accents.get(row.speaker, (row.accent, line))
        if accent != row.accent:
            raise RowProblem(f"speaker {row.speaker!r} has accent {accent!r} in line {first}, here {row.accent!r}")
        if row.text_id is not None:
            text, first = self.spoken.setdefault(row.text_id, (row.text, line))
            if text != row.text:
                raise RowProblem(f"text_id {row.text_id!r} has another text in line {first}")
        self.lines[row.utt_id] = line
        self.accents.setdefault(row.speaker, (row.accent, line))
        self.rows.append(row)


def _listed(cells: Mapping[str, str], texts: Mapping[str, str], comma: bool) -> Listed:
    """A checked row; `comma`: numbers may be written 3,5."""
    value = {name: _tidy(cells.get(name, "")) for name in (*REQUIRED, *OPTIONAL)}
    for name in ("utt_id", "speaker", "accent"):
        if not value[name]:
            raise RowProblem(f"{name} is empty")
    for name in (*REQUIRED[:-1], "source", "session", "birth_state"):
        if len(value[name]) > MAX_ID or not value[name].isprintable():
            raise RowProblem(f"{name} has more than {MAX_ID} characters, or one that cannot be printed")
    return Listed(
        utt_id=value["utt_id"],
        speaker=value["speaker"],
        accent=value["accent"],
        text_id=value["text_id"] or None,
        rel_path=_path(unicodedata.normalize("NFC", cells["rel_path"].strip())),
        text=_text(value, texts),
        gender=_gender(value["gender"]),
        age=_age(value["age"]),
        duration=_seconds("duration", value["duration"], comma),
        source=value["source"] or "csv",
        session=value["session"] or None,
        start_s=_seconds("start_s", value["start_s"], comma) or 0.0,
        birth_state=value["birth_state"] or None,
    )


def _tidy(text: str) -> str:
    """NFC, with every run of white space as one space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def _text(value: Mapping[str, str], texts: Mapping[str, str]) -> str:
    text = value["text"] or texts.get(value["text_id"], "")
    if not text:
        raise RowProblem(f"there is no text: neither in the column `text` nor in texts.json for text_id {value['text_id']!r}")
    if len(text) > MAX_TEXT:
        raise RowProblem(f"the text has {len(text)} characters, at most {MAX_TEXT} are read")
    return text


def _path(text: str) -> str:
    problem = name_problem(text)
    if problem or text.endswith("/"):
        raise RowProblem(f"rel_path {text[:80]!r} {problem or 'is that of a folder'}; write it as wav/speaker/text.wav")
    return text


def _gender(text: str) -> str | None:
    if text.casefold() not in GENDERS:
        raise RowProblem(f"gender {text[:40]!r} is not known (M, F, X, or nothing)")
    return GENDERS[text.casefold()]


def _age(text: str) -> int | None:
    if text.casefold() in UNKNOWN or text == "0":
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 4 and int(text) < 150):
        raise RowProblem(f"age {text[:40]!r} is no whole number of years")
    return int(text)


def _seconds(name: str, text: str, comma: bool) -> float | None:
    if not text:
        return None
    try:
        seconds = float(text.replace(",", ".") if comma else text)
    except ValueError:
        seconds = float("nan")
    if not 0 <= seconds < 1e7:
        raise RowProblem(f"{name} {text[:40]!r} is no number of seconds")
    return seconds
