"""Several nodes, of which one dies in the middle: the search goes on with what is left, and its table is that of the uninterrupted one."""

from __future__ import annotations

import json
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster

from tests.tuning.simulated import Clock, make_core, make_simulated, table
from tune_accent.base.errors import UserError
from tune_accent.base.files import write_text
from tune_accent.tuning.memo import DictMemo, FolderMemo
from tune_accent.tuning.ray_adapter import run_with_ray
from tune_accent.tuning.ray_session import Share, places
from tune_accent.tuning.relay import EpochDone, EpochLost, EpochStarted, Event

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]
SETTINGS: dict[str, Any] = {"run_cap": 7, "slots": 4, "epochs": 4, "min_iter": 2}
MEMORY = 100 * 2**20
ROOT = str(Path(__file__).parents[2])


@contextmanager
def nodes(*cpus: int) -> Iterator[tuple[Cluster, list[Any]]]:
    """A cluster on this machine: a head with the first number of CPUs, and a node for each of the others."""
    with mock.patch.dict(os.environ, {"PYTHONPATH": ROOT, "RAY_memory_monitor_refresh_ms": "0"}):
        cluster = Cluster(True, head_node_args={"num_cpus": cpus[0], "include_dashboard": False, "object_store_memory": MEMORY})
        try:
            yield cluster, [cluster.add_node(num_cpus=count, object_store_memory=MEMORY) for count in cpus[1:]]
        finally:
            cluster.shutdown()


def family(node: Any) -> list[int]:
    """Ids of the processes of a node: those that make it a node, then its workers."""
    started = [info.process.pid for infos in node.all_processes.values() for info in infos]
    return [*started, *(child.pid for process in started for child in psutil.Process(process).children(recursive=True))]


class Search:
    """A simulated search on a cluster, whose epochs have no retries of their own."""

    def __init__(self, root: Path, cluster: Cluster) -> None:
        self.core, self.events, self._address = make_core(FolderMemo(root), **SETTINGS), list[Event](), cluster.address
        self._root = root

    def run(self, strike: Callable[[int, Event], None], workers: int = 4) -> Search:
        """To its end; `strike` gets the number of finished epochs with every event of an epoch."""

        def on_event(event: Event) -> None:
            self.events.append(event)
            if isinstance(event, EpochStarted | EpochDone):
                strike(len(self.of(EpochDone)), event)

        spec, share = {"root": str(self._root), "seconds": 0.2}, {"cpu": 1.0, "gpu": 0.0}
        scratch = self._root / "scratch"
        assert run_with_ray(
            self.core,
            make_simulated,
            spec,
            workers=workers,
            resources=share,
            scratch=scratch,
            on_event=on_event,
            address=self._address,
            max_failures=0,
        )
        return self

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def holds(self) -> None:
        """The table is right, no finished epoch was trained twice, and no trial lost more than one that had begun.

        (One that is handed to a worker whose death nobody has noticed yet is lost too, but nothing of it was trained.)
        """
        whole = Clock(make_core(DictMemo(), **SETTINGS), 1)
        assert whole.run() and table(self.core) == table(whole.core)
        done = [(event.trial, event.epoch) for event in self.of(EpochDone)]
        assert sorted(done) == sorted((t.number, epoch + 1) for t in self.core.trials for epoch in range(len(t.reports)))
        begun = Counter(path.name.split("-")[0] for path in (self._root / "begun").iterdir())
        assert all(len(t.reports) <= begun[t.key] <= len(t.reports) + 1 for t in self.core.trials), begun


@pytest.mark.parametrize("cpus", [(1, 2), (1, 1, 2)], ids=["two nodes", "three nodes"])
def test_a_node_dies_and_the_search_ends_the_same(tmp_path: Path, cpus: tuple[int, ...]) -> None:
    """The node with most workers goes while they train; fewer workers than slots are left, and one trial waits for its round."""
    with nodes(*cpus) as (cluster, others):
        search, doomed = Search(tmp_path / "results", cluster), tmp_path / "results" / "doomed"

        def strike(done: int, event: Event) -> None:
            if done == 8 and not doomed.exists():
                write_text(doomed, json.dumps(family(others[-1])))

        search.run(strike).holds()
        assert not others[-1].any_processes_alive(), "nothing was trained on the node that was to die"
    lost = search.of(EpochLost)
    assert 1 <= len(lost) <= 2 and {event.retries_left for event in lost} == {1}, "the retries are for the epoch's own faults"


def test_a_node_comes_and_its_workers_are_used(tmp_path: Path) -> None:
    with nodes(1, 1) as (cluster, others):
        search, added = Search(tmp_path / "results", cluster), list[Any]()

        def strike(done: int, event: Event) -> None:
            if done == 6 and not added:
                cluster.remove_node(others[0], allow_graceful=False)
                added.append(cluster.add_node(num_cpus=2, object_store_memory=MEMORY))

        search.run(strike).holds()
    assert len({event.worker for event in search.of(EpochDone)}) >= 4


def test_places_count_each_node_by_itself() -> None:
    with nodes(3, 3) as (cluster, _):
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        try:
            assert (places(Share(2.0)), places(Share(1.0)), places(Share(4.0))) == (2, 6, 0)
        finally:
            ray.shutdown()


def test_an_address_where_nobody_answers_is_the_persons_mistake(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    core = make_core(FolderMemo(tmp_path))
    with pytest.raises(UserError, match="no Ray cluster answers at") as caught:
        run_with_ray(
            core, make_simulated, {}, workers=1, resources={"cpu": 1.0, "gpu": 0.0}, scratch=tmp_path / "s", address=address
        )
    assert caught.value.where == "tuning.address" and not ray.is_initialized()
