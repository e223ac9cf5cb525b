"""What becomes of epochs whose worker is lost, and of promised workers that are not there any more."""

from __future__ import annotations

from typing import Any

import psutil
import pytest

from tests.tuning.simulated import make_core, metrics_of
from tune_accent.tuning.memo import DictMemo, Failure
from tune_accent.tuning.relay import MOVES, EpochDone, EpochFailed, EpochLost, Event, Relay, Stops


def made(workers: int = 4, max_failures: int = 2) -> tuple[Relay, list[Event]]:
    """A relay of a search with four slots, and what it tells."""
    events: list[Event] = []
    core = make_core(DictMemo())
    core.advance()
    return Relay(core, workers, max_failures, events.append, Stops()), events


def answer(relay: Relay, number: int) -> dict[str, Any]:
    """What a worker answers when the epoch of trial `number` is done."""
    grant, _ = relay.out[number]
    where = {"trial": number, "epoch": grant.epoch, "node": "elsewhere", "pid": 1, "started": 0.0, "seconds": 1.0, "peak_mb": 1.0}
    return {**where, "metrics": metrics_of(grant.params, grant.key, grant.epoch)}


def test_a_crash_uses_up_retries_and_a_lost_machine_does_not() -> None:
    relay, events = made(max_failures=1)
    for blameless in (True, False, True, True):
        relay.hand_out(relay.waiting()[0])
        relay.lose(0, "gone", blameless)
    assert [event.retries_left for event in events if isinstance(event, EpochLost)] == [2, 1, 1, 1]
    relay.hand_out(relay.waiting()[0])
    relay.lose(0, "gone")
    assert [event.failure for event in events if isinstance(event, EpochFailed)] == [Failure("CRASHED", 1, "gone")]


def test_an_epoch_that_takes_every_machine_with_it_is_suspected_at_last() -> None:
    relay, events = made(max_failures=0)
    for _ in range(MOVES + 1):
        relay.hand_out(relay.waiting()[0])
        relay.lose(0, "gone", blameless=True)
    assert isinstance(events[-1], EpochFailed) and sum(isinstance(event, EpochLost) for event in events) == MOVES


def test_what_a_lost_worker_left_in_the_memo_counts() -> None:
    relay, events = made()
    grant = relay.waiting()[0]
    relay.hand_out(grant)
    relay.core.memo.record(grant.key, 1, metrics_of(grant.params, grant.key, 1))
    relay.lose(0, "gone", blameless=True)
    done = [event for event in events if isinstance(event, EpochDone)]
    assert [(event.trial, event.epoch, event.worker) for event in done] == [(0, 1, "lost")]
    relay.lose(0, "again")  # told twice
    assert len(events) == 2


def test_waiting_trials_give_up_workers_that_were_promised_to_others() -> None:
    relay, _ = made()
    for grant in relay.waiting():
        relay.hand_out(grant)
    for number in (2, 0):
        relay.take(answer(relay, number))
        relay.held.add(number)
    assert not relay.free() and relay.overbooked() == []
    relay.workers = 3
    assert relay.overbooked() == [0]
    relay.workers = 1
    assert relay.overbooked() == [0, 2]
    relay.workers = 5
    assert relay.free() and relay.overbooked() == []


def test_an_epoch_that_a_round_waits_for_comes_before_one_that_runs_ahead() -> None:
    relay, _ = made(workers=2)
    for grant in relay.waiting()[:2]:
        relay.hand_out(grant)
    relay.take(answer(relay, 0))
    relay.held.add(0)
    assert [(grant.trial, grant.epoch) for grant in relay.waiting()] == [(2, 1), (3, 1), (0, 2)]
    assert relay.gives_way(relay.waiting()[-1])
    relay.workers = 3
    assert relay.gives_way(relay.waiting()[-1]), "two come first, and one worker is free for them"
    relay.workers = 4
    assert not relay.gives_way(relay.waiting()[-1])


def test_a_process_that_ends_while_it_is_looked_at_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    relay, _ = made()
    process = psutil.Process()
    relay._processes = {process}
    assert not relay.gone()

    def ended(_: psutil.Process) -> str:
        raise psutil.NoSuchProcess(process.pid)

    monkeypatch.setattr(psutil.Process, "status", ended)
    assert relay.gone()
