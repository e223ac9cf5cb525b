"""`python -m tune_accent.synthesize` with what a real search has left."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.entries.test_synthesize import SYNTHESIZE, TEXT, command
from tests.warm import Warm

pytestmark = [pytest.mark.ray, pytest.mark.slow]  # the search is made once, in the process of the tests with Ray


def test_the_best_of_a_search_speaks_wherever_it_is(searched: Path, tmp_path: Path, warm: Warm) -> None:
    """From the search's own folder, and from a copy beside nothing else."""
    shutil.copytree(searched, tmp_path / "here")
    best, copy = tmp_path / "here" / "ray_results" / "one" / "best", tmp_path / "there"
    shutil.copytree(best, copy / "best")
    audio = next((tmp_path / "here" / "data" / "small" / "audio").rglob("*.wav"))
    shutil.copyfile(audio, copy / "ref.wav")
    say = ["--text", TEXT, "--accent", "en-gb-scotland"]
    own = warm.run(tmp_path / "here", SYNTHESIZE, *command("x.wav", *say, adapter="ray_results/one/best", wav=str(audio)))
    moved = warm.run(copy, SYNTHESIZE, *command("x.wav", *say))
    assert own.returncode == moved.returncode == 0, own.stderr + moved.stderr
    assert own.stdout == moved.stdout
    assert (tmp_path / "here" / "x.wav").read_bytes() == (copy / "x.wav").read_bytes()
