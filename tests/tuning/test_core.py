"""The search is a function of its files and its seed: simulated trials on a fake clock, with real Optuna where it says so."""

from __future__ import annotations

import ast
import importlib.util
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tuning.simulated import SPACE, Clock, make_core, metrics_of, table
from tune_accent.base.errors import UserError
from tune_accent.config.space import Categorical, Space
from tune_accent.tuning.core import Core, Grant
from tune_accent.tuning.memo import DictMemo, Failure, FolderMemo


def jitter(seed: int) -> Callable[[Grant], float]:
    """Epoch lengths that differ between trials, epochs and runs."""
    generator = np.random.default_rng(seed)
    return lambda grant: float(generator.uniform(0.1, 5.0))


def finished(memo: DictMemo | None = None, workers: int = 4, seed: int = 0, **settings: Any) -> Clock:
    clock = Clock(make_core(memo or DictMemo(), **settings), workers, jitter(seed))
    assert clock.run()
    return clock


def outcomes(faults: Mapping[tuple[int, int], Failure | Mapping[str, Any]]) -> Callable[[Grant], Mapping[str, Any] | Failure]:
    return lambda grant: faults.get((grant.trial, grant.epoch), metrics_of(grant.params, grant.key, grant.epoch))


@pytest.mark.parametrize("method", ["bayes", "random"])
@pytest.mark.parametrize("slots", [1, 3, 4])
def test_the_table_does_not_depend_on_workers_or_speed(method: str, slots: int) -> None:
    tables = {
        table(finished(workers=workers, seed=workers, method=method, slots=slots, run_cap=20).core)
        for workers in range(1, slots + 2)
    }
    assert len(tables) == 1


def test_a_thousand_random_trials_are_the_same_for_all_workers() -> None:
    one, eight = (finished(workers=w, seed=w, method="random", slots=8, run_cap=1000) for w in (1, 8))
    assert table(one.core) == table(eight.core)
    assert len(one.core.trials) == 1000 and len(one.trained) > 3000


def test_kills_anywhere_change_nothing_and_repeat_nothing() -> None:
    whole = finished(run_cap=16, seed=1)
    generator = np.random.default_rng(3)
    for _ in range(60):
        memo, trained, done = DictMemo(), [], False
        while not done:
            clock = Clock(make_core(memo, run_cap=16), int(generator.integers(1, 6)), jitter(int(generator.integers(1000))))
            clock.left = int(generator.integers(0, 25))
            done = clock.run()
            trained += clock.trained
        assert table(clock.core) == table(whole.core)
        assert sorted(trained) == sorted(whole.trained)


def test_a_finished_search_replays_without_training_and_without_asking_the_sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    memo = DictMemo()
    before = finished(memo, run_cap=30)
    core = make_core(memo, run_cap=30)
    monkeypatch.setattr(core._suggester, "ask", lambda number, attempt: pytest.fail("asked"))
    core.advance()
    assert core.done and not core.grants()
    assert table(core) == table(before.core)


def test_lost_memory_is_made_again_the_same() -> None:
    memo = DictMemo()
    before = finished(memo, run_cap=16)
    for lost in (2, 9):
        del memo.draws[lost]
        memo.epochs[before.core.trials[lost].key].pop(2)
    after = finished(memo, run_cap=16)
    assert table(after.core) == table(before.core)
    assert {key for key, _ in after.trained} == {before.core.trials[lost].key for lost in (2, 9)}


def test_a_raised_cap_gives_the_table_of_the_larger_search() -> None:
    memo = DictMemo()
    finished(memo, run_cap=7)
    grown = finished(memo, run_cap=25)
    assert table(grown.core) == table(finished(run_cap=25).core)


def test_epochs_beyond_a_decision_are_counted_as_unused() -> None:
    memo = DictMemo()
    core = finished(memo).core
    stopped = next(trial for trial in core.trials if trial.state == "STOPPED")
    for epoch in (len(stopped.reports) + 1, len(stopped.reports) + 2):
        memo.record(stopped.key, epoch, metrics_of(stopped.params, stopped.key, epoch))
    again = make_core(memo)
    again.advance()
    assert again.trials[stopped.number].unused() == 2 and sum(trial.unused() for trial in again.trials) == 2
    assert table(again) == table(core)


def test_slots_advance_together_and_keep_their_order() -> None:
    core = make_core(DictMemo(), run_ahead=0)
    core.advance()
    assert [(grant.trial, grant.epoch) for grant in core.grants()] == [(0, 1), (1, 1), (2, 1), (3, 1)]
    for trial in (3, 1, 0):
        grant = core.grants()[[g.trial for g in core.grants()].index(trial)]
        core.report(trial, 1, metrics_of(grant.params, grant.key, 1))
    assert [(grant.trial, grant.epoch) for grant in core.grants()] == [(2, 1)]
    grant = core.grants()[0]
    core.report(2, 1, metrics_of(grant.params, grant.key, 1))
    assert [(grant.trial, grant.epoch) for grant in core.grants()] == [(0, 2), (1, 2), (2, 2), (3, 2)]


