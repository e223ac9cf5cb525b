"""W&B's own search engine (`sweeps` 0.3.0), run here and offline as a suggester and a stopping rule of our core.

It is installed apart: its metadata asks for numpy < 2, though it runs on numpy 2.

    pip install --no-deps --target .sweeps sweeps==0.3.0 jsonref==1.1.0

What is W&B's and differs from ours: a run is judged, by the model and by hyperband, by the best of its epochs; the thresholds of hyperband
include the run that is judged; a stopped run is `killed`, to which the model imputes the worst value seen; suggestions that repeat an earlier
trial are not asked again. A seed is set before each suggestion (`random`, `numpy.random`), and the state of both is put back.
"""

from __future__ import annotations

import importlib
import random
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tune_accent.base.errors import MissingDependency
from tune_accent.base.seeds import seed_sequence
from tune_accent.config.parameters import Categorical, Constant, Integer, Parameter
from tune_accent.config.space import Space
from tune_accent.tuning.core import Core, Settings, State, Suggester
from tune_accent.tuning.memo import Memo

TARGET, VERSION, VALUE = Path(".sweeps"), "0.3.0", "value"
INSTALL = f"pip install --no-deps --target {TARGET} sweeps=={VERSION} jsonref==1.1.0"
STATES: Mapping[str, str] = {"COMPLETE": "finished", "STOPPED": "killed", "RUNNING": "running"}


def load_sweeps(folder: Path = TARGET) -> Any:
    """The module `sweeps`, from where it is installed or from `folder`.

    Raises:
        MissingDependency: it is in neither, or of another version.
    """
    path = str(folder.resolve())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pydantic, about how sweeps declares its models
        sys.path.append(path)
        try:
            found = importlib.import_module("sweeps")
        except ImportError as error:
            raise MissingDependency(f"W&B's engine is not there ({error})", str(folder), INSTALL) from error
        finally:
            sys.path.remove(path)
    if found.__version__ != VERSION:
        raise MissingDependency(f"sweeps {found.__version__} is another version than {VERSION}", str(folder), INSTALL)
    return found


def sweep_config(space: Space, settings: Settings, method: Literal["bayes", "random"]) -> dict[str, Any]:
    """The sweep file that W&B's engine would get; the metric is called `value`."""
    config: dict[str, Any] = {
        "method": method,
        "metric": {"name": VALUE, "goal": settings.goal},
        "parameters": {parameter.name: _entry(parameter) for parameter in space.parameters},
    }
    if settings.min_iter is not None:
        config["early_terminate"] = {"type": "hyperband", "min_iter": settings.min_iter, "eta": settings.eta}
    return config


class SweepsSuggester:
    """Draws by `sweeps.next_run`. A draw holds the searched parameters as W&B gives them: rounded already.

    Args:
        sweeps: the module.
    """

    def __init__(self, sweeps: Any, space: Space, settings: Settings, method: Literal["bayes", "random"]) -> None:
        self._sweeps, self._space, self._seed = sweeps, space, settings.seed
        self._config = sweep_config(space, settings, method)
        self._runs: dict[int, Any] = {}

    def ask(self, number: int, attempt: int) -> dict[str, Any]:
        """A draw for trial `number`; never exhausted."""
        with _seeded(self._seed, number, attempt), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of scikit-learn's Gaussian process, about its fit
            run = self._sweeps.next_run(self._config, list(self._runs.values()))
        draw = {parameter.name: _python(run.config[parameter.name]["value"]) for parameter in self._space.searched}
        self.accept(number, draw)
        return draw

    def accept(self, number: int, draw: Mapping[str, Any]) -> None:
        """Trial `number` has this draw already."""
        config = {name: {"value": value} for name, value in self.params(draw).items()}
        self._runs[number] = self._sweeps.SweepRun(name=str(number), config=config, state="running")

    def params(self, draw: Mapping[str, Any]) -> dict[str, Any]:
        """The trial's parameters: constants added."""
        return {name: draw.get(name, self._space.constants.get(name)) for name in (p.name for p in self._space.parameters)}

    def tell(self, number: int, state: State, values: Sequence[float]) -> None:
        """What became of trial `number`; a DUPLICATE is forgotten, since the run that it repeats is known. (What a running one has reached
        W&B's engine has, and ignores: its `impute_while_running` is off unless a sweep asks for it.)"""
        if state == "DUPLICATE":
            del self._runs[number]
            return
        history = [{VALUE: value} for value in values]
        last = {VALUE: values[-1]} if values else {}
        run = self._runs[number]
        self._runs[number] = self._sweeps.SweepRun(
            name=str(number), config=run.config, state=STATES.get(state, "crashed"), history=history, summary_metrics=last
        )


