"""Campaigns for tests: made by hand, or by the search's own core on simulated trials, in memory and in results folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.tuning.simulated import SPACE, Clock, make_core, metrics_of
from tests.tuning.small_search import PREPARED, report, request
from tune_accent.comparing.record import Campaign, Execution, Identity, TrialRecord
from tune_accent.tuning import folder as results_folder
from tune_accent.tuning.core import Core, Grant
from tune_accent.tuning.driver import Request, make_spec
from tune_accent.tuning.driver import make_core as driver_core
from tune_accent.tuning.folder import open_folder
from tune_accent.tuning.memo import DictMemo, FolderMemo
from tune_accent.tuning.results import append_timing, write_tables

KNOWN = Identity({"a": 1}, {"name": "score"}, {"manifest": "m"}, {"commit": "c"})
ENVIRONMENT = {
    "tune_accent": "0",
    "python": "3",
    "packages": {},
    "git": {"commit": "abc", "dirty": False},
}


def hand_made(
    scores: Sequence[Sequence[float]],
    states: Sequence[str] | None = None,
    executed: Sequence[Execution] = (),
    engine: str = "ours",
    seed: str | None = "5/0",
    name: str = "hand",
    **changes: Any,
) -> Campaign:
    """A campaign of trials with these scores by epoch; three epochs are a full trial, and parameters differ by number."""
    ends = states or ["COMPLETE" if len(own) == 3 else "STOPPED" for own in scores]
    trials = tuple(
        TrialRecord(number, {"lr": 0.001 * (number + 1)}, ends[number], tuple({"score": value} for value in own))
        for number, own in enumerate(scores)
    )
    made = Campaign(name, engine, seed, KNOWN, "score", "maximize", 3, 1, trials, tuple(executed))
    return replace(made, **changes)


def simulated(engine: str, seed: int, *, method: str = "bayes", better: float = 0.0, **settings: Any) -> Campaign:
    """A search of the real core in memory, on a fake clock with two workers; `better` is added to its scores."""
    core = make_core(DictMemo(), SPACE, method, seed=seed, **settings)

    def outcome(grant: Grant) -> Mapping[str, Any]:
        metrics = metrics_of(grant.params, grant.key, grant.epoch)
        return {**metrics, "score": metrics["score"] + better}

    clock = Clock(core, 2, outcome=outcome)
    assert clock.run()
    return campaign_of(core, clock, engine, f"{seed}/0")


def campaign_of(core: Core, clock: Clock, engine: str, seed: str) -> Campaign:
    """The record of a core that has run on a fake clock; an epoch takes a second, and two run at a time."""
    numbers = {trial.key: trial.number for trial in core.trials if trial.state != "DUPLICATE"}
    executed = tuple(
        Execution(numbers[key], epoch, 1.0, 1000.0 + 1 + place // 2) for place, (key, epoch) in enumerate(clock.trained)
    )
    trials = tuple(
        TrialRecord(one.number, dict(one.params), one.state, () if one.state == "DUPLICATE" else tuple(one.reports))
        for one in core.trials
    )
    settings = core.settings
    return Campaign(
        f"{engine}-{seed}", engine, seed, KNOWN, "score", "maximize", settings.epochs, settings.min_iter, trials, executed
    )


def results(folder: Path, patch: pytest.MonkeyPatch, root: Path, method: str = "random", **changes: Any) -> Request:
    """A finished search in `root`, by the search's own core, memo, tables and spec; its training is simulated."""
    patch.setattr(results_folder, "environment", lambda: ENVIRONMENT)
    folder.mkdir(parents=True, exist_ok=True)
    asked = replace(request(folder, root=root), **changes)
    asked = replace(asked, space=replace(asked.space, method=method))  # type: ignore[arg-type]
    spec = make_spec(asked, PREPARED)
    open_folder(root, spec, accept_environment=False)
    core = driver_core(asked, spec, FolderMemo(root))
    clock = Clock(core, 2, outcome=lambda grant: report(grant.params, grant.key, grant.epoch))
    assert clock.run()
    numbers = {trial.key: trial.number for trial in core.trials if trial.state != "DUPLICATE"}
    for place, (key, epoch) in enumerate(clock.trained):
        times = {"started": 1.7e9 + place // 2, "seconds": 1.0, "peak_mb": 1.0, "worker": f"w{place % 2}", "launch": 1}
        append_timing(root, {"trial": numbers[key], "epoch": epoch, **times})
    write_tables(root, asked.experiment, asked.space.space, core.trials)
    return asked
