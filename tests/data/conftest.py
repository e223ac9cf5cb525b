"""One small demo corpus for all tests of the room."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.data import coraa_shards
from tests.data.small_corpora import SMALL
from tune_accent.base.progress import silent
from tune_accent.data.audio import Wave, read_audio
from tune_accent.data.sources import demo


@pytest.fixture(scope="session")
def made_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo corpus of 3 accents × 4 speakers × 3 texts; read only."""
    root = tmp_path_factory.mktemp("corpus") / "demo"
    demo.ensure(root, SMALL, 0, silent)
    return root


@pytest.fixture
def demo_root(made_demo: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(made_demo, tmp_path / "demo"))


@pytest.fixture(scope="session")
def coraa_sounds(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Wave]:
    """The recordings of the shards."""
    pytest.importorskip("espeakng_loader", reason="the demo extra")
    return coraa_shards.voices(tmp_path_factory.mktemp("voices"), coraa_shards.ROWS)


@pytest.fixture(scope="session")
def made_shards(coraa_sounds: dict[int, Wave], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards in the form of CORAA-MUPE-ASR; read only."""
    return coraa_shards.write_shards(tmp_path_factory.mktemp("coraa") / "data", coraa_shards.ROWS, coraa_sounds)


@pytest.fixture(scope="session")
def waves(made_demo: Path) -> list[Wave]:
    """The speech of the corpus, at 24 kHz."""
    return [read_audio(path) for path in sorted(made_demo.glob("audio/*/*.wav"))]