class Hyperband:
    """`sweeps.stop_runs` where the core has its rungs: asked after every epoch from the grace period on."""

    def __init__(self, sweeps: Any, settings: Settings) -> None:
        self.levels = () if settings.min_iter is None else tuple(range(settings.min_iter, settings.epochs))
        early = {"type": "hyperband", "min_iter": settings.min_iter, "eta": settings.eta}
        self._sweeps, self._config = sweeps, {"metric": {"name": VALUE, "goal": "maximize"}, "early_terminate": early}
        self._values: dict[int, list[float]] = {}

    def record(self, trial: int, epoch: int, value: float) -> None:
        """`trial` was worth `value` (more is better) after `epoch`."""
        known = self._values.setdefault(trial, [])
        if epoch == len(known) + 1:
            known.append(value)

    def decide(self, trial: int, epoch: int, value: float) -> Literal["go", "stop"]:
        """Whether `trial` goes on."""
        self.record(trial, epoch, value)
        if epoch not in self.levels:
            return "go"
        runs = [self._run(number, number == trial) for number in self._values]
        return "stop" if self._sweeps.stop_runs(self._config, runs) else "go"

    def _run(self, number: int, judged: bool) -> Any:
        history = [{VALUE: value} for value in self._values[number]]
        return self._sweeps.SweepRun(name=str(number), state="running" if judged else "finished", history=history)


class SweepsCore(Core):
    """Our core with W&B's stopping rule; a suggestion that repeats an earlier trial is taken as it is, as W&B does."""

    def __init__(self, settings: Settings, suggester: Suggester, key_of: Any, memo: Memo, sweeps: Any) -> None:
        super().__init__(settings, suggester, key_of, memo)
        self._rungs: Any = Hyperband(sweeps, settings)

    def _ask(self, number: int) -> Mapping[str, Any] | None:
        return self._suggester.ask(number, 0)


def _entry(parameter: Parameter) -> dict[str, Any]:
    """A parameter in W&B's grammar."""
    if isinstance(parameter, Constant):
        return {"value": parameter.value}
    if isinstance(parameter, Categorical):
        return {"values": list(parameter.values)}
    bounds = {"min": parameter.low, "max": parameter.high}
    if isinstance(parameter, Integer):
        return {"distribution": "int_uniform", **bounds}
    steps = {} if parameter.q is None else {"q": parameter.q}
    name = ("q_" if steps else "") + ("log_uniform_values" if parameter.log else "uniform")
    return {"distribution": name, **bounds, **steps}


def _python(value: Any) -> Any:
    """A plain Python value: numpy's cannot be written as JSON, and tell themselves apart from what a file holds."""
    return value.item() if isinstance(value, np.generic) else value


@contextmanager
def _seeded(seed: int, number: int, attempt: int) -> Iterator[None]:
    """Python's and numpy's global generators as `seed` says, and afterwards as they were."""
    ours, theirs = random.getstate(), np.random.get_state()
    words = seed_sequence(seed, "sweeps", number, attempt).generate_state(2)
    try:
        random.seed(int(words[0]))
        np.random.seed(int(words[1]))
        yield
    finally:
        random.setstate(ours)
        np.random.set_state(theirs)
