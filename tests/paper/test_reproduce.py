"""The winner again, twice: equal to the bit, and every planted difference found, named and explained."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.tuning.small_search import SPACE, request
from tests.tuning.test_driver import InProcess
from tune_accent.base.errors import DataError
from tune_accent.base.files import read_json, sha256_json
from tune_accent.config.load import resolve
from tune_accent.config.schema import Experiment, Tracking
from tune_accent.paper import repeated
from tune_accent.paper import reproduce as module
from tune_accent.paper.bits import Trained, compare, parting
from tune_accent.paper.environment import NOTHING_DIFFERS
from tune_accent.paper.repeated import Job, records
from tune_accent.paper.reproduce import reproduce, run_folder
from tune_accent.paper.results import Reproduction
from tune_accent.training.preparation import PreparedRecord
from tune_accent.tuning import driver
from tune_accent.tuning.core import Trial
from tune_accent.tuning.driver import run_search
from tune_accent.tuning.memo import FolderMemo

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from tune_accent.training.inputs import TrialData

EPOCHS = 3


@dataclass(frozen=True)
class Made:
    """A finished search and its best trial."""

    experiment: Experiment
    root: Path
    best: Trial
    data: PreparedRecord

    def again(self, **options: Any) -> Reproduction:
        """As the paper run asks."""
        return reproduce(self.experiment, self.best.params, self.root, self.best, **options)

    def job(self, number: int, **changes: Any) -> Job:
        """A run of another spec, which lies where run `number` is looked for, under its key."""
        spec = resolve(
            self.experiment, {**self.best.params, **{name.replace("__", "."): value for name, value in changes.items()}}
        )
        data = {name: getattr(self.data, name) for name in ("cache", "backbone")}
        return Job(spec.model_dump_json(), self.best.key, data, str(run_folder(self.root, number)), "cpu")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, small_spec: Experiment, small_data: TrialData) -> Made:
    """A search of one real trial, trained in this process, and its two runs."""
    from tune_accent.tuning.program import SpeechProgram

    changes = {"training.steps_per_epoch": 2, "training.epochs": EPOCHS, "tuning.resources.gpu": 0.0}
    experiment = resolve(small_spec, changes).model_copy(update={"tracking": Tracking(tensorboard=False)})
    data = PreparedRecord("r", "m", "s", small_data.speech.key, small_data.backbone.fingerprint)
    asked = request(tmp_path_factory.mktemp("searched"), SPACE, experiment, run_cap=1)
    program = InProcess(lambda spec: SpeechProgram(experiment, small_data, FolderMemo(Path(spec["root"]))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "ensure_prepared", lambda spec, show: data)
        patch.setattr(driver, "run_with_ray", program)
        outcome = run_search(asked)
    assert outcome.best is not None and len(outcome.best.reports) == EPOCHS
    return Made(experiment, asked.root, outcome.best, data)


@pytest.fixture(scope="module")
def reproduced(searched: Made) -> tuple[Made, Reproduction]:
    """The same with its reproduction."""
    return searched, searched.again()


@pytest.fixture
def made(reproduced: tuple[Made, Reproduction], tmp_path: Path) -> Iterator[Made]:
    """A copy to spoil."""
    made, _ = reproduced
    yield replace(made, root=Path(shutil.copytree(made.root, tmp_path / "results")))


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left to be trained."""

    def refuse(*arguments: object) -> None:
        raise AssertionError("a finished run is trained again")

    monkeypatch.setattr(module, "_run", refuse)


class Nobody:
    """Listens to a run in this process."""

    def send(self, told: object) -> None:
        """Nothing is done with it."""


