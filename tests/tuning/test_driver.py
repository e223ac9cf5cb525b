"""One launch of a search, with real speech and the real program in this process instead of Ray."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.tuning.small_search import SPACE, report, request
from tune_accent.base.checksums import write_checksums
from tune_accent.base.errors import FolderInUse, SearchChanged, UserError
from tune_accent.base.files import folder_lock, write_json, write_text
from tune_accent.config.load import resolve
from tune_accent.config.schema import Experiment
from tune_accent.tuning import driver
from tune_accent.tuning.core import Core
from tune_accent.tuning.driver import Outcome, Request, run_search
from tune_accent.tuning.memo import Failure, FolderMemo
from tune_accent.tuning.relay import Decision, EpochDone, EpochFailed

if TYPE_CHECKING:
    import logging

    from tune_accent.training.inputs import TrialData

FILES = {
    "environment.json",
    "epochs.jsonl",
    "logs",
    "optuna.db",
    "report",
    "spec.sha256",
    "spec.yaml",
    "suggestions",
    "tensorboard",
    "trials",
}
FINISHED = {*FILES, "best", "best.json", "timing.csv", "trials.csv"}


class Simulated:
    """A program that trains nothing, and writes what a checkpoint has."""

    def __init__(self, root: str) -> None:
        self.memo = FolderMemo(Path(root))

    def epoch(self, params: Mapping[str, Any], key: str, epoch: int) -> Mapping[str, Any]:
        for name in ("adapter/adapter_model.safetensors", "adapter/adapter_config.json", "heads.safetensors"):
            write_json(self.memo.checkpoint(key, epoch) / name, {"key": key})
        write_checksums(self.memo.checkpoint(key, epoch))
        metrics = {**report(params, key, epoch), "ended": epoch == 3}
        self.memo.record(key, epoch, metrics)
        return {**metrics, "timing": {"started": 1.7e9, "seconds": 0.5, "peak_mb": 1.0, "allocated_mb": 1.0}}

    def close(self) -> None:
        """Nothing is held."""


class InProcess:
    """Stands in for `run_with_ray`: the same calls and events, one worker, this process."""

    def __init__(self, make: Callable[[Mapping[str, Any]], Any], before: Callable[[int], None] = lambda done: None) -> None:
        self.make, self.before, self.trained = make, before, 0

    def __call__(
        self, core: Core, make: Any, spec: Mapping[str, Any], *, scratch: Path, on_event: Any, should_stop: Any, **_: Any
    ) -> bool:
        program = self.make(json.loads(json.dumps(spec)))
        try:
            return self._work(core, program, on_event, should_stop)
        finally:
            program.close()  # as the end of its process does

    def _work(self, core: Core, program: Any, on_event: Any, should_stop: Callable[[], bool]) -> bool:
        known = {trial.number for trial in core.trials if trial.state != "RUNNING"}
        while not core.done and not should_stop():
            grant = core.grants()[0]
            self.before(self.trained)
            try:
                metrics = dict(program.epoch(grant.params, grant.key, grant.epoch))
            except ArithmeticError as error:
                failure = Failure("DIVERGED", grant.epoch, str(error))
                on_event(EpochFailed(grant.trial, failure))
                core.fail(grant.trial, grant.epoch, failure)
            else:
                timing = metrics.pop("timing")
                on_event(EpochDone(grant.trial, grant.epoch, metrics, "here:1", **timing))
                core.report(grant.trial, grant.epoch, metrics)
                self.trained += 1
            for trial in core.trials:
                if trial.state != "RUNNING" and trial.number not in known:
                    known.add(trial.number)
                    on_event(Decision(trial.number, trial.state, len(trial.reports)))
        return core.done


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch, own_logger: logging.Logger) -> None:
    """Data that are there already."""
    from tests.tuning.small_search import PREPARED

    monkeypatch.setattr(driver, "ensure_prepared", lambda spec, show: PREPARED)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, prepared: None) -> Callable[..., tuple[Outcome, int]]:
    """Run a request with simulated trials, a study that only counts and an empty report; the outcome and the number of epochs that were trained."""
    monkeypatch.setattr(driver, "write_search_report", lambda root: write_text(root / "report" / "index.html", ""))
    monkeypatch.setattr(driver, "export_study", lambda core, space, path: write_json(path, len(core.trials)))

    def launch(asked: Request, before: Callable[[int], None] = lambda done: None) -> tuple[Outcome, int]:
        workers = InProcess(lambda spec: Simulated(spec["root"]), before)
        monkeypatch.setattr(driver, "run_with_ray", workers)
        return run_search(asked), workers.trained

    return launch


def stop_at(epochs: int, error: type[BaseException] = KeyboardInterrupt) -> Callable[[int], None]:
    """An interrupt before the given epoch of a launch."""

    def before(done: int) -> None:
        if done == epochs:
            raise error("interrupted here")

    return before


def names(root: Path) -> set[str]:
    return {path.name for path in root.iterdir() if path.name != ".lock"}


def decisive(root: Path) -> dict[str, bytes]:
    """Everything that must be equal for equal searches."""
    chosen = [root / name for name in ("trials.csv", "epochs.jsonl", "best.json", "spec.sha256")]
    chosen += [
        path for folder in ("best", "trials", "suggestions") for path in sorted((root / folder).rglob("*")) if path.is_file()
    ]
    return {str(path.relative_to(root)): path.read_bytes() for path in chosen}


def same_best(one: Outcome, other: Outcome) -> bool:
    assert one.best is not None and other.best is not None
    return (one.best.number, one.best.key, one.best.reports) == (other.best.number, other.best.key, other.best.reports)


def test_a_search_writes_its_folder(tmp_path: Path, run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    outcome, trained = run(asked := request(tmp_path))
    assert outcome.stopped is None and outcome.core.done and trained == sum(len(trial.reports) for trial in outcome.core.trials)
    assert names(asked.root) == FINISHED
    assert outcome.best is not None and json.loads((asked.root / "best.json").read_text())["trial"] == outcome.best.number
    assert len((asked.root / "timing.csv").read_text().splitlines()) == 1 + trained
    assert len(list((asked.root / "tensorboard").iterdir())) == 5
    assert capsys.readouterr().err.count("score") == 5, "a line per trial"
    assert json.loads((asked.root / "optuna.db").read_text()) == 5


def test_a_second_call_trains_nothing_and_changes_nothing(tmp_path: Path, run: Any) -> None:
    first, _ = run(asked := request(tmp_path))
    before = {path: path.read_bytes() for path in asked.root.rglob("*") if path.is_file() and path.suffix != ".log"}
    again, trained = run(asked)
    assert trained == 0 and same_best(again, first) and again.verdict == first.verdict
    assert {path: path.read_bytes() for path in asked.root.rglob("*") if path.is_file() and path.suffix != ".log"} == before


@pytest.mark.parametrize("epochs", [0, 1, 5, 8])
def test_an_interrupted_search_continues_to_the_same_folder(tmp_path: Path, run: Any, epochs: int) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    _, total = run(whole := request(tmp_path / "whole", experiment=None))
    asked = request(tmp_path / "parts", experiment=whole.experiment)
    outcome, first = run(asked, stop_at(epochs))
    assert outcome.stopped == "Ctrl-C" and first == epochs and not outcome.core.done
    assert {"trials.csv", "optuna.db", "epochs.jsonl"} <= names(asked.root)
    outcome, rest = run(asked)
    assert outcome.stopped is None and first + rest == total, "nothing is trained twice"
    assert decisive(asked.root) == decisive(whole.root)
    launches = {line.split(",")[0] for line in (asked.root / "timing.csv").read_text().splitlines()[1:]}
    assert launches == ({"1", "2"} if epochs else {"1"})


def test_a_bug_leaves_its_traceback_in_the_log_and_the_folder_usable(tmp_path: Path, run: Any) -> None:
    asked = request(tmp_path)
    with pytest.raises(ZeroDivisionError) as bug:
        run(asked, stop_at(2, _Bug))
    log = asked.root / "logs" / "search.log"
    assert str(log) in bug.value.__notes__[0] and "interrupted here" in log.read_text()
    assert not (asked.root / "optuna.db").exists() and (asked.root / "trials.csv").exists()
    outcome, _ = run(asked)
    assert outcome.core.done and names(asked.root) == FINISHED


class _Bug(ZeroDivisionError):
    """A bug of ours."""


def test_raising_the_number_of_trials_adds_and_lowering_shows_fewer(tmp_path: Path, run: Any) -> None:
    asked = request(tmp_path)
    first, _ = run(asked)
    more, trained = run(request(tmp_path, run_cap=8))
    assert trained > 0 and len(more.core.trials) == 8
    assert [trial.params for trial in more.core.trials[:5]] == [trial.params for trial in first.core.trials]
    fewer, trained = run(asked)
    assert trained == 0 and len((asked.root / "trials.csv").read_text().splitlines()) == 6 and same_best(fewer, first)
    assert json.loads((asked.root / "optuna.db").read_text()) == 5


def test_a_changed_search_is_refused_and_fresh_moves_the_folder_aside(
    tmp_path: Path, run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run(asked := request(tmp_path))
    before = decisive(asked.root)
    changed = request(tmp_path, experiment=resolve(asked.experiment, {"training.clip": 2.0}))
    with pytest.raises(SearchChanged, match=r"training\.clip: 1\.0 → 2\.0"):
        run(changed)
    assert decisive(asked.root) == before
    run(request(tmp_path, experiment=changed.experiment, fresh=True))
    assert decisive(tmp_path / "results.old-1") == before and decisive(asked.root) != before
    assert f"{asked.root} is now {tmp_path / 'results.old-1'}" in capsys.readouterr().err


def test_a_folder_in_use_is_left_alone(tmp_path: Path, run: Any) -> None:
    asked = request(tmp_path)
    with folder_lock(asked.root):
        for fresh in (False, True):
            with pytest.raises(FolderInUse, match="is working in this folder"):
                run(request(tmp_path, fresh=fresh))
        assert names(asked.root) == set() and not (tmp_path / "results.old-1").exists()


def test_data_that_cannot_be_used_leave_no_folder(tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(spec: Experiment, show: bool) -> None:
        raise UserError("no data")

    monkeypatch.setattr(driver, "ensure_prepared", broken)
    asked = request(tmp_path, fresh=True)
    with pytest.raises(UserError, match="no data"):
        run(asked)
    assert not asked.root.exists()


def test_a_time_limit_ends_between_epochs(tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def hour(done: int) -> None:
        clock[0] += 3600.0

    outcome, trained = run(request(tmp_path, max_hours=2.5), hour)
    assert outcome.stopped == "--max-hours" and trained == 3
    monkeypatch.setattr(time, "monotonic", time.perf_counter)
    assert run(request(tmp_path))[0].stopped is None


def test_the_search_runs_on_the_cluster_of_the_config(tmp_path: Path, prepared: None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, heard = request(tmp_path), list[str | None]()
    experiment = resolve(asked.experiment, {"tuning.address": "head:6379"})
    monkeypatch.setattr(driver, "run_with_ray", lambda *_, address, **__: heard.append(address))
    assert run_search(replace(asked, experiment=experiment)).best is None and heard == ["head:6379"]


def test_failures_end_trials_and_not_the_search(tmp_path: Path, run: Any) -> None:
    asked = request(tmp_path)
    workers = InProcess(lambda spec: _Failing(spec["root"]))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(driver, "run_with_ray", workers)
        outcome = run_search(asked)
    states = [trial.state for trial in outcome.core.trials]
    assert outcome.core.done and "DIVERGED" in states and names(asked.root) >= FINISHED - {"best", "best.json"}
    again, trained = run(asked)
    assert trained == 0 and [trial.state for trial in again.core.trials] == states, "a failure is final"


class _Failing(Simulated):
    def epoch(self, params: Mapping[str, Any], key: str, epoch: int) -> Mapping[str, Any]:
        if params["leakage_weight"] == 0:
            raise ArithmeticError("loss is not finite")
        return super().epoch(params, key, epoch)


def test_a_lost_checkpoint_of_the_best_trial_is_made_again_where_best_is_lost_too(
    tmp_path: Path, run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome, _ = run(asked := request(tmp_path))
    before = decisive(asked.root)
    heads = FolderMemo(asked.root).checkpoint(outcome.best.key, 3) / "heads.safetensors"
    heads.unlink()
    again, trained = run(asked)
    assert trained == 0 and same_best(again, outcome) and "damaged" not in capsys.readouterr().err
    (asked.root / "best" / "heads.safetensors").write_text("flipped")
    again, trained = run(asked)
    assert trained == 1 and same_best(again, outcome) and decisive(asked.root) == before
    assert f"{heads.parent}: this folder is damaged: heads.safetensors is missing" in capsys.readouterr().err


def test_lowest_is_said_where_lowest_is_meant(tmp_path: Path, run: Any) -> None:
    asked = request(tmp_path, SPACE.replace("name: score, goal: maximize", "name: val_loss, goal: minimize"))
    assert driver.rule(asked) == "lowest val_loss after the last epoch, leakage within 0.07 first"
    assert run(asked)[0].best is not None


@pytest.fixture
def real(
    monkeypatch: pytest.MonkeyPatch, small_spec: Experiment, small_data: TrialData, own_logger: logging.Logger
) -> Iterator[InProcess]:
    """Real trials on the small demo, in this process."""
    from tune_accent.tuning.program import SpeechProgram

    workers = InProcess(
        lambda spec: SpeechProgram(Experiment.model_validate_json(spec["experiment"]), small_data, FolderMemo(Path(spec["root"])))
    )
    monkeypatch.setattr(driver, "run_with_ray", workers)
    yield workers


@pytest.mark.slow
def test_real_trials_through_the_driver(tmp_path: Path, real: InProcess, small_spec: Experiment) -> None:
    """The real program and the real record of prepared data; killed twice, the same folder to the byte."""
    for name, ends in (("whole", ()), ("parts", (2, 3))):
        (tmp_path / name).mkdir()
        asked = request(tmp_path / name, experiment=small_spec)
        for epochs in ends:
            real.before = stop_at(real.trained + epochs)
            assert run_search(asked).stopped == "Ctrl-C"
        real.before = lambda done: None
        outcome = run_search(asked)
        assert outcome.core.done and outcome.best is not None and names(asked.root) == FINISHED
    assert decisive(tmp_path / "whole" / "results") == decisive(tmp_path / "parts" / "results")
    with closing(sqlite3.connect(tmp_path / "parts" / "results" / "optuna.db")) as study:
        assert study.execute("select count(*) from trials").fetchone() == (5,)
    for path in (tmp_path / "whole" / "results").rglob("*"):
        assert path.suffix not in (".pkl", ".pt", ".pth", ".pickle", ".ckpt", ".tmp")
