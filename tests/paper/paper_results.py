"""Results of a paper run made by hand: a simulated search, and real evaluations of simulated codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests.evaluation.simulated_codes import make_code, make_table
from tests.tuning.small_search import SPACE, finished, report, request
from tune_accent.config.load import resolve
from tune_accent.evaluation import Evaluation, Figure, Protocol, evaluate
from tune_accent.paper.arms import arm_verdict
from tune_accent.paper.results import (
    WINNER,
    Arm,
    Candidate,
    Compute,
    ControlResults,
    Opening,
    PaperResults,
    Reproduction,
    TestedRun,
    TrainedRun,
)

ODD = "São_Tomé & 50% {x^2} #1 $y~ \\end"
PROTOCOL = Protocol(speakers=3, draws=1, c_grid=(0.1,), bootstrap=100, permutations=99, score_split="test")
WIDE = SPACE.replace("run_cap: 5", "run_cap: 24").replace("values: [0, 1]", "values: [0, 0.1, 1, 3]")


@cache
def measured(accent: float, speaker: float, seed: int, names: tuple[str, ...] = (), texts: bool = True) -> Evaluation:
    """An evaluation of three accents with four test speakers each; equal arguments give the same one."""
    table = make_table(train=5, val=0, test=4, utterances=6)
    if names:
        table["accent"] = table["accent"].map(dict(zip(sorted(table["accent"].unique()), names, strict=True)))
    code = make_code(table, accent=accent, speaker=speaker, dims=12, seed=seed)
    if not texts:
        table["text_id"] = [f"own{row}" for row in range(len(table))]
    return evaluate(code, table, PROTOCOL, seed)


def tested(arm: str, repeat: int, accent: float, speaker: float, **how: Any) -> TestedRun:
    """A tested run whose codes hold that much accent and speaker."""
    neutral, given, raw = (
        measured(accent, speaker + more, 100 * repeat + place, **how) for place, more in enumerate((0.0, 0.4, 0.8))
    )
    share = Figure(0.6, 0.4, 0.8, 1 / 3, 12)
    wrong = {"heard_true": share, "heard_set": replace(share, value=0.3, low=0.1, high=0.5)} if arm == WINNER else {}
    return TestedRun(arm, repeat, f"{arm}-{repeat}", neutral, given, raw, wrong, 4.9 + 0.01 * repeat, 5.0)


def arms(params: Mapping[str, Any]) -> list[Arm]:
    """A winner, two baselines and an ablation."""
    return [
        Arm(WINNER, "candidate", params, "trial 3, rank 2 in the search", 3),
        Arm("no_lora", "baseline", {**params, "model.lora.enabled": False}, "the same heads on the frozen backbone"),
        Arm("no_leakage", "baseline", {**params, "leakage_weight": 0.0}, "nothing is done against speaker leakage"),
        Arm("unconditional", "ablation", {**params, "objective.conditional": False}, "leakage is fought across accents"),
    ]


def trained(arm: Arm, repeat: int, epochs: int = 3, state: str = "COMPLETE") -> TrainedRun:
    """A run with the reports of the simulated search."""
    params = {"leakage_weight": 1, **arm.params, "training.repeat": repeat, "arm": arm.name}
    reports = [report(params, "", epoch) for epoch in range(1, epochs + 1)]
    return TrainedRun(
        arm.name, repeat, f"{arm.name}-{repeat}", state, reports, None if state == "COMPLETE" else "loss is nan at step 7"
    )


def control(accents: Sequence[str]) -> ControlResults:
    """A control experiment in which A is followed."""
    rows = [
        {
            "text_id": "t1",
            "speaker": "a0s05",
            "accent": accents[0],
            "setting": "A set",
            "target": each,
            "heard": each,
            "similarity": 0.5,
        }
        for each in accents
    ]
    share = Figure(0.7, 0.5, 0.9, 1 / len(accents), 6)
    matrix = tuple(tuple(map(float, row)) for row in np.eye(len(accents)))
    figures = {"follows": share, "similarity_drop": Figure(0.02, -0.01, 0.05, 0.0, 6)}
    return ControlResults(
        rows, tuple(accents), matrix, figures, {"follows": share}, replace(share, value=0.8), "the tiny model speaks noise"
    )


def paper_results(folder: Path, *, names: tuple[str, ...] = (), texts: bool = True, **changes: Any) -> PaperResults:
    """A whole paper run over two seeds; `changes` replace fields.

    Args:
        folder: where files of the simulated search are written.
        names: of the three accents.
        texts: whether texts are shared, so that there is a text drop.
    """
    asked = request(folder, WIDE)
    spec = resolve(asked.experiment, {})
    trials = finished(asked).trials
    every = arms(next(trial for trial in trials if trial.state == "COMPLETE").params)
    levels = {"winner": (1.2, 0.3), "no_lora": (0.5, 0.5), "no_leakage": (1.2, 0.8), "unconditional": (0.9, 0.3)}
    found = [tested(arm.name, repeat, *levels[arm.name], names=names, texts=texts) for arm in every for repeat in (1, 2)]
    candidates = (
        Candidate("candidate 3", 3, 2, 0.70, (0.66, 0.64), (0.05, 0.06), 1, True),
        Candidate("candidate 7", 7, 1, 0.75, (0.60, 0.62), (0.07, 0.06), 2, False),
    )
    hashes = {run: {"adapter": "a" * 64, "heads": "b" * 64, "metrics": "c" * 64} for run in ("run 1", "run 2", "search")}
    spent = [
        {"part": "search", "state": "COMPLETE", "runs": 9, "epochs": 27, "repeated": 0, "hours": 0.125},
        {"part": "paper", "state": "DIVERGED", "runs": 1, "epochs": 2, "repeated": 0, "hours": 0.01},
    ]
    made = PaperResults(
        name="small",
        experiment=spec,
        space=asked.space.space,
        method="random",
        run_cap=asked.run_cap,
        search=trials,
        search_best=7,
        selection=candidates,
        arms=every,
        runs=[trained(arm, repeat) for arm in every for repeat in (1, 2)],
        tested=found,
        verdict=replace(found[0].neutral.gate(spec.gate)),
        reproduction=Reproduction(True, False, "epoch 1, adapter: layers.0", "other GPU: A → B", hashes, "cpu"),
        control=control(names or ("accent0", "accent1", "accent2")),
        openings=[Opening("2026-05-01T10:00:00+00:00", "f" * 64, "first opening")],
        compute=Compute(spent, 812.5),
        environment={
            "python": "3.11.9",
            "tune_accent": "0.1.0",
            "packages": {"torch": "2.13.0"},
            "processor": "CPU",
            "cores": 2,
            "gpus": [],
        },
        hashes={"spec": "1" * 64, "manifest": "2" * 64, "splits": "3" * 64, "cache": "4" * 64, "backbone": "5" * 64},
        commands=["python -m tune_accent.search space.yaml", "python -m tune_accent.rerun results"],
    )
    made = replace(made, verdict=arm_verdict(spec, [run.neutral for run in made.tested_of(WINNER)]))
    return replace(made, **changes)
