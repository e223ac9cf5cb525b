"""Which rows of CORAA-MUPE-ASR become utterances: the filters in their order, and what each of them left.

Filters of a row come first, then those that look at whole speakers and regions. Caps are drawn by hash of the seed and the name of the speaker or utterance: neither the order of rows nor the number of shards matters.
"""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np

from tune_accent.base.files import sha256_bytes
from tune_accent.config import speech
from tune_accent.data.sources import brazil

Step = tuple[str, int, int]  # what was asked, rows and speakers left


class Counted(Protocol):
    """What the filters of speakers and regions look at."""

    @property
    def speaker(self) -> str: ...
    @property
    def accent(self) -> str: ...
    @property
    def gender(self) -> str | None: ...


C = TypeVar("C", bound=Counted)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row that passed its own filters: row `row` of unit `unit` (a row group)."""

    unit: int
    row: int
    utt_id: str
    speaker: str
    accent: str
    gender: str | None


Filter = Callable[[list[Candidate]], list[Candidate]]


@dataclass(frozen=True)
class Facts:
    """What the filters of a row look at, cleaned; `state` is a UF code."""

    speaker_type: str
    speaker: str
    duration_s: float
    state: str | None
    gender: str
    quality: str


def facts(row: Mapping[str, Any]) -> Facts:
    """The facts of one row of a shard. Born abroad counts as state unknown."""
    return Facts(
        speaker_type=_word(row["speaker_type"]).upper(),
        speaker=_word(row["speaker_code"]),
        duration_s=float("nan") if row["duration"] is None else float(row["duration"]),
        state=brazil.state(row["birth_state"]) if brazil.is_brazil(row["birth_country"]) else None,
        gender=_word(row["speaker_gender"]).upper(),
        quality=brazil.plain(row["audio_quality"]),
    )


def _word(value: Any) -> str:
    return " ".join(str(value).replace("\0", " ").split()) if value is not None else ""


@dataclass
class Tally:
    """Rows and speakers that reached each step of a row's own filters, in order, and the words that were not understood."""

    tests: Sequence[tuple[str, Callable[[Facts], bool]]]
    rows: Counter[int] = field(default_factory=Counter)
    speakers: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))

    def passes(self, found: Facts) -> bool:
        """Count a row as far as it comes; True where it passes all."""
        for place, (_, test) in enumerate(self.tests):
            if not test(found):
                return False
            self.rows[place] += 1
            self.speakers[place].update([found.speaker] if found.speaker else [])
        return True

    def steps(self) -> list[Step]:
        """The census so far."""
        return [(label, self.rows[place], len(self.speakers[place])) for place, (label, _) in enumerate(self.tests)]


def row_tests(cfg: speech.CoraaMupe, min_s: float, max_s: float) -> list[tuple[str, Callable[[Facts], bool]]]:
    """Filters of a row. Durations are compared as what the shards hold, float32: 3.1 is not below 3.1."""
    low, high = float(np.float32(min_s)), float(np.float32(max_s))
    quality = brazil.plain(cfg.audio_quality)
    return [
        ("all rows", lambda row: True),
        ("interviewee (speaker_type R)", lambda row: row.speaker_type == "R"),
        (f"duration {min_s:g} to {max_s:g} s", lambda row: low <= row.duration_s <= high),
        ("state of birth known", lambda row: row.state is not None),
        (f"regions {' '.join(cfg.regions)}", lambda row: brazil.region(row.state or "") in cfg.regions),
        ("gender M or F", lambda row: row.gender in ("M", "F")),
        (f"audio_quality {cfg.audio_quality or 'any'}", lambda row: not quality or row.quality == quality),
        ("speaker_code given", lambda row: bool(row.speaker)),
    ]


def choose(rows: Sequence[Candidate], cfg: speech.CoraaMupe) -> tuple[list[Candidate], list[Step]]:
    """The filters of speakers and regions, then the caps. A region that goes changes no other one, so once more is enough."""
    regions, speakers = enough_speakers(cfg), enough_utterances(cfg)
    again = (f"still {regions[0]}", regions[1])
    filters: list[tuple[str, Filter]] = [
        ("one region and one gender per speaker", _unambiguous),
        regions,
        speakers,
        again,
        *_caps(cfg),
    ]
    kept, steps = list(rows), []
    for label, keep in filters:
        kept = keep(kept)
        steps.append(step(label, kept))
    return kept, steps


