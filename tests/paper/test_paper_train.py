"""Arms on new seeds, trained into the memo of a search that must not notice: the real driver, core, memo and program, with epochs that are hashes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.tuning.small_search import PREPARED, SPACE, request
from tests.tuning.test_driver import InProcess, stop_at
from tests.tuning.whole_search import HashRun, Search
from tune_accent.base.errors import DataError
from tune_accent.base.files import remove, write_json
from tune_accent.paper.plan import baselines, candidates, ranked, with_values
from tune_accent.paper.results import WINNER, Arm, TrainedRun
from tune_accent.paper.selection import select, winner
from tune_accent.paper.train import OutOfTime, known_runs, train_arms
from tune_accent.tuning import driver, program
from tune_accent.tuning.memo import FolderMemo

pytestmark = pytest.mark.usefixtures("own_logger")
BASE = {"lora_rank": 4, "lora_alpha_ratio": 2, "lr": 0.005, "leakage_weight": 1.0, "training.batch_size": 12}
ARMS = (
    Arm("candidate 0", "candidate", BASE, "", 0),
    Arm("no_leakage", "baseline", with_values(BASE, {"objective.leakage_weight": 0.0}), ""),
)


class Paper(Search):
    """A search whose folder a paper run trains into."""

    def train(
        self,
        arms: Sequence[Arm] = ARMS,
        repeats: Sequence[int] = (1, 2),
        before: Callable[[int], None] = lambda done: None,
        **options: Any,
    ) -> list[TrainedRun]:
        """One call of `train_arms`; its epochs are added to `trained`."""
        data = cast("Any", SimpleNamespace(device=SimpleNamespace(type="cpu")))
        experiment = self.request.experiment
        workers = InProcess(lambda spec: self._program(experiment, data, FolderMemo(Path(spec["root"]))), before)
        self.patch.setattr(driver, "run_with_ray", workers)
        try:
            return train_arms(experiment, self.root, vars(PREPARED), arms, repeats, **options)
        finally:
            self.trained += workers.trained


@pytest.fixture
def paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paper:
    return Paper(tmp_path / "results", monkeypatch)


def timing(root: Path) -> list[list[str]]:
    return [line.split(",") for line in (root / "paper" / "timing.csv").read_text().splitlines()[1:]]


def own_files(search: Search) -> dict[str, bytes]:
    """Every file of a search's folder outside its memo and logs."""
    files = [path for path in search.root.rglob("*") if path.is_file() and path.suffix != ".log" and path.name != ".lock"]
    names = {str(path.relative_to(search.root)): path for path in files}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith(("trials/", "paper/"))}


def test_every_arm_and_seed_runs_its_full_length_once(paper: Paper) -> None:
    runs = paper.train()
    assert [(run.arm, run.repeat, run.state, len(run.reports)) for run in runs] == [
        (arm.name, repeat, "COMPLETE", 3) for arm in ARMS for repeat in (1, 2)
    ]
    assert len({run.key for run in runs}) == 4 and paper.trained == 12
    assert sorted((row[1], row[2]) for row in timing(paper.root)) == sorted((run.key, str(e)) for run in runs for e in (1, 2, 3))
    assert not (paper.root / "suggestions").exists() and not (paper.root / "timing.csv").exists()


def test_what_the_memo_knows_is_not_trained_and_ray_is_not_started(paper: Paper) -> None:
    first = paper.train()
    more = paper.train((ARMS[0], Arm(WINNER, "candidate", BASE, "")), (2, 1))
    assert paper.trained == 12 and [run.reports for run in more] == [first[n].reports for n in (1, 0, 1, 0)]
    assert [(run.arm, run.repeat) for run in more] == [("candidate 0", 2), ("candidate 0", 1), (WINNER, 2), (WINNER, 1)]

    def started(*_: Any, **__: Any) -> bool:
        raise AssertionError("Ray was started")

    paper.patch.setattr(driver, "run_with_ray", started)
    assert train_arms(paper.request.experiment, paper.root, vars(PREPARED), ARMS, (1, 2)) == first
    assert train_arms(paper.request.experiment, paper.root, vars(PREPARED), (), (1, 2)) == []
    assert len(timing(paper.root)) == 12


def test_known_runs_are_read_and_nothing_is_written(paper: Paper) -> None:
    asked = (paper.request.experiment, paper.root, vars(PREPARED))
    with pytest.raises(KeyboardInterrupt):
        paper.train(before=stop_at(7))
    before = {path: path.read_bytes() for path in paper.root.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match=r", seed \d has not ended: [0-2] of 3 epochs are there"):
        known_runs(*asked, ARMS, (1, 2))
    assert {path: path.read_bytes() for path in paper.root.rglob("*") if path.is_file()} == before
    runs = paper.train()
    remove(FolderMemo(paper.root).checkpoint(runs[1].key, 3))
    assert known_runs(*asked, ARMS, (1, 2)) == runs and known_runs(*asked, ARMS, (2,)) == [runs[1], runs[3]]
    assert known_runs(*asked, (), (1,)) == []