def test_a_trial_runs_ahead_of_its_round_but_not_past_a_rung() -> None:
    core = make_core(DictMemo(), min_iter=2, run_ahead=5)
    core.advance()
    for trial, epoch in ((1, 1), (1, 2), (0, 1)):
        core.report(trial, epoch, metrics_of({"lr": 1e-3, "lora_rank": 2, "leakage_weight": 1}, core.trials[trial].key, epoch))
    assert [(grant.trial, grant.epoch) for grant in core.grants()] == [(2, 1), (3, 1), (0, 2)], (
        "what a round waits for comes first"
    )
    assert [len(trial.reports) for trial in core.trials] == [0, 0, 0, 0], "nothing is judged before its round is complete"


@pytest.mark.parametrize("faulty", [False, True])
@pytest.mark.parametrize(("workers", "slots"), [(1, 4), (3, 4), (5, 5)])
def test_running_ahead_changes_no_table_and_wastes_no_epoch(workers: int, slots: int, faulty: bool) -> None:
    faults: dict[tuple[int, int], Failure] = {}
    if faulty:
        faults = {(1, 2): Failure("CRASHED", 2, "why"), (6, 5): Failure("OOM", 5, "why"), (9, 4): Failure("DIVERGED", 4, "why")}
    tables = set[str]()
    for run_ahead in (0, 1, 9):
        memo = DictMemo()
        clock = Clock(make_core(memo, run_cap=25, slots=slots, run_ahead=run_ahead), workers, jitter(run_ahead), outcomes(faults))
        assert clock.run()
        tables.add(table(clock.core))
        reported = {(trial.key, epoch + 1) for trial in clock.core.trials for epoch in range(len(trial.reports))}
        failed = {(clock.core.trials[number].key, epoch) for number, epoch in faults}
        assert reported <= set(clock.trained) <= reported | failed
    assert len(tables) == 1


def test_what_was_not_granted_is_refused() -> None:
    core = make_core(DictMemo())
    core.advance()
    for trial, epoch in ((0, 2), (7, 1)):
        with pytest.raises(ValueError, match="not granted"):
            core.report(trial, epoch, {"score": 1.0})


SMALL = Space((Categorical("lora_rank", (2, 4)), Categorical("lr", (1e-3, 1e-2)), Categorical("leakage_weight", (0.0, 1.0))))


def test_duplicates_are_asked_again_then_served_from_the_memo() -> None:
    memo = DictMemo()
    core = finished(memo, space=SMALL, method="random", run_cap=12, min_iter=None).core
    originals = [trial for trial in core.trials if trial.state == "COMPLETE"]
    duplicates = [trial for trial in core.trials if trial.state == "DUPLICATE"]
    assert len(core.trials) == 12 and len({trial.key for trial in originals}) == len(originals) <= 8
    assert len(originals) + len(duplicates) == 12 and duplicates
    for trial in duplicates:
        assert trial.duplicate_of is not None and trial.reports == core.trials[trial.duplicate_of].reports != []
    assert table(finished(memo, space=SMALL, method="random", run_cap=12, min_iter=None).core) == table(core)


def deliver(core: Core, choose: Callable[[int], int], outcome: Callable[[Grant], Mapping[str, Any] | Failure]) -> Core:
    """Answer grants one at a time; `choose` picks one of as many as are out."""
    core.advance()
    while not core.done:
        grants = core.grants()
        grant = grants[choose(len(grants))]
        result = outcome(grant)
        if isinstance(result, Failure):
            core.fail(grant.trial, grant.epoch, result)
        else:
            core.report(grant.trial, grant.epoch, result)
    return core


@pytest.mark.parametrize("slots", [2, 3, 5])
def test_any_order_of_arrival_gives_the_same_table(slots: int) -> None:
    """Duplicates, divergence, crashes and out-of-memory (for good, and only beside others) are on the way."""

    def outcome(grant: Grant) -> Mapping[str, Any] | Failure:
        place = (grant.trial % 7, grant.epoch)
        if place in ((1, 2), (2, 1)):
            return (
                Failure("OOM", grant.epoch, "too big")
                if not (grant.alone and place == (1, 2))
                else metrics_of(grant.params, grant.key, 2)
            )
        if place == (3, 3):
            return Failure("CRASHED", 3, "why")
        return {"score": math.nan} if place == (4, 2) else metrics_of(grant.params, grant.key, grant.epoch)

    space = Space(
        (Categorical("lora_rank", (2, 4, 8)), Categorical("lr", (1e-3, 1e-2)), Categorical("leakage_weight", (0.0, 1.0, 3.0)))
    )
    settings: dict[str, Any] = {"space": space, "method": "bayes", "run_cap": 24, "slots": slots}
    first = deliver(make_core(DictMemo(), **settings), lambda count: 0, outcome)
    assert {trial.state for trial in first.trials} >= {"DUPLICATE", "OOM", "CRASHED", "DIVERGED", "COMPLETE", "STOPPED"}
    for seed in range(4):
        generator = np.random.default_rng(seed)
        other = deliver(make_core(DictMemo(), **settings), lambda count: int(generator.integers(count)), outcome)  # noqa: B023
        assert table(other) == table(first)


