"""The real commands in a process of their own, and the small search that they run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
CONFIG = """\
name: small
seed: 5
data:
  root: data/small
  source: {kind: demo, preset: EN3, speakers: 8, texts: 6}
  codec: {name: mfcc_pq, codewords: 32}
model:
  layer: 1
  tiny: {hidden: 32, layers: 2}
training:
  epochs: 3
  batch_size: 12
  steps_per_epoch: 3
  null_batch: {speakers: 2, utterances: 2}
  sub_frames: 32
evaluation: {bootstrap: 50, draws: 1, c_grid: [0.1]}
tuning: {slots: 4, workers: 2}
"""
PAPER = """\
paper:
  candidates: 2
  seeds: 2
  permutations: 99
  baselines: [no_lora, no_leakage]
  ablations: [wrong_accent]
  control: {texts: 1, speakers: 1, max_seconds: 0.5}
record: {hypothesis: "O sotaque é controlável: 100 % dos casos_teste"}
"""
SPACE = """\
method: random
metric: {name: score, goal: maximize}
run_cap: 5
early_terminate: {type: hyperband, min_iter: 1, eta: 3}
parameters:
  config: {value: small.yaml}
  lora_rank: {values: [2, 4]}
  lr: {distribution: log_uniform_values, min: 0.001, max: 0.02}
  leakage_weight: {values: [0, 1]}
"""


def write_search(folder: Path, config: str = CONFIG, space: str = SPACE) -> Path:
    """Put the two files of a search into `folder`, which becomes the current folder of its commands."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "small.yaml").write_text(config)
    (folder / "space.yaml").write_text(space)
    return folder


def environment() -> dict[str, str]:
    """Ours, with the package and without a terminal's width."""
    own = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "TERM")}
    return {**own, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}


@contextmanager
def started(folder: Path, module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`python -m <module> <arguments>` in `folder`, which leads a session of its own, and is killed where it has not ended with the block."""
    command, pipe = [sys.executable, "-m", module, *arguments], subprocess.PIPE
    with subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def run(folder: Path, module: str, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """`python -m <module> <arguments>` in `folder`."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=timeout, check=False)


def refused(done: subprocess.CompletedProcess[str], *words: str) -> str:
    """Assert that a command was refused with one message that has these words; returns the message."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr
    message = done.stderr[done.stderr.index("error: ") :]
    assert message.count("error: ") == 1
    for word in words:
        assert word in message, message
    return message
