"""The benchmark of a step at tiny size. Nothing is asserted of its times."""

from __future__ import annotations

import multiprocessing
import threading

import pytest
import torch

from benchmarks import step_time
from benchmarks.step_model import PARTS, Case, Step

CPU = torch.device("cpu")


def test_a_case_is_timed_whole_and_in_parts() -> None:
    timed = step_time.measure(Case("tiny", 2, 5), CPU, 1)
    assert timed.step > 0 and tuple(timed.parts) == PARTS and timed.cuda is None
    line = step_time.row(timed, step_time.Rates(1e10, 1e10))
    assert len(line) == len(step_time.header(False)) and line.startswith("tiny  eager")


def test_a_step_trains_the_adapter_and_every_head() -> None:
    step = Step(Case("tiny", 4, 5), CPU)
    watched = {
        "adapter": step.trained[1],
        "z": next(step.heads.z.parameters()),
        "adversary": next(step.heads.adversary.parameters()),
    }
    before = {name: value.detach().clone() for name, value in watched.items()}
    for _ in range(2):
        step.whole()
    assert all(not torch.equal(before[name], value) for name, value in watched.items())


def test_a_piece_gives_gradients_to_what_it_trains() -> None:
    step = Step(Case("tiny", 4, 5), CPU)
    parts = step.parts()
    step.optimizer.zero_grad(set_to_none=True)
    parts["talker"]()
    assert any(p.grad is not None for p in step.trained)
    step.optimizer.zero_grad(set_to_none=True)
    parts["heads"]()
    assert next(step.heads.z.parameters()).grad is not None


def test_workers_run_side_by_side_and_end() -> None:
    """Threads in the place of processes, which take their time to import torch."""
    ends = [multiprocessing.Pipe() for _ in range(2)]
    threads = [threading.Thread(target=step_time.worker, args=(theirs,)) for _, theirs in ends]
    for thread in threads:
        thread.start()
    ours = [one for one, _ in ends]
    for count in (1, 2):
        reached = step_time.side_by_side(ours[:count], Case("tiny", 2, 5), 2)
        assert reached is not None and reached > 0
    for pipe, thread in zip(ours, threads, strict=True):
        pipe.send(None)
        thread.join(timeout=60)
        assert not thread.is_alive()


def test_a_worker_without_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(step_time, "Step", full)
    ours, theirs = multiprocessing.Pipe()
    thread = threading.Thread(target=step_time.worker, args=(theirs,))
    thread.start()
    assert step_time.side_by_side([ours], Case("tiny", 2, 5), 2) is None
    ours.send(None)
    thread.join(timeout=60)


@pytest.mark.slow
def test_the_table_of_processes() -> None:
    head, line = step_time.sharing(["tiny"], [2], 5, [1, 2], 2, {})
    assert "1 at once" in head and "2 at once" in head
    assert line.split()[:3] == ["tiny", "2", "5"] and line.count("/s") == 2 and "1.00×" in line
