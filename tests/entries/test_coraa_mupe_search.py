"""Interviews through the whole pipeline: shards, `prepare`, a search with Ray, its table; nobody shares a text with anyone."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.data.coraa_shards import write_demo
from tests.entries.command import REPOSITORY
from tests.warm import Warm

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SPACE = """\
method: random
metric: {name: score, goal: maximize}
run_cap: 2
parameters:
  config: {value: coraa.yaml}
  lora_rank: {values: [2, 4]}
  leakage_weight: {values: [0, 1]}
"""


def said_by(done: subprocess.CompletedProcess[str]) -> str:
    """What a command said that went well."""
    assert done.returncode == 0, done.stderr
    return done.stdout


def lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A current folder with shards, the shipped config of two epochs on a smaller model with one worker, and a space."""
    pytest.importorskip("espeakng_loader", reason="the demo extra")
    found = tmp_path_factory.mktemp("interviews")
    config: dict[str, Any] = yaml.safe_load((REPOSITORY / "configs" / "coraa_mupe_demo.yaml").read_text(encoding="utf-8"))
    config["training"]["epochs"] = 2
    config["model"] |= {"tiny": {"hidden": 32, "layers": 2}, "layer": 1}
    config["tuning"] = config.get("tuning", {}) | {"workers": 1}
    config["evaluation"] = {"bootstrap": 50, "draws": 1, "c_grid": [0.1]}
    (found / "coraa.yaml").write_text(yaml.safe_dump(config))
    (found / "space.yaml").write_text(SPACE)
    write_demo(found / config["data"]["source"]["path"])
    return found


def test_shards_become_a_table_of_trials(folder: Path, warm: Warm) -> None:
    said = said_by(warm.run(folder, "tune_accent.prepare", "coraa-mupe", "--config", "coraa.yaml"))
    assert "96 utterances, 16 speakers" in said and "Codes and embeddings are in data/coraa_mupe_demo/prepared/" in said
    assert "is whole" in said_by(warm.run(folder, "tune_accent.prepare", "coraa-mupe", "--config", "coraa.yaml", "--check"))
    corpus = folder / "data" / "coraa_mupe_demo"
    assert all(row["text_id"] is None for row in lines(corpus / "manifest.jsonl"))
    said_by(warm.run(folder, "tune_accent.search", "space.yaml", "--name", "interviews"))
    results = folder / "ray_results" / "interviews"
    with (results / "trials.csv").open(encoding="utf-8", newline="") as stream:
        trials = list(csv.DictReader(stream))
    assert len(trials) == 2 and all(float(row["score"]) <= 1 and float(row["accent_f1"]) > 0 for row in trials)
    epochs = lines(results / "epochs.jsonl")
    assert len(epochs) == 4 and all(epoch["text_drop"] is None for epoch in epochs), "not identifiable: no text is shared"
