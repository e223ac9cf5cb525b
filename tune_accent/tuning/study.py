"""The trials of a search as an Optuna study on disk, for optuna-dashboard."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from tune_accent.base.files import sha256_json, write_bytes
from tune_accent.config.space import Space
from tune_accent.tuning.core import Core, Trial
from tune_accent.tuning.draws import TOLD, WITHOUT_VALUES, distributions

LIMITS = ("accent_f1", "speaker_leakage", "text_drop", "val_loss", "feasible")  # kept as user attributes of the study's trials


def export_study(core: Core, space: Space, path: Path) -> None:
    """Write `core`'s trials as an Optuna study (SQLite), for optuna-dashboard: derived from the records, never read back.

    Costs about 9 ms a trial, so nothing is done where `path` holds these very trials already: their checksum is in its header (`user_version`).
    User attributes: state, key, and the last epoch's single limits.
    """
    kinds = distributions(space)
    trials = [_exported(core, trial, kinds) for trial in core.trials]
    stamp = _stamp(core, trials)
    if _stamped(path) == stamp:
        return
    storage = optuna.storages.RDBStorage("sqlite://")  # in memory: a full disk is then ours to explain
    try:
        study = optuna.create_study(storage=storage, study_name="tune_accent", direction=core.settings.goal)
        study.add_trials(trials)
        database = storage.engine.raw_connection().driver_connection
        assert isinstance(database, sqlite3.Connection)
        database.execute(f"PRAGMA user_version = {stamp}")
        write_bytes(path, database.serialize())
    finally:
        storage.scoped_session.remove()
        storage.engine.dispose()


def _stamp(core: Core, trials: Sequence[FrozenTrial]) -> int:
    """31 bits that change with anything that is exported."""
    told = [[t.state.name, t.values, t.params, t.intermediate_values, t.user_attrs] for t in trials]
    return int(sha256_json([core.settings.goal, told])[:8], 16) >> 1


def _stamped(path: Path) -> int | None:
    """The `user_version` of an SQLite file: bytes 60 to 63 of its header."""
    if not path.is_file():
        return None
    with path.open("rb") as stream:
        return int.from_bytes(stream.read(64)[60:], "big")


def _exported(core: Core, trial: Trial, kinds: dict[str, BaseDistribution]) -> FrozenTrial:
    told = TOLD.get(trial.state, TrialState.RUNNING)
    values = [] if trial.state in WITHOUT_VALUES else [core.value(metrics) for metrics in trial.reports]
    last = trial.reports[-1] if trial.reports else {}
    return optuna.trial.create_trial(
        state=told,
        value=values[-1] if values and told in (TrialState.COMPLETE, TrialState.PRUNED) else None,
        params=dict(trial.draw),
        distributions=kinds,
        intermediate_values=dict(enumerate(values, 1)),
        user_attrs={"state": trial.state, "key": trial.key, **{name: last[name] for name in LIMITS if name in last}},
    )
