"""The small search that the commands of several files look at, run once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.entries.command import CONFIG, PAPER, run, write_search


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the small search was run with one worker, as `ray_results/one`. Whoever changes anything in it works on a copy."""
    pytest.importorskip("espeakng_loader", reason="the demo extra")
    folder = write_search(tmp_path_factory.mktemp("search"))
    (folder / "one.yaml").write_text(CONFIG.replace("workers: 2", "workers: 1") + PAPER)
    done = run(folder, "tune_accent.search", "space.yaml", "--config", "one.yaml", "--name", "one")
    assert done.returncode == 0, done.stderr
    assert "Best trial: " in done.stdout and "Verdict: " in done.stdout and "Traceback" not in done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("[5/5] ")]
    return folder