def step(label: str, rows: Sequence[Counted]) -> Step:
    """What `label` left."""
    return label, len(rows), len({row.speaker for row in rows})


def enough_speakers(cfg: speech.CoraaMupe) -> tuple[str, Callable[[list[C]], list[C]]]:
    """Label and filter: whole regions."""
    return f"at least {cfg.min_speakers} speakers per region", lambda rows: _enough_speakers(rows, cfg.min_speakers)


def enough_utterances(cfg: speech.CoraaMupe) -> tuple[str, Callable[[list[C]], list[C]]]:
    """Label and filter: whole speakers."""
    return f"at least {cfg.min_utterances} utterances per speaker", lambda rows: _enough_utterances(rows, cfg.min_utterances)


def _caps(cfg: speech.CoraaMupe) -> list[tuple[str, Filter]]:
    speakers, utterances = cfg.max_speakers_per_region, cfg.max_utterances_per_speaker
    drawn = f"(seed {cfg.seed})"
    return [
        (
            f"at most {speakers} speakers per region {drawn}" if speakers else "no cap on speakers",
            lambda rows: _cap_speakers(rows, speakers, cfg.seed) if speakers else rows,
        ),
        (
            f"at most {utterances} utterances per speaker {drawn}" if utterances else "no cap on utterances",
            lambda rows: _cap_utterances(rows, utterances, cfg.seed) if utterances else rows,
        ),
    ]


def _unambiguous(rows: Sequence[Candidate]) -> list[Candidate]:
    found: dict[str, set[Hashable]] = defaultdict(set)
    for row in rows:
        found[row.speaker].add((row.accent, row.gender))
    return [row for row in rows if len(found[row.speaker]) == 1]


def _enough_speakers(rows: Sequence[C], minimum: int) -> list[C]:
    speakers: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        speakers[row.accent].add(row.speaker)
    return [row for row in rows if len(speakers[row.accent]) >= minimum]


def _enough_utterances(rows: Sequence[C], minimum: int) -> list[C]:
    count = Counter(row.speaker for row in rows)
    return [row for row in rows if count[row.speaker] >= minimum]


def _cap_speakers(rows: list[Candidate], most: int, seed: int) -> list[Candidate]:
    """`most` speakers of each region; men and women take turns as long as there are both."""
    kept: set[str] = set()
    for accent in {row.accent for row in rows}:
        genders = {row.speaker: row.gender or "" for row in rows if row.accent == accent}
        place: Counter[str] = Counter()
        turns = []
        for speaker in sorted(genders, key=lambda name: _draw(seed, "speaker", name)):
            place[genders[speaker]] += 1
            turns.append((place[genders[speaker]], _draw(seed, "speaker", speaker), speaker))
        kept.update(speaker for *_, speaker in sorted(turns)[:most])
    return [row for row in rows if row.speaker in kept]


def _cap_utterances(rows: list[Candidate], most: int, seed: int) -> list[Candidate]:
    by_speaker: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        by_speaker[row.speaker].append(row.utt_id)
    kept = {name for names in by_speaker.values() for name in sorted(names, key=lambda own: _draw(seed, "utterance", own))[:most]}
    return [row for row in rows if row.utt_id in kept]


def _draw(seed: int, *names: str) -> str:
    return sha256_bytes("\0".join([str(seed), *names]).encode())


def census_csv(steps: Iterable[Step]) -> str:
    """`step,rows,speakers`."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("step", "rows", "speakers"))
    writer.writerows(steps)
    return buffer.getvalue()


def read_census(text: str) -> list[Step]:
    """The steps of a `census.csv`."""
    return [(row["step"], int(row["rows"]), int(row["speakers"])) for row in csv.DictReader(io.StringIO(text))]
