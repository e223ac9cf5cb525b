"""How long a prepared cache of 170,000 utterances takes to open, and the memory: beside the goal of 2 s and 300 MB.

    python -m benchmarks.loading [--utterances 170000] [--dimensions 1024] [--folder FOLDER]

The cache is synthetic: the files and the table of a real one, codes and embeddings are zeros (holes in their files, so it takes little disk). Each line
is a process of its own; the memory is of the whole process with Python, numpy and pandas. What every trial's worker does is `open`, `sampler`
and `labels`; the neutral voice reads the embeddings of all training rows, whose pages the system can take back.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tune_accent.base.files import sha256_file, write_json
from tune_accent.config.schema import Training
from tune_accent.data.cache_format import FORMAT, META, key_of, libraries
from tune_accent.data.cached_table import RowsFile, save_table
from tune_accent.data.prepared import Prepared, reopen_prepared
from tune_accent.data.speech import SpeechSampler, mean_of_rows, numbers_of, training_rows

EMBEDDER, SPEAKERS, ACCENTS = "synthetic", 272, ("CO", "N", "NE", "S", "SE")
STEPS = 200
MEASURE = "import sys; from benchmarks.loading import measure; measure(sys.argv[1], sys.argv[2])"


def write_cache(root: Path, utterances: int, dimensions: int) -> Path:
    """A cache in the files of a real one, with lengths of 3 to 15 s."""
    request = {"format": FORMAT, "libraries": libraries(), "embedder": EMBEDDER, "utterances": utterances}
    folder = root / key_of(request)
    folder.mkdir()
    rng = np.random.default_rng(0)
    speaker = np.sort(rng.integers(0, SPEAKERS, utterances))
    split = np.array(["train", "train", "val", "test"])[speaker % 4]
    named = {
        "speaker": [f"MUPE_speaker_{number:04d}" for number in speaker],
        "accent": [ACCENTS[number % 5] for number in speaker],
        "text_id": [None] * utterances,
        "gender": ["MF"[number // 5 % 2] for number in speaker],
        "split": split.tolist(),
    }
    ids = [f"mupe_speaker_{number:04d}_seg_{row:07d}-{row:012x}" for row, number in enumerate(speaker)]
    save_table(folder, ids, named, rng.integers(0, 3, utterances).tolist(), None)
    frames = np.concatenate([[0], np.cumsum(rng.integers(38, 188, utterances))])
    words = np.arange(utterances + 1) * 20
    np.save(folder / "frame_offsets.npy", frames)
    np.save(folder / "text_offsets.npy", words)
    for name, dtype, shape in (
        ("codes", np.int16, (int(frames[-1]), 16)),
        ("text_tokens", np.int32, (int(words[-1]),)),
        ("speaker_embeddings", np.float32, (utterances, dimensions)),
    ):
        with RowsFile(folder / f"{name}.npy", dtype, shape):
            pass
    sums = {path.name: sha256_file(path) for path in folder.iterdir()}
    head = {"codec_fingerprint": "none", "codebook_size": 2048, "gate_accents": list(ACCENTS), "held_fold": 0}
    write_json(folder / META, {**head, "request": request, "sha256": sums})
    return folder


def opened(folder: Path) -> Prepared:
    """As a trial opens it."""
    cache = reopen_prepared(folder, EMBEDDER)
    assert cache is not None
    return cache


def _sampler(cache: Prepared) -> SpeechSampler:
    return SpeechSampler(cache.table, cache.held_fold, Training(batch_size=18, length_buckets=50), cache.lengths)


def _trial(cache: Prepared) -> SpeechSampler:
    for column in ("accent", "speaker"):
        numbers_of(cache.table[column], sorted(cache.table[column].unique()))
    return _sampler(cache)


def _steps(cache: Prepared) -> None:
    drawn = _trial(cache).epoch(np.random.default_rng(0))
    for _ in range(STEPS):
        step = next(drawn)
        for row in (*step.accented, *step.null):
            cache.codes_of(int(row)).sum()


def _voice(cache: Prepared) -> None:
    _steps(cache)
    mean_of_rows(cache.speaker_embeddings, training_rows(cache.table, cache.held_fold))


STAGES: dict[str, Callable[[Prepared], object]] = {
    "open": lambda cache: cache,
    "open, sampler, labels": _trial,
    f"the same and {STEPS} batches": _steps,
    "the same and the mean voice": _voice,
}


def measure(folder: str, stage: str) -> None:
    """Print seconds, and MB of the process: resident, its peak, and the part that is no mapped file."""
    began = time.perf_counter()
    STAGES[stage](opened(Path(folder)))
    seconds = time.perf_counter() - began
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    mb = [int(lines[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM", "RssAnon")]
    sys.stdout.write(f"{stage:<32} {seconds:>8.2f} {mb[0]:>9.0f} {mb[1]:>9.0f} {mb[2]:>12.0f}\n")


def main() -> None:
    """Write the cache and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=170_000)
    parser.add_argument("--dimensions", type=int, default=1024, help="of a speaker embedding")
    parser.add_argument("--folder", type=Path, help="where the cache goes; default: a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        cache = write_cache(Path(folder), arguments.utterances, arguments.dimensions)
        size = sum(path.stat().st_size for path in cache.iterdir()) / 2**20
        began = time.perf_counter()
        opened(cache)
        first = time.perf_counter() - began
        sys.stdout.write(f"{arguments.utterances} utterances, {size:.0f} MB; the first time, with all checksums: {first:.2f} s\n")
        sys.stdout.write(f"{'':<32} {'seconds':>8} {'RSS MB':>9} {'peak MB':>9} {'not mapped':>12}\n")
        sys.stdout.flush()
        for stage in STAGES:
            subprocess.run([sys.executable, "-c", MEASURE, str(cache), stage], check=True)


if __name__ == "__main__":
    main()
