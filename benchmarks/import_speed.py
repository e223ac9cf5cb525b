"""How fast shards of CORAA-MUPE-ASR become a corpus, and the memory that takes, beside decoding and resampling alone.

    python -m benchmarks.import_speed [--rows 1000 10000] [--seconds 3] [--workers 1 2] [--folder FOLDER]

Rows of modulated noise, each with other samples, of 40 speakers in four regions, 100 to a row group; every row is chosen. An import reads, decodes,
measures SNR and clipping, resamples, sets loudness, encodes FLAC, and writes each file durably. Peak memory is of all processes together. The limit is
`decode` and `to_24_khz` of the same bytes in one process, times the number of workers. Rows per second of processor time do not depend on what else
the machine does; `others` says how many cores that was.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import soundfile

from benchmarks.process_tree import Watch, summed_by
from tune_accent.base.progress import silent
from tune_accent.base.seeds import generator
from tune_accent.config import speech
from tune_accent.data.audio import decode, to_24_khz
from tune_accent.data.sources.kinds import source_of
from tune_accent.data.sources.making import make_corpus

RATE, GROUP, SHARD = 16_000, 100, 5_000  # Hz, rows of a row group, rows of a shard
STATES = ("Bahia", "São Paulo", "Paraná", "Pará")
SPEAKERS = 40
IMPORT = "import sys; from benchmarks.import_speed import run_import; run_import(sys.argv[1], sys.argv[2], int(sys.argv[3]))"


@dataclass(frozen=True)
class Measured:
    """One import: rows, processes, seconds of the clock and of processors, peak MB, cores that were busy with something else."""

    rows: int
    workers: int
    wall: float
    cpu: float
    peak_mb: float
    others: float


def sound(index: int, seconds: float) -> bytes:
    """A RIFF file of modulated noise; the first samples are the number."""
    draw = generator(0, "sound", index % 50)
    envelope = np.abs(np.sin(np.arange(int(seconds * RATE)) * 2 * np.pi * 3 / RATE))
    samples = (3000 * envelope * draw.standard_normal(len(envelope))).astype(np.int16)
    samples[:3] = [index % 997, index // 997 % 997, index // 997**2]
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def write_shards(folder: Path, rows: int, seconds: float) -> None:
    """`rows` rows in shards, written group by group."""
    folder.mkdir(parents=True)
    for first in range(0, rows, SHARD):
        groups = [
            range(start, min(start + GROUP, rows, first + SHARD)) for start in range(first, min(first + SHARD, rows), GROUP)
        ]
        table = _table(groups[0], seconds)
        with pyarrow.parquet.ParquetWriter(folder / f"train-{first:09d}.parquet", table.schema) as writer:
            for group in groups:
                writer.write_table(_table(group, seconds))


def _table(places: range, seconds: float) -> pyarrow.Table:
    return pyarrow.Table.from_pylist([_row(place, seconds) for place in places], schema=_SCHEMA)


_TEXTS = ("audio_name", "speaker_type", "speaker_code", "speaker_gender", "birth_state", "normalized_text")
_SCHEMA = pyarrow.schema(
    [
        *((name, pyarrow.string()) for name in _TEXTS),
        *((name, pyarrow.float32()) for name in ("start_time", "end_time", "duration")),
        ("audio", pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])),
    ]
)


def _row(place: int, seconds: float) -> dict[str, object]:
    speaker = place % SPEAKERS
    start = place // SPEAKERS * (seconds + 1)
    return {
        "audio_name": f"interview {speaker}",
        "speaker_type": "R",
        "speaker_code": f"speaker {speaker}",
        "speaker_gender": "MF"[speaker // len(STATES) % 2],
        "birth_state": STATES[speaker % len(STATES)],
        "normalized_text": f"frase número {place} de uma entrevista",
        "start_time": start,
        "end_time": start + seconds,
        "duration": seconds,
        "audio": {"bytes": sound(place, seconds), "path": None},
    }


def run_import(shards: str, root: str, workers: int) -> None:
    """What is measured, in a process of its own."""
    source = speech.CoraaMupe(path=shards, workers=workers)
    made = source_of(speech.Data(root=root, source=source, min_duration_s=0.1))
    assert made is not None
    make_corpus(Path(root), made, silent)


def measure(shards: Path, root: Path, rows: int, workers: int) -> Measured:
    """One import."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", IMPORT, str(shards), str(root), str(workers)])
    with Watch(process.pid) as watch:
        code = process.wait()
    wall = time.perf_counter() - began
    if code or len((root / "manifest.jsonl").read_bytes().splitlines()) != rows:
        raise RuntimeError(f"the import failed ({code})")
    return Measured(rows, workers, wall, sum(watch.cpu_s().values()), watch.peak_mb, watch.others)


def limit(seconds: float, rows: int = 300) -> float:
    """Rows per second of processor time when they are only decoded and resampled."""
    sounds = [sound(index, seconds) for index in range(rows)]
    to_24_khz(decode(io.BytesIO(sounds[0])).mono, RATE)
    began = time.process_time()
    for data in sounds:
        to_24_khz(decode(io.BytesIO(data)).mono, RATE)
    return rows / (time.process_time() - began)


def table(rows: list[int], seconds: float, workers: list[int], folder: Path) -> Iterator[str]:
    """The table, line by line."""
    most = limit(seconds)
    yield f"rows of {seconds:g} s; decoding and resampling alone: {most:.0f} rows per processor second; memory is {summed_by()}"
    yield f"{'rows':>8} {'workers':>8} {'wall s':>8} {'cpu s':>8} {'rows/s':>8} {'rows/cpu s':>11} {'of limit':>9} {'peak MB':>8} {'others':>7}"
    for count in rows:
        write_shards(folder / f"shards-{count}", count, seconds)
        for workers_ in workers:
            run = measure(folder / f"shards-{count}", folder / f"corpus-{count}-{workers_}", count, workers_)
            share = run.rows / run.wall / (most * run.workers)
            yield (
                f"{run.rows:>8} {run.workers:>8} {run.wall:>8.1f} {run.cpu:>8.1f} {run.rows / run.wall:>8.0f} {run.rows / run.cpu:>11.0f} "
                f"{share:>9.0%} {run.peak_mb:>8.0f} {run.others:>7.1f}"
            )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--folder", type=Path, help="where shards and corpora go (about 0.3 MB a row); default: a temporary folder"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for line in table(arguments.rows, arguments.seconds, arguments.workers, Path(folder)):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
