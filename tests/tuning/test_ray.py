"""The search through real Ray with simulated trials: the same table for any number of workers, and whatever fails."""

from __future__ import annotations

import inspect
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.tune.execution.tune_controller import TuneController
from ray.tune.utils.object_cache import _ObjectCache

from tests.tuning.simulated import Clock, make_broken, make_core, make_simulated, make_unmendable, metrics_of, table
from tune_accent.base.errors import UserError
from tune_accent.config.schema import Resources, Tuning
from tune_accent.tuning.core import Grant
from tune_accent.tuning.memo import DictMemo, Failure, FolderMemo
from tune_accent.tuning.ray_adapter import run_with_ray, usable_workers
from tune_accent.tuning.ray_session import QUIET, Share
from tune_accent.tuning.relay import Decision, EpochDone, EpochFailed, EpochLost, Event, WorkersCannotStart

# Ray leaves sockets and log files to the interpreter's end
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore::ResourceWarning")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One Ray with more CPUs than workers and a declared GPU, so that limits and fractions are put to the test."""
    root = str(Path(__file__).parents[2])
    env = {**QUIET, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    ray.init(
        address="local",
        num_cpus=6,
        num_gpus=1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=100 * 2**20,
        runtime_env={"env_vars": env},
    )
    yield
    ray.shutdown()


class Search:
    """A small search in `root`, run once."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.root = root
        self.settings = {"run_cap": 6, "epochs": 4, "min_iter": 2, **settings}
        self.core = make_core(FolderMemo(root), **self.settings)
        self.events: list[Event] = []
        self.done = False

    def run(self, workers: int = 2, faults: dict[str, str] | None = None, make: Any = make_simulated, **options: Any) -> Search:
        spec = {"root": str(self.root), "seconds": 0.01, "faults": faults or {}}
        given = {"resources": {"cpu": 1.0, "gpu": 0.25}, "scratch": self.root / "scratch", "on_event": self.events.append}
        self.done = run_with_ray(self.core, make, spec, workers=workers, **{**given, **options})
        return self

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def key(self, trial: int) -> str:
        self.core.advance()
        return self.core.trials[trial].key

    def clean(self) -> None:
        """Nothing of Ray is left behind."""
        assert {path.name for path in self.root.iterdir()} <= {"trials", "suggestions", "faults", "begun"}
        assert not [path for path in self.root.rglob("*") if path.suffix in (".pkl", ".pickle") or "scratch" in path.parts]
        assert "RUNNING" not in {trial.state for trial in self.core.trials}


def expected(outcome: Callable[[Grant], Any] | None = None, **settings: Any) -> str:
    """The table by the fake clock."""
    core = make_core(DictMemo(), **{"run_cap": 6, "epochs": 4, "min_iter": 2, **settings})
    Clock(core, 1, outcome=outcome or (lambda grant: metrics_of(grant.params, grant.key, grant.epoch))).run()
    return table(core)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_table_is_that_of_the_fake_clock_for_any_number_of_workers(cluster: None, tmp_path: Path, workers: int) -> None:
    search = Search(tmp_path).run(workers)
    assert search.done and table(search.core) == expected()
    done = search.of(EpochDone)
    assert len(done) == sum(len(trial.reports) for trial in search.core.trials)
    assert len({event.worker for event in done}) <= workers, "more processes than workers"
    assert all(event.peak_mb == 1.0 and event.allocated_mb > 1 and event.seconds > 0 for event in done)
    assert sorted((event.trial, event.state) for event in search.of(Decision)) == [
        (t.number, t.state) for t in search.core.trials
    ]
    search.clean()


@pytest.mark.slow
def test_failures_end_their_trial_and_retries_continue_from_the_memo(cluster: None, tmp_path: Path) -> None:
    search = Search(tmp_path, min_iter=None)
    keys = [search.key(trial) for trial in range(4)]
    faults = {f"{keys[0]}:2": "nan", f"{keys[1]}:2": "kill", f"{keys[2]}:3": "crash", f"{keys[3]}:1": "always crash"}
    search.run(2, faults)
    assert [trial.state for trial in search.core.trials[:4]] == ["DIVERGED", "COMPLETE", "COMPLETE", "CRASHED"]
    assert search.core.trials[0].failure == Failure("DIVERGED", 2, "loss is not finite at step 12 (last gradient norm 3.5)")
    assert "simulated crash" in (search.core.trials[3].failure or Failure("", 0, "")).message
    lost = [(event.trial, event.epoch, event.retries_left) for event in search.of(EpochLost)]
    assert sorted(lost) == [(1, 2, 2), (2, 3, 2), (3, 1, 1), (3, 1, 2)]

    def outcome(grant: Grant) -> Any:
        failures = {(0, 2): search.core.trials[0].failure, (3, 1): search.core.trials[3].failure}
        return failures.get((grant.trial, grant.epoch)) or metrics_of(grant.params, grant.key, grant.epoch)

    assert table(search.core) == expected(outcome, min_iter=None)
    search.clean()


@pytest.mark.slow
@pytest.mark.parametrize("slots", [3, 4])
def test_workers_may_be_killed_whatever_they_do(cluster: None, tmp_path: Path, slots: int) -> None:
    """Busy, holding a trial that waits for its round, idle, or about to go on: a worker that has just reported is killed, again and again."""
    search = Search(tmp_path, slots=slots)
    killed: list[int] = []

    def kill(event: Event) -> None:
        search.events.append(event)
        if isinstance(event, EpochDone) and len(search.of(EpochDone)) % 4 == 0 and event.worker != "lost":
            killed.append(int(event.worker.split(":")[-1]))
            os.kill(killed[-1], signal.SIGKILL)

    search.run(2, on_event=kill)
    assert len(set(killed)) >= 4
    assert table(search.core) == expected(slots=slots)
    trained = [(event.trial, event.epoch) for event in search.of(EpochDone)]
    assert len(trained) == len(set(trained)), "an epoch was trained twice"
    search.clean()


@pytest.mark.slow
def test_out_of_memory_is_retried_in_a_fresh_process_alone(cluster: None, tmp_path: Path) -> None:
    search = Search(tmp_path, min_iter=None, run_cap=4, epochs=2)
    keys = [search.key(trial) for trial in range(2)]
    search.run(2, {f"{keys[0]}:1": "host oom", f"{keys[1]}:2": "always oom"})
    assert [trial.state for trial in search.core.trials] == ["COMPLETE", "OOM", "COMPLETE", "COMPLETE"]
    assert [event.failure.state for event in search.of(EpochFailed)] == ["OOM"] * 3
    retried = next(event for event in search.of(EpochDone) if event.trial == 0 and event.epoch == 1)
    others = [event for event in search.of(EpochDone) if event is not retried and event.started < retried.started]
    assert retried.worker not in {event.worker for event in others}
    assert all(event.started + event.seconds <= retried.started for event in others)
    search.clean()


@pytest.mark.slow
def test_a_hang_is_ended_by_the_watchdog(cluster: None, tmp_path: Path) -> None:
    search = Search(tmp_path, run_cap=2, epochs=2, min_iter=None)
    search.run(2, {f"{search.key(1)}:2": "always hang"}, epoch_timeout_s=1.0)
    assert [trial.state for trial in search.core.trials] == ["COMPLETE", "TIMEOUT"]
    assert search.core.trials[1].failure == Failure("TIMEOUT", 2, "epoch 2 took longer than 1 s")
    again = make_core(FolderMemo(tmp_path), **search.settings)
    again.advance()
    assert again.done and table(again) == table(search.core)


def test_a_program_that_cannot_be_built_ends_the_search_and_no_trial(cluster: None, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such checkpoint") as refused:
        Search(tmp_path).run(1, make=make_unmendable)
    assert refused.value.fix == "download it"
    search = Search(tmp_path)
    with pytest.raises(WorkersCannotStart, match="ZeroDivisionError"):
        search.run(1, make=make_broken)
    assert {trial.state for trial in search.core.trials} == {"RUNNING"} and not list(tmp_path.rglob("failure.json"))


def test_a_wish_to_stop_finishes_the_epochs_that_run_and_the_rest_continues(cluster: None, tmp_path: Path) -> None:
    first = Search(tmp_path)
    first.run(2, should_stop=lambda: len(first.of(EpochDone)) >= 3)
    assert not first.done and 3 <= len(first.of(EpochDone)) <= 4
    rest = Search(tmp_path).run(1)
    assert rest.done and table(rest.core) == expected()
    trained = [(event.trial, event.epoch) for search in (first, rest) for event in search.of(EpochDone)]
    assert len(trained) == len(set(trained))
    assert Search(tmp_path).run(2).events == []  # a finished search starts nothing


def test_our_own_errors_come_through_as_they_are(cluster: None, tmp_path: Path) -> None:
    def broken(event: Event) -> None:
        if isinstance(event, EpochDone):
            raise KeyError("a bug of the listener")

    with pytest.raises(KeyError, match="a bug of the listener"):
        Search(tmp_path).run(1, on_event=broken)


def test_shares_of_a_machine() -> None:
    assert Share(1, 0.25).on({"CPU": 8}) == Share(1, 0)
    assert Share(1, 0.25).workers({"CPU": 8, "GPU": 1}) == 4
    assert Share(1, 0.3).workers({"CPU": 16, "GPU": 2}) == 6
    assert Share(2, 0).workers({"CPU": 5}) == 2
    assert Share(2.5).threads == 2 and Share(0.5).threads == 1
    workers, resources = usable_workers(Tuning(slots=4, workers=8, resources=Resources(cpu=1.0, gpu=0.5)))
    assert workers == 4 and resources["cpu"] == 1.0


@pytest.mark.parametrize(("cores", "slots", "workers"), [(1, 4, 1), (3, 4, 3), (4, 4, 4), (16, 6, 6)])
def test_as_many_workers_as_the_machine_has_cores_and_the_search_slots(
    monkeypatch: pytest.MonkeyPatch, cores: int, slots: int, workers: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert usable_workers(Tuning(slots=slots, resources=Resources(cpu=1.0, gpu=0.0)))[0] == workers


def test_a_cluster_may_hold_more_than_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    tuning = Tuning(slots=16, resources=Resources(cpu=4.0, gpu=0.5), address="head:6379")
    assert usable_workers(tuning) == (16, {"cpu": 4.0, "gpu": 0.5})


def test_what_we_use_of_tunes_inside_is_still_there() -> None:
    """`ray_adapter` relies on private parts of Tune 2.60; an upgrade that moves them fails here first."""
    source = inspect.getsource(TuneController)
    for name in ("_schedule_trial_train", "_cleanup_cached_actors", "pause_trial", "stop_trial"):
        assert callable(getattr(TuneController, name))
    assert "should_checkpoint" in inspect.signature(TuneController.pause_trial).parameters
    assert "force_all" in inspect.signature(TuneController._cleanup_cached_actors).parameters
    for line in (
        "self._actor_cache = _ObjectCache(",
        "self._actor_manager = RayActorManager(",
        "self._scheduler_alg.on_trial_error(self, trial)",
    ):
        assert line in source
    cache = _ObjectCache()
    cache.increase_max("worker", 2)
    assert [cache.cache_object("worker", actor) for actor in range(3)] == [True, True, False]
    assert list(cache.flush_cached_objects()) == []
