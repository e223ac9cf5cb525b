"""Epochs that fail in a search of simulated trials on a fake clock: the trial ends, or is tried again alone, and a replay says the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from tests.tuning.simulated import Clock, make_core, metrics_of, table
from tests.tuning.test_core import finished, jitter, outcomes
from tune_accent.tuning.core import Grant
from tune_accent.tuning.memo import DictMemo, Failure


@pytest.mark.parametrize("state", ["CRASHED", "TIMEOUT", "DIVERGED"])
@pytest.mark.parametrize("epoch", [1, 3, 9])
def test_a_failure_ends_its_trial_only_and_is_replayed(state: str, epoch: int) -> None:
    memo = DictMemo()
    faults = outcomes({(1, epoch): Failure(state, epoch, "why")})
    clock = Clock(make_core(memo, min_iter=None), 3, jitter(2), faults)
    assert clock.run()
    failed = clock.core.trials[1]
    assert (failed.state, len(failed.reports), failed.failure) == (state, epoch - 1, Failure(state, epoch, "why"))
    assert all(trial.state == "COMPLETE" for trial in clock.core.trials if trial.number != 1)
    again = finished(memo, min_iter=None)
    assert table(again.core) == table(clock.core) and not again.trained


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "high", "absent"])
def test_a_metric_that_is_no_number_is_divergence(value: object) -> None:
    metrics = {"accent_f1": 0.5} | ({} if value == "absent" else {"score": value})
    memo = DictMemo()
    clock = Clock(make_core(memo), 2, outcome=outcomes({(0, 2): metrics}))
    assert clock.run()
    assert clock.core.trials[0].state == "DIVERGED" and len(clock.core.trials[0].reports) == 1
    again = make_core(memo)
    again.advance()
    assert table(again) == table(clock.core)


def test_out_of_memory_is_tried_again_alone_and_then_final() -> None:
    granted: list[Grant] = []

    def outcome(grant: Grant) -> Mapping[str, Any] | Failure:
        granted.append(grant)
        small = grant.trial == 1 and grant.alone
        if grant.epoch == 2 and grant.trial in (0, 1) and not small:
            return Failure("OOM", 2, "too big")
        return metrics_of(grant.params, grant.key, grant.epoch)

    for order in ("rounds", "async"):
        granted.clear()
        memo = DictMemo()
        clock = Clock(
            make_core(memo, order=order, min_iter=None), 4, jitter(1), outcome
        )  # the clock asserts that nothing runs beside
        assert clock.run()
        assert [grant.trial for grant in granted if grant.alone] == [0, 1] or order == "async"
        assert sorted(grant.trial for grant in granted if grant.alone) == [0, 1]
        assert [trial.state for trial in clock.core.trials[:3]] == ["OOM", "COMPLETE", "COMPLETE"]
        assert list(memo.failures) == [clock.core.trials[0].key]


def test_a_kill_before_the_lonely_retry_grants_it_again() -> None:
    memo = DictMemo()
    core = make_core(memo)
    core.advance()
    core.fail(0, 1, Failure("OOM", 1, "too big"))
    again = make_core(memo)
    again.advance()
    assert again.grants()[0].trial == 0 and not again.grants()[0].alone
