"""Training of a paper run: every arm on every new seed for its full length, by the machinery and into the memo of the search.

A run that the memo knows is never trained again, whoever trained it; when it knows all of them, Ray is not started. What the search has drawn
(`suggestions/`) and its tables are not touched: it replays afterwards as before. Executed epochs go to `paper/timing.csv`, whose column `trial`
holds the memo's key, since a paper run has no numbers that last.

Full length means without the search's early stopping. `training.patience`, where it is set, belongs to the configuration and stays.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tune_accent.base.errors import DataError
from tune_accent.base.progress import Progress, bars, silent
from tune_accent.config.load import resolve
from tune_accent.config.schema import Experiment
from tune_accent.paper.plan import REPEAT, with_values
from tune_accent.paper.results import Arm, TrainedRun
from tune_accent.reporting.search_words import short
from tune_accent.tuning.core import Core, Settings, State, Trial
from tune_accent.tuning.driver import execute, forget_if_damaged
from tune_accent.tuning.folder import trial_key
from tune_accent.tuning.memo import FolderMemo, ReadOnlyMemo
from tune_accent.tuning.progress import FIGURES, Pace, duration
from tune_accent.tuning.ray_adapter import usable_workers
from tune_accent.tuning.relay import EpochDone
from tune_accent.tuning.results import append_timing, next_launch
from tune_accent.tuning.shapes import report_fault
from tune_accent.tuning.watch import Watch

FOLDER = "paper"  # below the results folder


class OutOfTime(Exception):
    """`should_stop` ended the training before all runs were done; what is finished is in the memo."""


@dataclass(frozen=True)
class Planned:
    """One arm on one seed, and what the memo knows it by."""

    arm: Arm
    repeat: int
    params: Mapping[str, Any]
    key: str


def train_arms(
    experiment: Experiment,
    root: Path,
    data: Mapping[str, str],
    arms: Sequence[Arm],
    repeats: Sequence[int],
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[TrainedRun]:
    """Train every arm on every seed; the caller holds the lock of `root`.

    Args:
        experiment: of the search.
        root: its results folder.
        data: hashes of its data (`vars(ensure_prepared(...))`).
        arms: what to train; different arms may be the same configuration.
        repeats: values of `training.repeat`.
        should_stop: asked several times a second; the epochs that run are still finished.

    Returns:
        Arms in their order, each by its repeats. Runs that failed are among them, with the epochs that they finished.

    Raises:
        KeyboardInterrupt: at SIGINT or SIGTERM, after a clean end. OutOfTime: `should_stop` said so. The same call continues after either.
        UserError: a mistake that is the person's to mend, found here or in a worker.
    """
    planned, distinct = _planned(experiment, data, arms, repeats)
    if not distinct:
        return []
    core = whole_core(experiment, root, data, distinct)
    if not core.done:
        _train(core, experiment, root, data, distinct, should_stop)
    if not core.done:
        raise OutOfTime
    return _trained(planned, core)


def known_runs(
    experiment: Experiment, root: Path, data: Mapping[str, str], arms: Sequence[Arm], repeats: Sequence[int]
) -> list[TrainedRun]:
    """The same runs from the memo alone: nothing is trained or written, and no checkpoint is looked at. Arguments as in `train_arms`.

    Raises:
        DataError: a run has not ended, or a file of the memo has the right checksum and the wrong shape.
    """
    planned, distinct = _planned(experiment, data, arms, repeats)
    if not distinct:
        return []
    core = _core(experiment, data, distinct, KnownMemo(root, report_fault), len(distinct))
    runs = _trained(planned, core)
    for run in runs:
        if run.state == "RUNNING":
            what = (
                f"{run.arm}, seed {run.repeat} has not ended: {len(run.reports)} of {experiment.training.epochs} epochs are there"
            )
            raise DataError(
                what, str(FolderMemo(root).trial_folder(run.key)), "run the paper run again: it trains what is missing"
            )
    return runs


def plan_run(experiment: Experiment, data: Mapping[str, str], arm: Arm, repeat: int) -> Planned:
    """An arm with its seed put in."""
    params = with_values(arm.params, {REPEAT: repeat})
    return Planned(arm, repeat, params, _key(experiment, data, params))


def whole_core(experiment: Experiment, root: Path, data: Mapping[str, str], runs: Sequence[Planned]) -> Core:
    """A core that has replayed what the memo knows of `runs`; a last epoch whose checkpoint is lost is to be trained again: test speakers need it."""
    memo = ListMemo(root, report_fault)
    slots = usable_workers(experiment.tuning.model_copy(update={"slots": len(runs)}))[0]
    core = _core(experiment, data, runs, memo, slots)
    lost = [forget_if_damaged(memo, trial) for trial in core.trials if trial.state == "COMPLETE"]
    return _core(experiment, data, runs, memo, slots) if any(lost) else core


class ListSuggester:
    """Gives the trials their parameters from a list; learns nothing."""

    def __init__(self, runs: Sequence[Mapping[str, Any]]) -> None:
        self._runs = runs

    def ask(self, number: int, attempt: int) -> Mapping[str, Any] | None:
        """The parameters of run `number`; None after the last."""
        return self._runs[number] if number < len(self._runs) else None

    def accept(self, number: int, draw: Mapping[str, Any]) -> None:
        """Nothing: the list stays what it is."""

    def params(self, draw: Mapping[str, Any]) -> dict[str, Any]:
        """The draw itself."""
        return dict(draw)

    def tell(self, number: int, state: State, values: Sequence[float]) -> None:
        """Nothing is learnt."""


class ListMemo(FolderMemo):
    """The search's memo of epochs and failures, without its draws: those are in the list, and `suggestions/` stays the search's."""

    def suggestion(self, number: int) -> Mapping[str, Any] | None:
        """Nothing was drawn."""
        return None

    def record_suggestion(self, number: int, draw: Mapping[str, Any]) -> None:
        """Nothing is written."""


class KnownMemo(ReadOnlyMemo, ListMemo):
    """The same for a replay that only looks."""


class RunLines:
    """What a person sees: a bar of epochs on a terminal, a line per finished run elsewhere."""

    def __init__(self, core: Core, runs: Sequence[Planned]) -> None:
        self._core, self._runs, self._pace = core, runs, Pace(core)
        self._progress: Progress = silent
        self._stack = ExitStack()
        self._shown: set[int] = set()

    def __enter__(self) -> RunLines:
        self._shown = self._ended()
        if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            self._progress = self._stack.enter_context(bars())
        self._draw()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def epoch_done(self) -> None:
        """One more epoch is trained."""
        self._pace.epoch_done()
        self._draw()

    def trial_ended(self) -> None:
        """A line for every run that ended since, where there is no bar."""
        self._draw()
        for index in sorted(self._ended() - self._shown):
            self._shown.add(index)
            if self._progress is silent:
                sys.stderr.write(self._line(index) + "\n")
                sys.stderr.flush()

    def _draw(self) -> None:
        """Move the bar: epochs of this moment, of all that there are; a run that failed has no more to come."""
        ended = self._ended()
        done = sum(self._core.settings.epochs if trial.number in ended else len(trial.reports) for trial in self._core.trials)
        self._progress("epochs of the paper run", done, self._core.settings.run_cap * self._core.settings.epochs)

    def _ended(self) -> set[int]:
        return {trial.number for trial in self._core.trials if trial.state != "RUNNING"}

    def _line(self, index: int) -> str:
        run, trial = self._runs[index], self._core.trials[index]
        last: Mapping[str, Any] = trial.reports[-1] if trial.reports else {}
        figures = " ".join(f"{title} {short(last[key])}" for key, title in FIGURES if last.get(key) is not None)
        why = f" ({trial.failure.message})" if trial.failure else ""
        left = self._pace.remaining_s()
        eta = f", about {duration(left)} left" if left else ""
        place = f"[{len(self._shown)}/{len(self._runs)}]"
        return f"{place} {trial.state.lower()}: {run.arm.name}, seed {run.repeat}: epoch {len(trial.reports)} {figures}{why}{eta}"


def _train(
    core: Core,
    experiment: Experiment,
    root: Path,
    data: Mapping[str, str],
    runs: Sequence[Planned],
    should_stop: Callable[[], bool],
) -> None:
    launch = next_launch(root / FOLDER)

    def on_epoch(event: EpochDone) -> None:
        row = {"launch": launch, **event.timing_row(), "trial": runs[event.trial].key}
        append_timing(root / FOLDER, row)

    execute(core, experiment, root, data, Watch(RunLines(core, runs), on_epoch), should_stop)


def _core(experiment: Experiment, data: Mapping[str, str], runs: Sequence[Planned], memo: ListMemo, slots: int) -> Core:
    """No run concerns another one, so each is judged by itself and has its worker to its end: as many slots as workers, no rounds."""
    settings = Settings(len(runs), slots, experiment.training.epochs, order="async", seed=experiment.seed)
    core = Core(settings, ListSuggester([run.params for run in runs]), lambda params: _key(experiment, data, params), memo)
    core.advance()
    return core


def _key(experiment: Experiment, data: Mapping[str, str], params: Mapping[str, Any]) -> str:
    return trial_key(resolve(experiment, params).model_dump(mode="json"), data)


def _planned(
    experiment: Experiment, data: Mapping[str, str], arms: Sequence[Arm], repeats: Sequence[int]
) -> tuple[list[Planned], list[Planned]]:
    """Every arm on every seed, and those of them that are trained: one of each key."""
    planned = [plan_run(experiment, data, arm, repeat) for arm in arms for repeat in repeats]
    return planned, list({run.key: run for run in planned}.values())


def _trained(planned: Sequence[Planned], core: Core) -> list[TrainedRun]:
    by_key = {trial.key: trial for trial in core.trials}
    return [_run(run, by_key[run.key]) for run in planned]


def _run(run: Planned, trial: Trial) -> TrainedRun:
    why = trial.failure.message if trial.failure else None
    return TrainedRun(run.arm.name, run.repeat, run.key, trial.state, tuple(trial.reports), why)
