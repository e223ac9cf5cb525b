"""The search again by another engine, here: the same space, trial program, data and number of trials, in a results folder of its own.

A repeat r trains with `training.repeat` r, which changes weights, batches and draws but not the data, and seeds the engine with it. Every engine
has the same repeats, so they can be paired. The same command continues a folder that was interrupted.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from tune_accent.base.errors import DataError, UserError
from tune_accent.base.files import append_line, folder_lock, remove_torn, write_text
from tune_accent.base.seeds import derive_seed
from tune_accent.comparing.folder import ASKING, ENGINE
from tune_accent.comparing.record import Engine
from tune_accent.comparing.sweeps_engine import TARGET, SweepsCore, SweepsSuggester, load_sweeps
from tune_accent.config.load import resolve
from tune_accent.config.schema import Experiment
from tune_accent.paper.recorded import recorded_search
from tune_accent.training.preparation import ensure_prepared
from tune_accent.tuning import driver
from tune_accent.tuning.core import Core, State, Suggester
from tune_accent.tuning.folder import Spec, open_folder, trial_key
from tune_accent.tuning.memo import FolderMemo
from tune_accent.tuning.progress import view
from tune_accent.tuning.relay import EpochDone
from tune_accent.tuning.results import append_timing, next_launch, trials_csv, write_tables
from tune_accent.tuning.settings import search_settings, search_suggester
from tune_accent.tuning.shapes import draw_fault, report_fault
from tune_accent.tuning.suggest import make_suggester
from tune_accent.tuning.watch import Watch


def engine_folder(root: Path, engine: Engine, repeat: int) -> Path:
    """`ray_results/<name>-<engine>-<repeat>`."""
    return root.parent / f"{root.name}-{engine}-{repeat}"


def run_engine(root: Path, engine: Engine, repeat: int, target: Path = TARGET) -> Path:
    """Run, continue or find finished one search by `engine` beside the search in `root`; its results folder.

    Raises:
        UserError: the search in `root` cannot be repeated, data or disk do not allow it, W&B's engine is missing.
        KeyboardInterrupt: at Ctrl-C; the same command continues.
    """
    asked, _ = recorded_search(root)
    if engine != "own" and asked.space.method == "grid":
        raise UserError("a grid has no engine to be compared", str(root), "search with method bayes or random")
    request = replace(asked, root=engine_folder(root, engine, repeat), experiment=repeated(asked.experiment, repeat))
    data = ensure_prepared(request.experiment, show=True)
    spec = driver.make_spec(request, data)
    spec = replace(spec, space={**spec.space, ENGINE: engine})
    with folder_lock(request.root, driver.IN_USE):
        open_folder(request.root, spec, accept_environment=False)
        remove_torn(request.root)
        with driver.logged(request.root / "logs" / "search.log"):
            core = engine_core(request, spec, engine, target)
            core.advance()
            _train(request, core, spec.data)
    return request.root


def repeated(experiment: Experiment, repeat: int) -> Experiment:
    """The experiment of a repeat, without trackers: what is tracked is the search itself."""
    plain = experiment.model_dump(mode="json")
    off = {**plain["tracking"], "tensorboard": False, "wandb": {**plain["tracking"]["wandb"], "mode": "off"}}
    training = {**plain["training"], "repeat": experiment.training.repeat + repeat}
    return Experiment.model_validate({**plain, "tracking": off, "training": training})


def engine_core(request: driver.Request, spec: Spec, engine: Engine, target: Path = TARGET) -> Core:
    """A fresh core whose suggestions, and with W&B's engines whose early stopping, are the engine's."""
    settings = search_settings(request.experiment, request.space, request.run_cap)
    seed = request.experiment.training_seed
    # Another engine's own seed: TPE begins with random draws, and would share them with random search of the same seed.
    settings = replace(settings, seed=seed if engine == "own" else derive_seed(seed, engine))
    wandb = engine in ("wandb-bayes", "wandb-random")  # whose draws are rounded, beyond the bounds at times
    memo = FolderMemo(request.root, report_fault) if wandb else FolderMemo(request.root, report_fault, draw_fault(request.space))

    def key_of(params: Mapping[str, Any]) -> str:
        return trial_key(resolve(request.experiment, params).model_dump(mode="json"), spec.data)

    if wandb:
        sweeps = load_sweeps(target)
        kind: Literal["bayes", "random"] = "bayes" if engine == "wandb-bayes" else "random"
        drawn = _Timed(SweepsSuggester(sweeps, request.space.space, settings, kind), request.root)
        return SweepsCore(settings, drawn, key_of, memo, sweeps)
    if engine == "random":
        return Core(settings, _Timed(make_suggester(request.space.space, settings, method="random"), request.root), key_of, memo)
    return Core(settings, _Timed(search_suggester(request.experiment, request.space, settings), request.root), key_of, memo)


class _Timed:
    """A suggester that notes how long its suggestions take, in `suggestions.csv` of the results folder."""

    def __init__(self, inner: Suggester, root: Path) -> None:
        self._inner, self._path = inner, root / ASKING

    def ask(self, number: int, attempt: int) -> Mapping[str, Any] | None:
        """As the inner one's."""
        begun = time.perf_counter()
        draw = self._inner.ask(number, attempt)
        seconds = time.perf_counter() - begun
        if not self._path.exists():
            write_text(self._path, "trial,attempt,seconds\n")
        append_line(self._path, f"{number},{attempt},{seconds!r}")
        return draw

    def accept(self, number: int, draw: Mapping[str, Any]) -> None:
        """As the inner one's."""
        self._inner.accept(number, draw)

    def params(self, draw: Mapping[str, Any]) -> dict[str, Any]:
        """As the inner one's."""
        return self._inner.params(draw)

    def tell(self, number: int, state: State, values: Any) -> None:
        """As the inner one's."""
        self._inner.tell(number, state, values)


def _train(request: driver.Request, core: Core, data: Mapping[str, str]) -> None:
    """Let Ray train what the memo does not know, and write the tables."""
    launch, space = next_launch(request.root), request.space.space

    def on_epoch(event: EpochDone) -> None:
        append_timing(request.root, {"launch": launch, **event.timing_row()})

    def on_decision() -> None:
        write_text(request.root / "trials.csv", trials_csv(request.experiment, space, core.trials))

    watch = Watch(view(core, request.root.name, driver.rule(request)), on_epoch, on_decision)
    try:
        if not core.done:
            driver.execute(core, request.experiment, request.root, data, watch, driver.deadline(None))
    finally:
        write_tables(request.root, request.experiment, space, core.trials)
    if not core.done:
        raise DataError("the search ended before its last trial", str(request.root), "the same command continues it")
