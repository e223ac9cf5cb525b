"""CORAA-MUPE-ASR (nilc-nlp): interviews from all of Brazil as a corpus whose accents are the regions of birth.

Two passes over the shards. The first reads the small columns, counts what each filter leaves (`census.csv`) and chooses rows; the second decodes the
audio of chosen rows, a row group at a time. Texts are not shared between speakers, so `text_id` is null and folds go by time.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tune_accent.base.errors import DataError
from tune_accent.base.files import remove, sha256_json, write_text
from tune_accent.base.progress import Progress
from tune_accent.config import speech
from tune_accent.config.words import did_you_mean
from tune_accent.data.hygiene import Hygiene
from tune_accent.data.manifest import Utterance
from tune_accent.data.sources import Rejected, brazil, coraa_rows
from tune_accent.data.sources.census import Candidate, Facts, Step, Tally, census_csv, choose, facts, row_tests
from tune_accent.data.sources.in_parts import Part, cores, do_parts, outcomes
from tune_accent.data.sources.naming import utterance_id
from tune_accent.data.sources.settling import settle
from tune_accent.data.sources.shards import Shard, columns_of, find_shards, fingerprint, open_shard

RECIPE = 1  # counts up when the same shards and parameters give another corpus
CENSUS = "census.csv"
REQUIRED = {
    "audio.bytes": "bytes",
    "speaker_type": "text",
    "speaker_code": "text",
    "speaker_gender": "text",
    "birth_state": "text",
    "start_time": "number",
    "end_time": "number",
    "duration": "number",
}
FILTERED = ("speaker_type", "speaker_code", "speaker_gender", "birth_state", "birth_country", "audio_quality", "duration")
NAMED = ("audio_name", "file_path", "start_time", "end_time")
LIBRARIES = ("soundfile", "soxr", "pyloudnorm", "numpy")  # an import that goes on with others begins again
MEMORY = 1 << 30  # bytes, of an import with all its processes
PROCESS, PAGES = 120 << 20, 3.5  # bytes of a process without audio; copies of a page that are held while it is read

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CoraaMupe:
    """The `Source` of CORAA-MUPE-ASR."""

    cfg: speech.CoraaMupe
    hygiene: Hygiene

    @cached_property
    def shards(self) -> tuple[Shard, ...]:
        """The shards of `cfg.path`, checked.

        Raises:
            DataError: there are none, one is damaged or lacks a column.
            MissingDependency: a Hub id is given without the extra `hub`.
        """
        required = REQUIRED | {f"{self.cfg.text}_text": "text"} | ({"audio_quality": "text"} if self.cfg.audio_quality else {})
        return tuple(open_shard(path, required) for path in find_shards(self.cfg.path))

    @property
    def options(self) -> dict[str, Any]:
        """What decides the corpus, beside the shards."""
        own = self.cfg.model_dump(mode="json", exclude={"kind", "path", "workers"})
        return {"source": self.cfg.kind, "recipe": RECIPE, **own, **vars(self.hygiene)}

    @property
    def record(self) -> dict[str, Any]:
        """The options and the hash of all footers: neither where the shards lie nor the number of processes matters."""
        return {**self.options, "shards": fingerprint(self.shards)}

    def fill(self, root: Path, progress: Progress) -> tuple[Sequence[Utterance], Sequence[Rejected]]:
        """Choose rows, import their audio, and write `census.csv`.

        Raises:
            DataError: a filter leaves nothing, or a shard is damaged.
        """
        reader = _Reader(self)
        chosen, steps = reader.choose(progress)
        if not chosen:
            write_text(root / CENSUS, census_csv(steps))
            raise _nothing_left(self.cfg, steps, reader.qualities)
        parts = _parts(self, chosen)
        workers = affordable(self.cfg.workers or cores(), max(shard.page for shard in self.shards))
        do_parts(root, parts, coraa_rows.import_rows, workers, "importing speech", progress)
        rows, rejected, more = settle(outcomes(root, parts), self.cfg)
        write_text(root / CENSUS, census_csv([*steps, *more]))
        if not rows and not rejected:
            raise _nothing_left(self.cfg, [*steps, *more], reader.qualities)
        _remove_strangers(root, rows)
        return rows, rejected


@dataclass
class _Reader:
    """The first pass: the census, and what was not understood."""

    source: CoraaMupe
    qualities: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    countries: Counter[str] = field(default_factory=Counter)
    names: Counter[str] = field(default_factory=Counter)

    def choose(self, progress: Progress) -> tuple[list[Candidate], list[Step]]:
        """The chosen rows in the order of the shards, and the census so far."""
        tally = Tally(row_tests(self.source.cfg, self.source.hygiene.min_s, self.source.hygiene.max_s))
        units = _units(self.source.shards)
        found: list[Candidate] = []
        for number, (shard, group) in enumerate(units):
            columns = columns_of(shard, group, (*FILTERED, *NAMED))
            for place, values in enumerate(zip(*columns.values(), strict=True)):
                row = dict(zip(columns, values, strict=True))
                own = facts(row)
                self._note(row, own)
                if tally.passes(own):
                    found.append(self._candidate(number, place, row, own))
            progress("counting rows", number + 1, len(units))
        self._warn()
        kept, steps = choose(found, self.source.cfg)
        return kept, [*tally.steps(), *steps]

    def _candidate(self, unit: int, place: int, row: Mapping[str, Any], own: Facts) -> Candidate:
        name = utterance_id(row)
        self.names[name] += 1
        numbered = name if self.names[name] == 1 else f"{name}-{self.names[name]}"
        return Candidate(unit, place, numbered, own.speaker, brazil.region(own.state or ""), own.gender)

    def _note(self, row: Mapping[str, Any], own: Facts) -> None:
        self.qualities[own.quality] += 1
        if not brazil.is_brazil(row["birth_country"]):
            self.countries[str(row["birth_country"])] += 1
        elif own.state is None and brazil.plain(row["birth_state"]) not in brazil.UNKNOWN:
            self.states[str(row["birth_state"])] += 1

    def _warn(self) -> None:
        for key, words in (("birth_state", self.states), ("birth_country", self.countries)):
            if words:
                listed = ", ".join(f"{word!r} ({rows} rows)" for word, rows in words.most_common(5))
                log.warning("%s: %s: taken as born in no state of Brazil", key, listed)


def affordable(workers: int, page: int) -> int:
    """As many of `workers` as stay within `MEMORY` together, at least one, where the largest page of audio has `page` bytes."""
    each = PROCESS + int(PAGES * page)
    affordable_ = max(1, min(workers, (MEMORY - PROCESS) // each))
    if affordable_ < workers:
        log.warning("%d processes instead of %d: the shards have pages of %d MB", affordable_, workers, page >> 20)
    return affordable_


def _units(shards: Sequence[Shard]) -> list[tuple[Shard, int]]:
    return [(shard, group) for shard in shards for group in range(len(shard.rows))]


def _parts(source: CoraaMupe, chosen: Sequence[Candidate]) -> list[Part]:
    """One part for each row group that has chosen rows."""
    by_unit: dict[int, dict[int, Candidate]] = {}
    for row in chosen:
        by_unit.setdefault(row.unit, {})[row.row] = row
    units = _units(source.shards)
    libraries = {name: version(name) for name in LIBRARIES}
    parts = []
    for number, rows in sorted(by_unit.items()):
        shard, group = units[number]
        chosen_rows = [[row.row, row.utt_id, row.speaker] for row in rows.values()]
        key = sha256_json([RECIPE, shard.footer, group, chosen_rows, vars(source.hygiene), source.cfg.text, libraries])
        work = coraa_rows.Work(shard, group, rows, source.hygiene, source.cfg.text)
        parts.append(Part(f"{number:06d}", key, len(rows), work))
    return parts


def _remove_strangers(root: Path, rows: Sequence[Utterance]) -> None:
    """Audio that belongs to no row: of speakers that fell below a minimum, or of an import that was cut short."""
    known = {row.audio_path for row in rows}
    for path in sorted((root / "audio").rglob("*")):
        if path.is_file() and path.relative_to(root).as_posix() not in known:
            remove(path)


def _nothing_left(cfg: speech.CoraaMupe, steps: Sequence[Step], qualities: Mapping[str, int]) -> DataError:
    place = next(index for index, (_, rows, _) in enumerate(steps) if not rows)
    label = steps[place][0]
    before = f"; before it there were {steps[place - 1][1]}, after: {steps[place - 1][0]}" if place else ""
    fix = f"relax it; {CENSUS} has what every step left"
    if cfg.audio_quality and label.startswith("audio_quality"):
        fix = did_you_mean(cfg.audio_quality, sorted(word for word in qualities if word), "the shards have")
    return DataError(f"no row is left after: {label}{before}", where=cfg.path, fix=fix)