def test_the_same_configuration_under_two_names_is_trained_once_and_both_have_it(paper: Paper) -> None:
    runs = paper.train((ARMS[0], Arm(WINNER, "candidate", {**BASE, "training.repeat": 7}, "")), (1,))
    assert paper.trained == 3 and runs[0].reports == runs[1].reports and [run.arm for run in runs] == ["candidate 0", WINNER]


def test_the_search_replays_and_grows_as_if_there_had_been_no_paper_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "export_study", lambda core, space, path: write_json(path, len(core.trials)))
    plain, paper = Search(tmp_path / "plain" / "results", monkeypatch), Paper(tmp_path / "with" / "results", monkeypatch)
    plain.launch()
    outcome = paper.launch()
    before, trained = own_files(paper), paper.trained
    space = paper.request.space
    plan = candidates(outcome.core.trials, space, 2)
    runs = paper.train(plan.arms)
    won = winner(plan.arms, select(plan.arms, runs, ranked(outcome.core.trials, space), space))
    rest = baselines(paper.request.experiment, space, outcome.core.trials, won)
    every = paper.train((won, *rest.arms))
    assert {run.state for run in every} == {"COMPLETE"} and own_files(paper) == before
    expected = 3 * len({run.key for run in (*runs, *every)})
    assert paper.trained == trained + expected
    again = paper.launch()
    assert paper.trained == trained + expected and again.best is not None and own_files(paper) == before
    for search in (plain, paper):
        search.request = request(search.root.parent / "asked", SPACE, search.request.experiment, root=search.root, run_cap=6)
        search.launch()
    for name, text in plain.result().items():
        assert paper.result()[name] == text, name
    assert paper.trained == plain.trained + expected
    assert not paper.torn() and not paper.leftovers()


@pytest.mark.parametrize(
    ("epochs", "error"), [(0, KeyboardInterrupt), (1, RuntimeError), (5, KeyboardInterrupt), (11, RuntimeError)]
)
def test_an_interrupted_paper_run_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int, error: type) -> None:
    whole, parts = Paper(tmp_path / "whole" / "results", monkeypatch), Paper(tmp_path / "parts" / "results", monkeypatch)
    expected = whole.train()
    with pytest.raises(error, match="interrupted here"):
        parts.train(before=stop_at(epochs, error))
    assert parts.trained == epochs and parts.train() == expected
    assert parts.trained == 12 and whole.result() == parts.result() and not parts.torn()
    assert {row[0] for row in timing(parts.root)} == ({"1", "2"} if epochs else {"1"})


def test_out_of_time_keeps_what_is_finished(paper: Paper) -> None:
    asked = iter([False] * 5 + [True] * 99)
    with pytest.raises(OutOfTime):
        paper.train(should_stop=lambda: next(asked))
    assert paper.trained == 5
    assert len(paper.train()) == 4 and paper.trained == 12


def test_a_failed_run_is_told_and_stays_failed(paper: Paper, capsys: pytest.CaptureFixture[str]) -> None:
    class Failing(HashRun):
        def __next__(self) -> Any:
            if self.weight == 0 and self.trial.epoch == 1:
                raise ArithmeticError("loss is not finite")
            return super().__next__()

    paper.patch.setattr(program, "train", Failing)
    runs = paper.train()
    assert [(run.state, len(run.reports), run.failure) for run in runs] == [
        *[("COMPLETE", 3, None)] * 2,
        *[("DIVERGED", 1, "loss is not finite")] * 2,
    ]
    assert paper.train() == runs and paper.trained == 8
    shown = capsys.readouterr().err
    assert "diverged: no_leakage, seed 2: epoch 1" in shown and "(loss is not finite)" in shown
    assert "complete: candidate 0, seed 1: epoch 3 F1" in shown and sum(line.startswith("[") for line in shown.splitlines()) == 4


def test_a_terminal_has_a_bar_that_comes_to_its_end(paper: Paper, capsys: pytest.CaptureFixture[str]) -> None:
    paper.patch.setattr(sys.stderr, "isatty", lambda: True)
    paper.patch.setenv("TERM", "xterm")
    assert len(paper.train()) == 4
    shown = capsys.readouterr().err
    assert "epochs of the paper run" in shown and "12/12" in shown and "[1/4]" not in shown


@pytest.mark.parametrize("lost", ["heads.safetensors", "", "whole trial"])
def test_a_run_whose_last_checkpoint_is_lost_trains_its_last_epoch_again(paper: Paper, lost: str) -> None:
    runs = paper.train()
    before = paper.result()
    folder = FolderMemo(paper.root).checkpoint(runs[1].key, 3)
    remove(folder / lost if lost != "whole trial" else folder.parent)
    assert paper.train() == runs
    assert paper.trained == (15 if lost == "whole trial" else 13) and paper.result() == before


def test_the_length_is_full_although_the_search_stops_early(paper: Paper) -> None:
    outcome = paper.launch()
    stopped = [trial for trial in outcome.core.trials if trial.state == "STOPPED"]
    assert stopped, "the search of this test must stop one"
    arms = [Arm(f"trial {trial.number}", "baseline", trial.params, "", trial.number) for trial in stopped]
    assert all(len(run.reports) == 3 and run.state == "COMPLETE" for run in paper.train(arms, (1,)))
