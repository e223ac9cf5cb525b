"""Another number of trials: the table is that of an uninterrupted search of that size, nothing is trained twice, and it is said what changed."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import small_experiment
from tests.tuning.simulated import Clock, make_core, table
from tests.tuning.small_search import PREPARED, SPACE, core_of, report, request
from tests.tuning.test_driver import InProcess, Simulated
from tune_accent.base.files import write_json
from tune_accent.config.load import resolve
from tune_accent.tuning import driver
from tune_accent.tuning.core import Core
from tune_accent.tuning.driver import Outcome, Request, run_search
from tune_accent.tuning.growth import Earlier, change_words, read_earlier
from tune_accent.tuning.memo import DictMemo, FolderMemo, Memo, ReadOnlyMemo
from tune_accent.tuning.results import trials_csv
from tune_accent.tuning.summary import closing_words


def finished(memo: Memo, **settings: Any) -> Clock:
    clock = Clock(make_core(memo, **settings), 3)
    assert clock.run()
    return clock


def drawn(seed: int) -> tuple[dict[str, Any], int, int]:
    """Settings, a number of trials, and a larger one. Few trials beside many slots make a new trial begin in the round of an old one."""
    generator = np.random.default_rng(seed)
    small = int(generator.integers(1, 10))
    settings = {
        "slots": int(generator.integers(2, 6)),
        "min_iter": int(generator.integers(1, 4)),
        "eta": float(generator.choice([2, 3])),
    }
    return {**settings, "seed": seed}, small, small + int(generator.integers(1, 10))


def fates(before: Core, after: Core) -> tuple[int, int]:
    """How many trials were trained further, and how many epochs are left unused, in the larger search."""
    further = sum(len(new.reports) > len(old.reports) for old, new in zip(before.trials, after.trials, strict=False))
    return further, sum(trial.unused() for trial in after.trials)


@pytest.mark.parametrize(("method", "seeds"), [("random", 300), ("bayes", 40)])
def test_a_raised_cap_gives_the_table_of_the_larger_search(method: str, seeds: int) -> None:
    changed = np.zeros(2, dtype=int)
    for seed in range(seeds):
        settings, small, large = drawn(seed)
        memo = DictMemo()
        first = finished(memo, method=method, run_cap=small, **settings)
        grown = finished(memo, method=method, run_cap=large, **settings)
        whole = finished(DictMemo(), method=method, run_cap=large, **settings)
        assert table(grown.core) == table(whole.core), f"seed {seed}"
        assert not set(first.trained) & set(grown.trained), "nothing is trained twice"
        extra = set(first.trained) | set(grown.trained)
        assert len(extra) - len(whole.trained) == fates(first.core, grown.core)[1], (
            "what is more than needed is counted as unused"
        )
        assert table(finished(memo, method=method, run_cap=small, **settings).core) == table(first.core), "and back"
        changed += fates(first.core, grown.core)
    assert changed.all() or method == "bayes", "some seeds change the fate of an old trial in either way"


@pytest.mark.parametrize("kills", [1, 4])
def test_raised_in_the_middle_and_killed_in_between(kills: int) -> None:
    for seed in range(60):
        settings, small, large = drawn(seed)
        generator, memo, trained = np.random.default_rng(seed), DictMemo(), list[tuple[str, int]]()
        for step in range(kills + 1):
            cap = small + (large - small) * step // kills
            clock = Clock(make_core(memo, method="random", run_cap=cap, **settings), 2)
            clock.left = int(generator.integers(1, 30))
            clock.run()
            trained += clock.trained
        clock = finished(memo, method="random", run_cap=large, **settings)
        assert table(clock.core) == table(finished(DictMemo(), method="random", run_cap=large, **settings).core)
        assert len(set(trained + clock.trained)) == len(trained + clock.trained)


def test_the_table_file_of_a_folder_that_grew_and_shrank(tmp_path: Path) -> None:
    memo = FolderMemo(tmp_path / "memo")

    def csv_of(run_cap: int, kept: Memo) -> str:
        asked = request(tmp_path, run_cap=run_cap)
        clock = Clock(core_of(asked, kept), 2, outcome=lambda grant: report(grant.params, grant.key, grant.epoch))
        assert clock.run()
        return trials_csv(asked.experiment, asked.space.space, clock.core.trials)

    for run_cap in (3, 8, 5, 12, 1):
        assert csv_of(run_cap, memo) == csv_of(run_cap, DictMemo())


def seed_of(kind: int) -> int:
    """The first seed whose old trials are trained further (0), or leave epochs unused (1)."""
    for seed in range(300):
        settings, small, large = drawn(seed)
        memo = DictMemo()
        first = finished(memo, method="random", run_cap=small, **settings)
        if fates(first.core, finished(memo, method="random", run_cap=large, **settings).core)[kind]:
            return seed
    raise AssertionError("no such seed")


def test_a_trial_that_is_trained_further_is_named() -> None:
    settings, small, large = drawn(seed_of(0))
    memo = DictMemo()
    first = finished(memo, method="random", run_cap=small, **settings).core
    core = finished(memo, method="random", run_cap=large, **settings).core
    earlier = Earlier(small, tuple(len(trial.reports) for trial in first.trials))
    lines = change_words(earlier, core.trials, large)
    further = [
        trial.number for trial, old in zip(core.trials, first.trials, strict=False) if len(trial.reports) > len(old.reports)
    ]
    number = further[0]
    expected = f"{number} (epoch {len(first.trials[number].reports)} → {len(core.trials[number].reports)}, {core.trials[number].state.lower()})"
    assert f"In the search of {small} trials" in lines[0] and expected in lines[0]
    assert len(lines[0].split("further: ")[1].split("), ")) == len(further)
    assert change_words(None, core.trials, large) == lines[1:]


def test_epochs_that_are_left_unused_are_counted() -> None:
    settings, small, large = drawn(seed_of(1))
    memo = DictMemo()
    finished(memo, method="random", run_cap=small, **settings)
    core = finished(memo, method="random", run_cap=large, **settings).core
    count = sum(trial.unused() for trial in core.trials)
    line = change_words(None, core.trials, large)[0]
    assert line.startswith(f"  {count} finished epoch") and "not used by this search: trial " in line
    assert change_words(None, finished(DictMemo(), method="random", run_cap=large, **settings).core.trials, large) == []


def test_epochs_ahead_of_a_running_trial_are_not_unused() -> None:
    memo = DictMemo()
    core = finished(memo).core
    lost = core.trials[1]
    del memo.epochs[lost.key][1]
    again = make_core(memo)
    again.advance()
    ahead = [trial for trial in again.trials if len(memo.reports(trial.key)) > len(trial.reports)]
    assert ahead and not any(trial.unused() for trial in again.trials), "they wait for their rounds"
    assert change_words(None, again.trials, 12) == []


def test_long_lists_are_cut() -> None:
    memo = DictMemo()
    core = finished(memo, run_cap=30, min_iter=None).core
    earlier = Earlier(20, tuple([1] * 20))
    line = change_words(earlier, core.trials, 30)[0]
    assert "and 12 more trials" in line and len(line) < 500


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, own_logger: logging.Logger
) -> Iterator[Callable[[Request, int | None], tuple[Outcome, int, str]]]:
    """Run a request with simulated trials, up to an interrupt; outcome, epochs trained, closing words."""

    def launch(asked: Request, until: int | None = None) -> tuple[Outcome, int, str]:
        def before(done: int) -> None:
            if done == until:
                raise KeyboardInterrupt

        workers = InProcess(lambda spec: Program(spec["root"]), before)
        monkeypatch.setattr(driver, "run_with_ray", workers)
        outcome = run_search(asked)
        return outcome, workers.trained, closing_words(asked, outcome, "again")

    monkeypatch.setattr(driver, "ensure_prepared", lambda spec, show: PREPARED)
    monkeypatch.setattr(driver, "export_study", lambda core, space, path: write_json(path, len(core.trials)))
    yield launch


class Program(Simulated):
    """Continues from a checkpoint only, as training does."""

    def epoch(self, params: Any, key: str, epoch: int) -> Any:
        assert epoch == 1 or self.memo.checkpoint(key, epoch - 1).is_dir(), "the kept checkpoint is the last epoch's"
        return super().epoch(params, key, epoch)


# with this seed a second search of 6 trials trains one of 2 further, and leaves an epoch of 1 unused
GROWING = SPACE.replace("min_iter: 1, eta: 3", "min_iter: 1, eta: 2")


def asked_for(folder: Path, run_cap: int) -> Request:
    folder.mkdir(exist_ok=True)
    return request(folder, GROWING, resolve(small_experiment(Path("data")), {"seed": 12}), run_cap=run_cap)


def table_of(asked: Request) -> bytes:
    return (asked.root / "trials.csv").read_bytes()


@pytest.fixture(scope="module")
def made() -> dict[int, tuple[Path, Outcome, int]]:
    """Searches that were run by number of trials: folder, outcome, and epochs trained; read only."""
    return {}


@pytest.fixture
def uninterrupted(
    run: Any, made: dict[int, tuple[Path, Outcome, int]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], tuple[Path, Outcome, int]]:
    """A search of a number of trials in a folder of its own, run once."""

    def search(run_cap: int) -> tuple[Path, Outcome, int]:
        if run_cap not in made:
            folder = tmp_path_factory.mktemp("uninterrupted")
            outcome, trained, _ = run(asked_for(folder, run_cap))
            made[run_cap] = folder, outcome, trained
        return made[run_cap]

    return search


@pytest.mark.parametrize("until", [None, 0, 2])
def test_a_finished_folder_goes_on_with_more_trials_and_says_what_changed(
    tmp_path: Path, run: Any, uninterrupted: Any, until: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, _, total = uninterrupted(6)
    told = ""
    for small in (1, 2, 5):
        finished_folder, first, trained = uninterrupted(small)
        folder = Path(shutil.copytree(finished_folder, tmp_path / str(small)))
        capsys.readouterr()
        larger = asked_for(folder, 6)
        if until is not None:
            trained += run(larger, until)[1]
        outcome, rest, text = run(larger)
        assert f"has held a search of {small} trials; it is now one of 6\n" in capsys.readouterr().err or until is not None
        assert outcome.core.done and table_of(larger) == table_of(asked_for(whole, 6))
        unused = sum(trial.unused() for trial in outcome.core.trials)
        assert trained + rest == total + unused
        further = sum(
            len(new.reports) > len(old.reports) for old, new in zip(first.core.trials, outcome.core.trials, strict=False)
        )
        assert ("trained further" in text) == bool(further) and ("not used by this search" in text) == bool(unused)
        told += text
        assert run(larger)[2] == text, "a finished search says the same when it is asked again"
    assert "trained further" in told and "not used by this search" in told


def test_fewer_trials_show_the_table_of_the_smaller_search_and_say_so(tmp_path: Path, run: Any) -> None:
    run(asked_for(tmp_path / "a", 3))
    small = table_of(asked_for(tmp_path / "a", 3))
    run(larger := asked_for(tmp_path / "a", 7))
    large = table_of(larger)
    outcome, trained, text = run(asked_for(tmp_path / "a", 3))
    assert trained == 0 and outcome.stopped is None and table_of(larger) == small
    assert "has held a search of 7 trials; the table is that of 3" in text and "Search results finished: 3 of 3" in text
    again, trained, text = run(larger)
    assert trained == 0 and table_of(larger) == large and again.core.done


def test_the_note_of_a_change_is_no_part_of_the_search(tmp_path: Path, run: Any) -> None:
    run(asked_for(tmp_path, 2))
    assert not (tmp_path / "results" / "earlier.json").exists()
    run(larger := asked_for(tmp_path, 6))
    before = table_of(larger)
    note = larger.root / "earlier.json"
    assert json.loads(note.read_text())["run_cap"] == 2
    for text in ("", "{}", '{"run_cap": "x", "epochs": 3}', '{"run_cap": 2, "epochs": ["x"]}'):
        note.write_text(text)
        assert read_earlier(larger.root, 6) is None and run(larger)[1] == 0 and table_of(larger) == before
    note.unlink()
    assert run(larger)[0].earlier is None


def test_a_replay_that_only_looks_writes_nothing(tmp_path: Path) -> None:
    core = make_core(ReadOnlyMemo(tmp_path / "none"))
    core.advance()
    core.report(0, 1, {"score": float("nan")})
    core.memo.record("a", 1, {"score": 1.0})
    assert not (tmp_path / "none").exists() and core.grants()
