"""Shards in the schema of CORAA-MUPE-ASR with espeak-ng's Portuguese, and everything that is odd in the real ones.

`ROWS` is the corpus; its census is worked out by hand in test_coraa_mupe.py. For configs/coraa_mupe_demo.yaml there is another one, without oddities,
of two regions (one speaks as in Brazil, one as in Portugal), 8 speakers each who read 6 sentences of their own:

python -m tests.data.coraa_shards data/coraa_mupe_shards
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import soundfile
import soxr

from tune_accent.base.progress import silent
from tune_accent.base.seeds import generator
from tune_accent.data.audio import Wave
from tune_accent.data.sources.demo_texts import PORTUGUESE
from tune_accent.data.sources.espeak import Request, synthesise

RATE = 16_000
SCHEMA = pyarrow.schema(
    [
        *((name, pyarrow.int64()) for name in ("audio_id", "age", "recording_year")),
        *(
            (name, pyarrow.string())
            for name in (
                *("audio_name", "file_path", "speaker_type", "speaker_code", "speaker_gender", "education", "birth_state"),
                *("birth_country", "racial_category", "audio_quality", "normalized_text", "original_text"),
            )
        ),
        *((name, pyarrow.float32()) for name in ("start_time", "end_time", "duration")),
        ("audio", pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])),
    ]
)


@dataclass(frozen=True)
class Row:
    """A row of a shard; `sound` is the number of its recording, "corrupt" or "none"."""

    speaker: str
    state: str | None
    gender: str
    sound: int | str
    number: int = 0
    speaker_type: str = "R"
    country: str | None = "Brasil"
    duration: float = 3.5
    quality: str = "high"
    normalized: str | None = "sim eu nasci lá"
    original: str | None = "Sim, eu nasci lá."
    file_path: str | None = None
    age: int = 0


def people(speaker: str, state: str, gender: str, count: int, sounds: Iterator[int], **changes: Any) -> list[Row]:
    """`count` rows of a speaker, each with a sound of its own."""
    return [Row(speaker, state, gender, next(sounds), number, **changes) for number in range(count)]


def corpus() -> list[Row]:
    """Every row; sound 0 is shared by rows that no filter lets pass."""
    sounds = iter(range(1, 1000))
    rows = [
        *people("PA_1", "Pará", "F", 3, sounds, age=61),
        Row("PA_1", "Pará", "F", "corrupt", 3),
        *people("AM_1", "Amazonas", "M", 3, sounds),
        *people("TO_1", "to", "F", 3, sounds),
        *people("BA_1", "Bahia", "F", 3, sounds),
        Row("BA_1", "Bahia", "F", "none", 3),
        *people("PB_1", "paraiba", "M", 3, sounds, country=None),
        *people("CE_1", "CEARA", "F", 3, sounds, country="Brazil"),
        *people("RJ_1", "Rio De Janeiro", "M", 3, sounds),
        Row("RJ_1", "Rio De Janeiro", "M", 901, 3, duration=3.0),
        Row("RJ_1", "Rio De Janeiro", "M", 0, 4, duration=2.99),
        *people("SP_1", "São Paulo", "F", 2, sounds),
        Row("SP_1", "Sao Paulo", "F", 902, 2, duration=15.0),
        Row("SP_1", "São Paulo", "F", 0, 3, duration=15.01),
        *people("ES_1", "Espirito Santo", "M", 2, sounds),
        Row("ES_1", "Espírito Santo", "M", next(sounds), 2, normalized="", original="Fica só o original."),
        Row("ES_1", "Espírito Santo", "M", 0, 3, normalized=" ", original=None),
        Row("MG_1", "MG", "F", 903, 0, file_path="a/seg_0001.wav"),
        Row("MG_1", "MG", "F", next(sounds), 1, file_path="b/seg_0001.wav"),
        Row("MG_1", "MG", "F", 903, 2),
        *people("MG_1", "Minas Gerais", "F", 2, sounds, quality="low"),
        *[Row("PR_1", "Paraná", "M", 0, number) for number in range(3)],
        *[Row("RS_1", "Rio Grande Do Sul", "F", 0, number) for number in range(3)],
        *[Row("GO_1", "Goiás", "M", 0, number) for number in range(3)],
        *[Row("DF_1", "Distrito Federal", "F", 0, number) for number in range(3)],
        *[Row("MT_1", "Mato Grosso", "M", 0, number) for number in range(2)],
        *[Row("P1", "São Paulo", "F", 0, number, speaker_type=kind) for number, kind in enumerate(("P/1", "P", "P/2"))],
        *[Row("X1", "", "F", 0, number, country="Portugal") for number in range(3)],
        *[Row("X2", "unknown", "M", 0, number) for number in range(3)],
        Row("X3", "Atlântida", "M", 0),
        *[Row("X4", "Bahia", "X", 0, number) for number in range(3)],
        Row("X5", "Bahia", "M", 0, country="Argentina"),
        *[Row("Y1", state, "M", 0, number) for number, state in enumerate(("Bahia", "Bahia", "São Paulo"))],
        Row("", "Bahia", "F", 0),
    ]
    order = generator(0, "rows").permutation(len(rows))
    return [rows[int(index)] for index in order]


ROWS = corpus()


def voices(folder: Path, rows: Sequence[Row]) -> dict[int, Wave]:
    """Real espeak speech at 16 kHz, at least 4 s, by the number of the sound."""
    numbers = sorted({row.sound for row in rows if isinstance(row.sound, int)})
    requests = [
        Request(str(folder / f"{n}.wav"), f"pt-br+{'mf'[n % 2]}{1 + n % 4}", PORTUGUESE[n % 40], 150 + n % 30, 50, 40 + n % 20)
        for n in numbers
    ]
    synthesise(requests, 2, silent)
    return {n: _at_16_khz(folder / f"{n}.wav") for n in numbers}


def _at_16_khz(path: Path) -> Wave:
    wave, rate = soundfile.read(str(path), dtype="float32")
    resampled: Wave = soxr.resample(wave, rate, RATE)
    return resampled


def encoded(wave: Wave, seconds: float, container: str) -> bytes:
    """`wave` repeated or cut to `seconds`, as 16-bit RIFF or FLAC."""
    wanted = round(seconds * RATE)
    buffer = io.BytesIO()
    samples = np.rint(np.resize(wave, wanted) * 32767).astype(np.int16)  # the same samples in both containers
    soundfile.write(buffer, samples, RATE, format=container, subtype="PCM_16")
    return buffer.getvalue()


def write_shards(folder: Path, rows: Sequence[Row], sounds: dict[int, Any], group: int = 9, shards: int = 3) -> Path:
    """The rows in `shards` files with `group` rows in a row group."""
    folder.mkdir(parents=True, exist_ok=True)
    size = -(-len(rows) // shards)
    for index, name in enumerate(("train", "validation", "test", *map(str, range(shards)))[:shards]):
        part = rows[index * size : (index + 1) * size]
        records = [record(row, partial(_bytes, sounds), index * size + place) for place, row in enumerate(part)]
        table = pyarrow.Table.from_pylist(records, schema=SCHEMA)
        pyarrow.parquet.write_table(table, folder / f"{name}-{index:05d}-of-{shards:05d}.parquet", row_group_size=group)
    return folder


def _bytes(sounds: dict[int, Any], row: Row, place: int) -> bytes | None:
    if row.sound == "none":
        return None
    if row.sound == "corrupt":
        return b"RIFF" + bytes(range(256)) * 20
    return encoded(sounds[int(row.sound)], row.duration, ("WAV", "FLAC")[place % 2])


def record(row: Row, audio: Any, place: int) -> dict[str, Any]:
    """One row in the columns of the real corpus."""
    start = 20.0 * row.number
    return {
        "audio_id": place,
        "age": row.age,
        "recording_year": 1998,
        "audio_name": f"MUPE_{row.speaker}",
        "file_path": row.file_path or f"data/MUPE_{row.speaker}/seg_{row.number:04d}.wav",
        "speaker_type": row.speaker_type,
        "speaker_code": row.speaker,
        "speaker_gender": row.gender,
        "education": "unknown",
        "birth_state": row.state,
        "birth_country": row.country,
        "racial_category": "unknown",
        "audio_quality": row.quality,
        "normalized_text": row.normalized,
        "original_text": row.original,
        "start_time": start,
        "end_time": start + row.duration,
        "duration": row.duration,
        "audio": {"bytes": audio(row, place), "path": None},
    }


def write_demo(folder: Path, speakers: int = 8, utterances: int = 6) -> Path:
    """Shards of a corpus that can be searched: `speakers` of Bahia and of São Paulo each."""
    plan = [
        (state, number, place) for state in ("Bahia", "São Paulo") for number in range(speakers) for place in range(utterances)
    ]
    rows = [
        Row(
            f"{state[0]}{number}",
            state,
            "MF"[number % 2],
            sound,
            place,
            duration=3.2 + 0.2 * (place % 3),
            normalized=_said(sound),
        )
        for sound, (state, number, place) in enumerate(plan)
    ]
    with TemporaryDirectory() as scratch:
        requests = [
            Request(str(Path(scratch) / f"{sound}.wav"), _voice(*step[:2]), _said(sound), 150 + 4 * step[1], 40 + 3 * step[1], 50)
            for sound, step in enumerate(plan)
        ]
        synthesise(requests, 2, silent)
        sounds = {sound: _at_16_khz(Path(scratch) / f"{sound}.wav") for sound in range(len(plan))}
    return write_shards(folder, rows, sounds, group=16, shards=2)


def _voice(state: str, number: int) -> str:
    return f"{'pt-br' if state == 'Bahia' else 'pt'}+{'mf'[number % 2]}{1 + number // 2 % 4}"


def _said(sound: int) -> str:
    return PORTUGUESE[sound * 7 % len(PORTUGUESE)]


if __name__ == "__main__":
    write_demo(Path(sys.argv[1]))
