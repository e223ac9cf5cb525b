"""A search request over the small demo, and reports that look like a trial's, for what reads the records of a search."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.support import small_experiment
from tests.tuning.simulated import Clock
from tune_accent.base.files import sha256_json
from tune_accent.config.load import dump_experiment, resolve
from tune_accent.config.schema import Experiment
from tune_accent.config.space import load_space
from tune_accent.evaluation import Evaluation
from tune_accent.evaluation.figures import AccentDetail, Figure, Speakers, Used
from tune_accent.training.preparation import PreparedRecord
from tune_accent.tuning.core import Core
from tune_accent.tuning.driver import Request
from tune_accent.tuning.folder import trial_key
from tune_accent.tuning.memo import DictMemo, Memo
from tune_accent.tuning.settings import search_settings, search_suggester

PREPARED = PreparedRecord("r", "m", "s", "c", "b")
SPACE = """\
name: small
method: random
metric: {name: score, goal: maximize}
run_cap: 5
early_terminate: {type: hyperband, min_iter: 1, eta: 3}
parameters:
  config: {value: small.yaml}
  lora_rank: {values: [2, 4]}
  lora_alpha_ratio: {values: [1, 2]}
  lr: {distribution: log_uniform_values, min: 0.001, max: 0.02}
  leakage_weight: {values: [0, 1]}
  training.batch_size: {values: [9, 12]}
"""


def request(folder: Path, space: str = SPACE, experiment: Experiment | None = None, **changes: Any) -> Request:
    """The request of `space`, written to `folder`; `changes` replace fields of it."""
    chosen = experiment or small_experiment(folder / "data")
    (folder / "small.yaml").write_text(dump_experiment(chosen))
    (folder / "space.yaml").write_text(space)
    loaded = load_space(folder / "space.yaml")
    return Request(**{"experiment": chosen, "space": loaded, "run_cap": loaded.run_cap, "root": folder / "results", **changes})


def core_of(asked: Request, memo: Memo | None = None) -> Core:
    """The core of a request, before anything is known."""
    settings = search_settings(asked.experiment, asked.space, asked.run_cap)

    def key_of(params: Mapping[str, Any]) -> str:
        return trial_key(resolve(asked.experiment, params).model_dump(mode="json"), vars(PREPARED))

    return Core(settings, search_suggester(asked.experiment, asked.space, settings), key_of, memo or DictMemo())


def finished(asked: Request, **metrics: Any) -> Core:
    """The same core when every epoch was reported; `metrics` replace figures."""
    core = core_of(asked)
    assert Clock(core, 2, outcome=lambda grant: {**report(grant.params, grant.key, grant.epoch), **metrics}).run()
    return core


def report(params: Mapping[str, Any], key: str, epoch: int) -> dict[str, Any]:
    """Figures as `train` reports them: they depend on the trial and the epoch only, and not on `key`, which changes with every protocol."""
    noise = float(np.random.default_rng([int(sha256_json(dict(params))[:8], 16), epoch]).normal(0, 0.02))
    f1, leakage = 0.5 + 0.1 * epoch + noise, 0.25 if params["leakage_weight"] else 0.05
    return {
        "accent_f1": f1,
        "accent_balanced_accuracy": f1,
        "speaker_leakage": leakage,
        "speaker_leakage_unseen": leakage,
        "speaker_leakage_seen": leakage / 2,
        "text_drop": None,
        "val_loss": 5.0,
        "base_val_loss": 5.1,
        "score": f1 - leakage,
        "feasible": leakage <= 0.07,
        "evaluation": evaluation(f1, leakage).to_dict(),
        "ended": False,
    }


def evaluation(f1: float, leakage: float) -> Evaluation:
    """An evaluation of two accents with two scored speakers each."""
    value = Figure(f1, f1 - 0.1, f1 + 0.1, 0.5, 4)
    leaked, plain = Figure(leakage, leakage - 0.05, leakage + 0.05, 0.0, 4), Figure(0.5)
    return Evaluation(
        accent_f1=value,
        accent_balanced_accuracy=value,
        leakage_unseen=leaked,
        leakage_seen=leaked,
        leakage=leaked,
        leakage_raw=plain,
        leakage_raw_ceiling=plain,
        leakage_auc=plain,
        text_drop=Figure(None, reason="texts are not shared"),
        per_accent={name: AccentDetail(Figure(0.5), leaked, leaked, 4, 2) for name in ("en-us", "en-029")},
        confusion=((2, 0), (0, 2)),
        gate_accents=("en-029", "en-us"),
        secondary_accents=(),
        used=Used(2, 6, 6, 1),
        strength=0.1,
        protocol_version=1,
        speakers=Speakers({"a": 0, "b": 0, "c": 1, "d": 1}, {"a": (5, 1), "b": (4, 2), "c": (2, 4), "d": (0, 6)}),
    )
