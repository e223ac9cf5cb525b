"""The small demo of tests/support.py, made and prepared once per session."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import small_experiment
from tests.warm import Warm
from tune_accent.config.schema import Experiment

if TYPE_CHECKING:
    from tune_accent.training.inputs import TrialData

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray gives way to everything else with its workers; beside other tests it would starve.
os.environ.setdefault("RAY_worker_niceness", "0")
# Ray starts an idle process for every core, which none of our workers becomes.
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
# A background job ignores SIGINT, and the processes that tests interrupt would inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ray's tests first, then the files with slow ones: over several processes the longest pieces must not be the last ones."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.get_closest_marker("ray") is None, item.path not in slow))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Over several processes a file stays in one of them, for its fixtures' sake, and all that starts Ray in one, one at a time."""
    from xdist.scheduler import LoadScopeScheduling

    def scope(nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "ray" if "pytest.mark.ray" in (config.rootpath / file).read_text(encoding="utf-8") else file

    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = scope
    return scheduler


@pytest.fixture(scope="session")
def small_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the small demo's data are."""
    return tmp_path_factory.mktemp("small") / "data"


@pytest.fixture(scope="session")
def small_spec(small_root: Path) -> Experiment:
    """The small experiment."""
    return small_experiment(small_root)


@pytest.fixture(scope="session")
def small_data(small_spec: Experiment) -> TrialData:
    """The small demo, made and prepared with the real classes."""
    pytest.importorskip("espeakng_loader", reason="the demo extra")
    import torch

    from tune_accent.training.preparation import open_inputs
    from tune_accent.training.seeding import configure_torch

    configure_torch(small_spec.training)  # what is cached with the data must not depend on which test asks for it first
    return open_inputs(small_spec, torch.device("cpu"))


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """Runs commands in processes that have imported torch and the like already."""
    with Warm() as started:
        yield started


@pytest.fixture
def own_logger() -> Iterator[logging.Logger]:
    """The package's logger, as it was afterwards."""
    logger = logging.getLogger("tune_accent")
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    yield logger
    for handler in set(logger.handlers) - set(handlers):
        handler.close()
    logger.handlers, logger.level, logger.propagate = handlers, level, propagate
