"""How fast a corpus becomes a prepared cache with one and two processes, and the memory that takes, beside encoding alone.

    python -m benchmarks.preparation_speed [--rows 2048] [--seconds 3] [--processes 1 2] [--folder FOLDER]

Rows of modulated noise, imported as in `import_speed`; the codec `mfcc_pq` of 64 codewords and the speaker encoder of the tiny model, one thread per process.
A preparation reads, checks and decodes each file, fits the codec on train speakers, and makes codes, embeddings and text tokens; every process starts
Python, torch and the model (about 5 s). The limit is reading, `encode` and `embed` of the same files alone, in one process with everything loaded, times
the number of processes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.import_speed import run_import, write_shards
from benchmarks.process_tree import Watch, summed_by
from tune_accent.config.schema import Experiment

ONE = "import sys; from benchmarks.preparation_speed import prepare_one; prepare_one(sys.argv[1])"
SEVERAL = "import sys; from benchmarks.preparation_speed import prepare_with; prepare_with(sys.argv[1], int(sys.argv[2]))"
SAMPLE = 300


def experiment(root: Path) -> Experiment:
    """The experiment whose data are prepared; `root` holds the corpus and, beside it, the shards."""
    shards = {"kind": "coraa-mupe", "path": str(root.parent / "shards")}
    data = {"root": str(root), "source": shards, "min_duration_s": 0.1, "codec": {"name": "mfcc_pq", "codewords": 64}}
    return Experiment.model_validate({"name": "preparation", "seed": 0, "data": data})


def prepare_one(root: str) -> None:
    """One preparation, in a process of its own."""
    import torch

    from tune_accent.training.preparation import open_inputs

    torch.set_num_threads(1)
    open_inputs(experiment(Path(root)), torch.device("cpu"))


def prepare_with(root: str, processes: int) -> None:
    """The same cache by `processes` processes at once: what is measured."""
    running = [subprocess.Popen([sys.executable, "-c", ONE, root]) for _ in range(processes)]
    if any([process.wait() for process in running]):
        raise SystemExit(1)


def limit(root: Path) -> float:
    """Utterances per second of processor time when a finished cache's files are only read, encoded and embedded."""
    import torch

    from tune_accent.data.audio import read_audio
    from tune_accent.data.codec import MfccPq
    from tune_accent.training.preparation import open_inputs

    torch.set_num_threads(1)
    inputs = open_inputs(experiment(root), torch.device("cpu"))
    codec = MfccPq.load(root / "prepared" / inputs.speech.key / "codec")
    files = sorted((root / "audio").rglob("*.flac"))[:SAMPLE]
    began = time.process_time()
    for file in files:
        wave = read_audio(file)
        codec.encode(wave)
        inputs.backbone.speaker_embedding(wave)
    return len(files) / (time.process_time() - began)


def table(rows: int, seconds: float, processes: Sequence[int], folder: Path) -> Iterator[str]:
    """The table, line by line."""
    write_shards(folder / "shards", rows, seconds)
    root = folder / "corpus"
    run_import(str(folder / "shards"), str(root), 2)
    found = []
    for count in processes:
        shutil.rmtree(root / "prepared", ignore_errors=True)
        began = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-c", SEVERAL, str(root), str(count)])
        with Watch(process.pid) as watch:
            code = process.wait()
        if code:
            raise RuntimeError(f"the preparation failed ({code})")
        found.append((count, time.perf_counter() - began, sum(watch.cpu_s().values()), watch.peak_mb, watch.others))
    most = limit(root)
    yield f"{rows} rows of {seconds:g} s; reading, encoding and embedding alone: {most:.0f} per processor second; memory is {summed_by()}"
    yield f"{'processes':>9} {'wall s':>8} {'cpu s':>8} {'rows/s':>8} {'rows/cpu s':>11} {'of limit':>9} {'peak MB':>8} {'others':>7}"
    for count, wall, cpu, peak, others in found:
        share = rows / wall / (most * count)
        yield f"{count:>9} {wall:>8.1f} {cpu:>8.1f} {rows / wall:>8.0f} {rows / cpu:>11.0f} {share:>9.0%} {peak:>8.0f} {others:>7.1f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--folder", type=Path, help="where shards and corpora go; default: a temporary folder")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for line in table(arguments.rows, arguments.seconds, arguments.processes, Path(folder)):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