def test_a_grid_ends_when_it_is_exhausted() -> None:
    memo = DictMemo()
    clock = Clock(make_core(memo, SMALL, "grid", run_cap=100, min_iter=None), 3, kill_after=20)
    assert not clock.run()
    core = finished(memo, space=SMALL, method="grid", run_cap=100, min_iter=None).core
    assert core.done and len(core.trials) == 8 and len({trial.key for trial in core.trials}) == 8


def test_a_range_without_steps_has_no_grid() -> None:
    with pytest.raises(UserError, match="lr is a range"):
        make_core(DictMemo(), SPACE, "grid")


def test_async_finishes_and_replays_what_is_known() -> None:
    memo = DictMemo()
    clock = Clock(make_core(memo, order="async", run_cap=40), 4, jitter(9), kill_after=100)
    assert not clock.run()
    rest = Clock(make_core(memo, order="async", run_cap=40), 4, jitter(10))
    assert rest.run()
    assert not set(rest.trained) & set(clock.trained)
    assert {trial.state for trial in rest.core.trials} == {"COMPLETE", "STOPPED"}


def test_stopping_uses_complete_rounds_and_saves_epochs() -> None:
    with_rungs, without = finished(run_cap=40), finished(run_cap=40, min_iter=None)
    assert len(with_rungs.trained) < 0.75 * len(without.trained)
    first = [trial.state for trial in with_rungs.core.trials[:4]]
    assert first.count("STOPPED") >= 2


def test_the_best_is_feasible_first_and_judged_by_its_last_epoch() -> None:
    scores = {0: 0.9, 1: 0.5, 2: 0.7, 3: 0.7}

    def outcome(grant: Grant) -> Mapping[str, Any]:
        early = 1.0 if grant.trial == 1 and grant.epoch < 3 else 0.0
        return {"score": scores[grant.trial] + early, "feasible": grant.trial != 0}

    clock = Clock(make_core(DictMemo(), run_cap=4, epochs=3, min_iter=None), 4, outcome=outcome)
    clock.run()
    best = clock.core.best()
    assert best is not None and best.number == 2
    assert make_core(DictMemo()).best() is None


def test_minimising_turns_everything_round() -> None:
    def outcome(grant: Grant) -> Mapping[str, Any]:
        return {"loss": float(grant.trial)}

    clock = Clock(make_core(DictMemo(), run_cap=4, metric="loss", goal="minimize", min_iter=1, epochs=3), 4, outcome=outcome)
    clock.run()
    assert [trial.state for trial in clock.core.trials] == ["COMPLETE", "COMPLETE", "STOPPED", "STOPPED"]
    best = clock.core.best()
    assert best is not None and best.number == 0


def test_next_rung() -> None:
    core = make_core(DictMemo(), epochs=10)
    core.advance()
    assert core.next_rung(core.trials[0]) == 3
    core.trials[0].reports.extend([{}] * 9)
    assert core.next_rung(core.trials[0]) is None


def test_the_folder_replays_like_the_memory(tmp_path: Path) -> None:
    clock = Clock(make_core(FolderMemo(tmp_path), run_cap=6, epochs=4), 2, kill_after=9)
    assert not clock.run()
    rest = Clock(make_core(FolderMemo(tmp_path), run_cap=6, epochs=4), 2)
    assert rest.run()
    assert table(rest.core) == table(finished(run_cap=6, epochs=4).core)


def test_the_core_knows_no_executor_no_sampler_and_no_clock() -> None:
    source = importlib.util.find_spec(Core.__module__)
    assert source is not None and source.origin is not None
    tree = ast.walk(ast.parse(Path(source.origin).read_text()))
    imported = {name.name for node in tree if isinstance(node, ast.Import) for name in node.names}
    assert imported == {"logging", "math"}


def test_a_trial_that_ran_out_of_patience_is_complete() -> None:
    core = make_core(DictMemo(), run_cap=2, slots=2, epochs=5, min_iter=None)
    core.advance()
    for number, ended in ((0, True), (1, False)):
        grant = next(grant for grant in core.grants() if grant.trial == number)
        core.report(number, 1, {**metrics_of(grant.params, grant.key, 1), "ended": ended})
    assert [trial.state for trial in core.trials] == ["COMPLETE", "RUNNING"]
    assert [grant.trial for grant in core.grants()] == [1]
