"""Ctrl-C and SIGTERM: a clean end that the same search continues from; twice: at once."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import ray
from ray._private import ray_constants
from ray._private import utils as ray_utils
from ray._private.node import Node

from tests.tuning.simulated import Clock, make_core, table
from tune_accent.tuning.memo import DictMemo, FolderMemo
from tune_accent.tuning.ray_session import StopSignals

pytestmark = pytest.mark.ray

SET_SIGTERM_HANDLER = ray_utils.set_sigterm_handler
REPOSITORY = Path(__file__).parents[2]


@contextmanager
def search(root: Path, seconds: float, lines: int) -> Iterator[subprocess.Popen[str]]:
    """A search process that has written `lines` lines."""
    command = [sys.executable, "-m", "tests.tuning.search_process", str(root), str(seconds)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(root.parent / "tmp")}
    (root.parent / "tmp").mkdir()
    with subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        for _ in range(lines):
            assert process.stdout.readline()
        yield process


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_cleanly_and_the_search_continues(tmp_path: Path, number: signal.Signals) -> None:
    root = tmp_path / "results"
    with search(root, 0.3, lines=8) as process:
        family = children(process)
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert errors == ""
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    assert {path.name for path in root.iterdir()} == {"trials", "suggestions", "begun"}
    core = make_core(FolderMemo(root), run_cap=6, epochs=4, min_iter=2)
    rest = Clock(core, 2)
    assert rest.run() and len(rest.trained) < sum(len(trial.reports) for trial in core.trials)
    whole = make_core(DictMemo(), run_cap=6, epochs=4, min_iter=2)
    Clock(whole, 1).run()
    assert table(core) == table(whole)


@pytest.mark.slow
def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    with search(tmp_path / "results", 300, lines=2) as process:
        family = children(process)
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=15)
    assert process.returncode == 130
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive


def test_handlers_come_back() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.asked and ray_constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER
    assert [signal.getsignal(number) for number in numbers] == before
    assert not ray_constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER and ray_utils.set_sigterm_handler is SET_SIGTERM_HANDLER


def test_the_second_signal_takes_everything_along() -> None:
    code = (
        "import os, signal, subprocess, sys, time\n"
        "from tune_accent.tuning.ray_session import StopSignals\n"
        "with StopSignals():\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "    print(child.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(600)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 130 and "the same command continues" in done.stderr and "Traceback" not in done.stderr
    child, until = int(done.stdout), time.monotonic() + 30
    while not _dead(child) and time.monotonic() < until:
        time.sleep(0.05)  # the kernel closes its files, which ends the wait above, before it is through with it
    assert _dead(child)


def _dead(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def test_ray_takes_sigterm_where_we_keep_it_from_it() -> None:
    """Both of its handlers end a driver in their own way: one exits with 1, the native one aborts three seconds later."""
    for module in (ray.init, Node._register_shutdown_hooks):
        assert "ray._private.utils.set_sigterm_handler(" in inspect.getsource(module)
    assert "RAY_DISABLE_FAILURE_SIGNAL_HANDLER = env_bool(" in inspect.getsource(ray_constants)
