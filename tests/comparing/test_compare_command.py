"""`python -m tune_accent.compare`: a comparison, and one message for every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.comparing.campaigns import results
from tests.entries.command import refused, run

COMPARE = "tune_accent.compare"


def test_two_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = results(tmp_path / "a", monkeypatch, tmp_path / "ray_results" / "lora", "bayes")
    results(tmp_path / "a", monkeypatch, tmp_path / "ray_results" / "other", "random", experiment=one.experiment)
    done = run(tmp_path, COMPARE, "ray_results/lora", "--with", "ray_results/other", "--threshold", "0.5")
    assert done.returncode == 0, done.stderr
    assert "nothing about the engines" in done.stdout and "ray_results/lora/comparison/index.html" in done.stdout
    assert "0.5,given,GP + ASHA,epochs" in (tmp_path / "ray_results" / "lora" / "comparison" / "times.csv").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("x", "--with", "engine:own", "--repeats", "0"), "--repeats"),
        (("x", "--with", "engine:own", "--ignore", "all"), "one of space, metric, data, code"),
        (("x", "--with", "engine:own"), "no such folder"),
    ],
)
def test_mistakes(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    refused(run(tmp_path, COMPARE, *arguments), words)