def run_here(jobs: Sequence[Job], *_: object) -> None:
    """The runs one after the other in this process: planted ones need no fresh one."""
    import torch

    for job in jobs:
        repeated._train(job, cast("Connection", Nobody()))
    torch.set_num_threads(1)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is to be trained is trained in this process."""
    monkeypatch.setattr(module, "_run", run_here)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MKL_NUM_THREADS", "1")


def test_two_fresh_processes_and_the_search_agree_to_the_bit(reproduced: tuple[Made, Reproduction]) -> None:
    made, found = reproduced
    assert (found.same_twice, found.same_as_search, found.difference, found.cause) == (True, True, None, None)
    assert found.hashes["run 1"] == found.hashes["run 2"] == found.hashes["search"]
    assert set(found.hashes["search"]) == {"adapter", "heads", "metrics"} and found.device.startswith("cpu (")
    written = read_json(made.root / "paper" / "reproduction.json")
    assert written.pop("sha256") == sha256_json(written) and written["same_twice"] is True
    for number in (1, 2):
        known = records(run_folder(made.root, number), made.best.key)
        assert [record["epoch"] for record in known] == [1, 2, 3] and all(record["tensors"]["adapter"] for record in known)
        kept = sorted(path.name for path in run_folder(made.root, number).iterdir() if path.is_dir())
        assert kept == ["0002", "0003"], "the newest state, and the one before it"


def test_what_is_finished_is_not_trained_again(made: Made, reproduced: tuple[Made, Reproduction], no_training: None) -> None:
    assert made.again() == reproduced[1]


def bits_of(folder: Path) -> dict[str, Any]:
    """Figures and tensors of every record of a run; what it says of the machine may change between two launches."""
    contents = {path.name: json.loads(path.read_text()) for path in folder.glob("0*.json")}
    return {name: (content["epoch"], content["metrics"], content["tensors"]) for name, content in contents.items()}


def test_a_killed_run_continues_to_the_same_result(made: Made, reproduced: tuple[Made, Reproduction]) -> None:
    folder = run_folder(made.root, 2)
    before = bits_of(folder)
    for name in ("0002.json", "0003.json"):
        (folder / name).unlink()
    for epoch, source in (("0001", "0002"), ("0003", "0002")):  # of another epoch, and a damaged one
        shutil.rmtree(folder / epoch, ignore_errors=True)
        shutil.copytree(folder / source, folder / epoch)
    told: list[tuple[str, int, int]] = []

    def interrupt(label: str, done: int, total: int) -> None:
        told.append((label, done, total))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.again(progress=interrupt)
    assert len(records(folder, made.best.key)) >= 1 and told == [("reproduction, run-2", 1, EPOCHS)]
    assert made.again(progress=lambda label, done, total: told.append((label, done, total))) == reproduced[1]
    assert told[-1] == ("reproduction, run-2", EPOCHS, EPOCHS)
    assert bits_of(folder) == before


def test_a_damaged_state_is_left_out(made: Made, reproduced: tuple[Made, Reproduction], here: None) -> None:
    folder = run_folder(made.root, 1)
    before = bits_of(folder)
    (folder / "0003.json").write_text("{")
    heads = folder / "0002" / "heads.safetensors"
    heads.write_bytes(heads.read_bytes()[:-1])
    assert made.again().same_as_search is True
    assert bits_of(folder) == before


def test_another_seed_in_one_run_is_found_and_named(made: Made, here: None) -> None:
    for number in (1, 2):
        shutil.rmtree(run_folder(made.root, number))
    run_here([made.job(1), made.job(2, training__repeat=1)])
    found = made.again()
    assert found.same_twice is False and found.same_as_search is True and found.cause == NOTHING_DIFFERS
    assert found.difference is not None and found.difference.startswith("the two runs: epoch 1: the tensor ")
    assert "lora_" in found.difference and found.difference.endswith(" of the adapter differs")
    assert found.hashes["run 1"] != found.hashes["run 2"]


def test_another_number_of_threads_is_found_and_named(made: Made, here: None) -> None:
    for number in (1, 2):
        shutil.rmtree(run_folder(made.root, number))
    run_here([made.job(1, training__threads=2)])
    shutil.copytree(run_folder(made.root, 1), run_folder(made.root, 2))
    found = made.again()
    assert found.same_twice is True and found.same_as_search is False
    assert found.cause is not None and found.cause.split("; ")[0] == "other threads of a trial: 1 → 2"
    assert found.difference is not None and found.difference.startswith("search and run 1: epoch ")


def test_another_setting_is_named_as_the_cause(made: Made, here: None) -> None:
    found = replace(made, experiment=resolve(made.experiment, {"training.clip": 0.001})).again()
    assert found.same_twice is True and found.same_as_search is False
    assert found.cause == "other settings: training.clip: 1.0 → 0.001"


def test_a_flipped_bit_in_a_checkpoint_is_found_and_named(made: Made, no_training: None) -> None:
    checkpoint = FolderMemo(made.root).checkpoint(made.best.key, EPOCHS)
    for name, part in (("adapter/adapter_model.safetensors", "adapter"), ("heads.safetensors", "heads")):
        file = checkpoint / name
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        found = made.again()
        assert found.same_twice is True and found.same_as_search is False and found.difference is not None
        assert found.difference == f"search and run 1: epoch 3: the tensor {last_tensor(file)} of the {part} differs"
        assert found.cause == f"trials/{made.best.key}/0003: this folder is damaged: {name} is changed"
        file.write_bytes(whole)


def last_tensor(file: Path) -> str:
    """The tensor that the last byte of a safetensors file belongs to."""
    data = file.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    ends: dict[str, int] = {name: entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"}
    return max(ends, key=ends.__getitem__)


def test_a_search_that_kept_no_weights_leaves_the_question_open(made: Made, no_training: None) -> None:
    for epoch in (2, 3):
        shutil.rmtree(FolderMemo(made.root).checkpoint(made.best.key, epoch))
    found = made.again()
    assert found.same_twice is True and found.same_as_search is None and set(found.hashes["search"]) == {"metrics"}
    assert found.difference is None


def test_another_figure_of_the_search_is_named(made: Made, no_training: None) -> None:
    spoilt = replace(made.best, reports=[{**made.best.reports[0], "loss_a": 1.0}, *made.best.reports[1:]])
    found = replace(made, best=spoilt).again()
    assert found.same_as_search is False and found.difference is not None
    assert found.difference.startswith("search and run 1: epoch 1: loss_a is 1.0 in search, ")


def test_other_data_are_refused(made: Made, here: None) -> None:
    shutil.rmtree(run_folder(made.root, 1))
    job = replace(made.job(1), data={"cache": "another", "backbone": made.data.backbone})
    with pytest.raises(DataError, match="cache changed since the search"):
        run_here([job])


def test_a_bug_in_a_process_is_a_traceback_here(made: Made) -> None:
    with pytest.raises(RuntimeError, match="reproduction, run-1: Traceback"):
        module._run([replace(made.job(1), spec="{}")], EPOCHS, lambda *told: None)


def trained(name: str, *scores: float, ended: str | None = None) -> Trained:
    """A training of which only figures are known."""
    return Trained(name, [{"score": score} for score in scores], {}, {}, ended=ended)


def test_a_run_that_ends_early_parts_there(small_spec: Experiment) -> None:
    whole, short = trained("run 1", 0.1, 0.2), trained("run 2", 0.1, ended="epoch 2: loss is not finite at step 3")
    found = parting(whole, short)
    assert found is not None and found.epoch == 2
    assert found.what == "epoch 2: run 1 ends after epoch 2 and run 2 ends after epoch 1 (epoch 2: loss is not finite at step 3)"
    assert parting(whole, replace(whole, name="run 2")) is None
    assert compare(short, short, trained("search"), small_spec).same_as_search is None


def test_a_process_does_not_outlive_the_one_that_waits_for_it() -> None:
    code = (
        "import multiprocessing, sys\n"
        "from tune_accent.paper.repeated import _die_with_parent\n"
        "child = multiprocessing.get_context('spawn').Process(target=_die_with_parent)\n"
        "child.start()\n"
        "print(child.pid, flush=True)\n"
        "child.join()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
        assert parent.stdout.read() == "", "ends when the child, which holds the other end of the pipe, is gone"
    with pytest.raises(ProcessLookupError):
        for _ in range(1000):
            os.kill(child, 0)
            time.sleep(0.01)
