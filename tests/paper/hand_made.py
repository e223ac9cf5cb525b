"""Trials and runs made by hand, for what a paper run decides from the records of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.tuning.small_search import SPACE, request
from tune_accent.config.load import resolve
from tune_accent.paper.results import Arm, TrainedRun
from tune_accent.tuning.core import State, Trial
from tune_accent.tuning.driver import Request

TPE = SPACE.replace("method: random", "method: bayes")
PARAMS = {"lora_rank": 4, "lora_alpha_ratio": 2, "lr": 0.005, "leakage_weight": 1.0, "training.batch_size": 12}


def asked(folder: Path, space: str = TPE, values: Mapping[str, Any] | None = None) -> Request:
    """The request of a small search; `values` are put into its experiment."""
    made = request(folder, space)
    return request(folder, space, resolve(made.experiment, values)) if values else made


def trial(number: int, score: float, *, feasible: bool = True, state: State = "COMPLETE", **params: Any) -> Trial:
    """A trial with two reports, of which the first is the better one: it must not count."""
    reports = [{"score": 9.0, "val_loss": 0.0, "feasible": True}, {"score": score, "val_loss": -score, "feasible": feasible}]
    return Trial(number, {}, {**PARAMS, "lr": 0.001 * (number + 1), **params}, f"key{number}", None, state, list(reports))


def arm(number: int) -> Arm:
    """The candidate of trial `number`."""
    return Arm(f"candidate {number}", "candidate", PARAMS, "rank ? in the search", number)


def runs(number: int, scores: Sequence[float], leakage: float = 0.05, state: str = "COMPLETE") -> list[TrainedRun]:
    """Runs of trial `number`'s candidate, one per score, whose last reports have these figures."""
    last = [{"score": score, "speaker_leakage_unseen": leakage, "val_loss": -score} for score in scores]
    return [
        TrainedRun(f"candidate {number}", repeat, f"key{number}/{repeat}", state, [{"score": 9.0}, report])
        for repeat, report in enumerate(last, 1)
    ]
