"""The benchmarks run at small sizes. Nothing is asserted of their times: that depends on the machine."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import __main__ as entry
from benchmarks import demo_table, engines, replay, rounds, search_cost, startup
from benchmarks.arms import ARMS, Arm, arms
from benchmarks.orders import ORDERS, Order, simulated_core
from benchmarks.process_tree import ROLES, Watch, tree
from tests.tuning.simulated import Clock
from tune_accent.tuning.core import Grant, Settings
from tune_accent.tuning.memo import DictMemo

ROOT = Path(__file__).parents[1]


def test_the_list_names_every_benchmark() -> None:
    with_main = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "parse_args()" in path.read_text(encoding="utf-8")}
    assert with_main == set(entry.BENCHMARKS)
    done = subprocess.run([sys.executable, "-m", "benchmarks"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in entry.BENCHMARKS:
        assert entry.summary(name) and f"{name:<{entry.WIDTH}}  {entry.summary(name)}\n" in done.stdout


def test_a_benchmark_gets_its_options() -> None:
    command = [sys.executable, "-m", "benchmarks", "rounds", "--workers", "2", "--trials", "3", "--seeds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 1 + 3 + 12 and "3 trials" in done.stdout


def test_startup_shows_seconds_and_heavy_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    names = ("python -c pass", "search lora.yaml --validate")
    bare, validate = startup.measure({name: startup.COMMANDS[name] for name in names}, 1)
    assert bare.modules is None and validate.modules and validate.heavy == ()
    assert startup.table([bare, validate]).splitlines()[2].endswith("none")


def test_startup_finds_a_heavy_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lazy.py").write_text("if __name__ == '__main__':\n    import scipy\n    raise SystemExit(0)\n")
    monkeypatch.chdir(tmp_path)
    assert startup.imports(("-m", "lazy"))[1] == ("scipy",)


@pytest.mark.parametrize("order", ["rounds", "batches"])
@pytest.mark.parametrize("slots", [2, 4])
def test_an_exact_order_gives_the_same_trials_at_any_pace(order: Order, slots: int) -> None:
    paces = [rounds.Case(workers, slots, jitter, "epoch") for workers, jitter in ((1, 0.0), (2, 0.5), (4, 0.5))]
    tables = [rounds.search(case, order, 8, True, 0, clock_seed) for clock_seed, case in enumerate(paces)]
    assert tables[0][1] == tables[1][1] == tables[2][1]
    assert tables[0][0] > tables[1][0] > tables[2][0], "more workers, shorter makespan"


def test_a_search_is_replayed_and_goes_on() -> None:
    """The benchmark itself asserts that nothing is trained twice and that the table is the same."""
    row = replay.measure(9)
    assert row.epochs > 27 and row.total > 0 and len(list(replay.table([5, 6]))) == 3


def began(order: Order, trial: int) -> float:
    """When `trial` begins in a search of three trials of four epochs on two workers, in which trial 0 is three times slower."""
    starts: dict[int, float] = {}

    def seconds(grant: Grant) -> float:
        starts.setdefault(grant.trial, clock.now)
        return 3.0 if grant.trial == 0 else 1.0

    clock = Clock(simulated_core(order, Settings(3, 2, 4), DictMemo(), "random"), 2, seconds)
    assert clock.run()
    return starts[trial]


def test_whole_batches_wait_for_their_last_trial() -> None:
    assert {order: began(order, 2) for order in ORDERS} == {"async": 4.0, "rounds": 12.0, "in step": 12.0, "batches": 12.0}


def test_equal_work_takes_longest_where_it_waits_most() -> None:
    spans, _ = rounds.measure(rounds.Case(2, 2, 0.0, "epoch"), 4, asha=False, seeds=1)
    assert spans == [18.0] * 4
    assert rounds.row(rounds.Case(2, 2, 0.0, "epoch"), 4, 1).split()[4:8] == ["18.0", "+0%", "+0%", "+0%"]


def test_engines_are_set_beside_each_other_on_what_the_demo_reached() -> None:
    family, table = engines.demo(), demo_table.read_table()
    assert len(table) == len(list((ROOT / "benchmarks" / "demo_table.csv").read_text().splitlines())) - 1 == 50
    for (rank, weight, lr), scores in table.items():
        params = {"lora_rank": rank, "leakage_weight": weight, "lr": lr * 1.05}
        assert [family.value(params, epoch, 3) for epoch in (1, 9)] == [scores[0], scores[-1]] and len(scores) == engines.EPOCHS
        assert family.truth(params, 0) <= family.best
    found = engines.search(family, engines.ENGINES[1], "rounds", 6, 0, None)
    assert found.regret is not None and 0 <= found.regret < 2 and found.epochs.end < 6 * engines.EPOCHS


def test_the_table_of_a_search(tmp_path: Path) -> None:
    rows = [{"trial": trial, "epoch": epoch, "score": trial + epoch / 10} for epoch in (1, 2) for trial in (0, 1)]
    (tmp_path / "epochs.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "trials.csv").write_text("trial,lora_rank,lr,leakage_weight\n0,2,0.01,1\n1,8,0.02,3\n")
    assert demo_table.table_of(tmp_path) == "lora_rank,leakage_weight,lr,1,2\n2,1,0.01,0.1,0.2\n8,3,0.02,1.1,1.2\n"


def test_a_watch_counts_the_children_of_a_process() -> None:
    hold = "x = bytearray(b'x') * 2**26; input()"
    busy = "import subprocess, sys, time\nwhile time.process_time() < 0.2: pass\n"  # the system counts in hundredths of a second
    parent = f"{busy}subprocess.run([sys.executable, '-c', {hold!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE)
    try:
        with Watch(process.pid) as watch:
            until = time.monotonic() + 30
            while watch.peak_mb < 64 and time.monotonic() < until:
                time.sleep(0.05)
        assert watch.parts_mb["ray"] >= 64 > watch.parts_mb["driver"] > 0 and not watch.parts_mb["workers"]
        assert watch.peak_mb == sum(watch.parts_mb.values())
        assert watch.cpu_s()["driver"] > 0 and watch.others >= 0
    finally:
        process.communicate(b"\n")
    assert tree(process.pid) == {}


def test_the_parts_of_a_search_add_up() -> None:
    """Two workers, 10 s from start to end: 2 s before the first epoch, 1 s after the last, 8 s of training in four epochs."""
    epochs = [search_cost.Epoch(started, 2.0) for started in (102.0, 102.0, 104.0, 107.0)]
    trials = [("COMPLETE", 2), ("STOPPED", 2)]
    ones = dict.fromkeys(ROLES, 1.0)
    run = search_cost.Run("rounds", 2, 100.0, 110.0, epochs, trials, ones, ones, 0.1)
    assert (run.wall, run.start, run.end, run.training, run.middle) == (10.0, 2.0, 1.0, 8.0, 7.0)
    assert (run.overhead(run.wall), run.overhead(run.middle)) == (3.0, 1.5)
    names, cells = search_cost.header("demo", Arm("demo")).splitlines()[-1], search_cost.row(run)
    assert len(names) == len(cells) and cells.split()[-9:] == ["57%", "1", "1", "1", "0.1", "1", "1", "1", "3"]


def test_arms_differ() -> None:
    found = dict(arms(Arm("simulated"), ARMS))
    assert tuple(found) == ARMS and len(set(found.values())) == len(ARMS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["async", "batches", "new"])  # rounds and paired take the same ways through it
def test_every_simulated_search_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    base = Arm("simulated", trials=4, epochs=4, min_iter=2, seconds=0.01, slots=3)
    ((_, arm),) = arms(base, [name])
    run = search_cost.measure(name, arm)
    assert len(run.trials) == 4 and len(run.epochs) == sum(epochs for _, epochs in run.trials)
    assert all(run.memory_mb[role] > 0 and run.cpu_s[role] > 0 for role in ROLES)
