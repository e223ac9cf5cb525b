"""What a worker does, on real speech: continues live or from a checkpoint to the same bits, survives damage, forgets what is old."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.support import small_experiment
from tune_accent.base.errors import DataError, Diverged
from tune_accent.base.files import canonical_json
from tune_accent.config.schema import Experiment
from tune_accent.tuning.memo import FolderMemo

if TYPE_CHECKING:
    from tune_accent.training.inputs import TrialData
    from tune_accent.tuning.program import SpeechProgram

KEY, OTHER, TWIN = "a" * 20, "b" * 20, "c" * 20
PARAMS = {KEY: {"lora_rank": 2, "lr": 0.01}, OTHER: {"lora_rank": 4, "lr": 0.002}, TWIN: {"lora_rank": 2, "lr": 0.002}}


class Worker:
    """Programs in one results folder; `fresh` is a new process as far as the program can tell."""

    def __init__(self, root: Path, spec: Experiment, data: TrialData) -> None:
        self.root, self.spec, self.data = root, spec, data
        self.program = self.fresh()

    def fresh(self) -> SpeechProgram:
        from tune_accent.tuning.program import SpeechProgram

        if hasattr(self, "program"):
            self.program.close()
        self.program = SpeechProgram(self.spec, self.data, FolderMemo(self.root))
        return self.program

    def train(self, *epochs: int, key: str = KEY) -> list[dict[str, Any]]:
        return [dict(self.program.epoch(PARAMS[key], key, epoch)) for epoch in epochs]

    def state(self, key: str = KEY, epoch: int = 3) -> dict[str, bytes]:
        """Every file of a checkpoint."""
        folder = FolderMemo(self.root).checkpoint(key, epoch)
        return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

    def table(self, key: str = KEY) -> str:
        return canonical_json(FolderMemo(self.root).reports(key))


@pytest.fixture(scope="module")
def spec(small_root: Path) -> Experiment:
    """The small experiment in epochs of two small steps."""
    return small_experiment(small_root, batch_size=6, steps_per_epoch=2)


@pytest.fixture(scope="module")
def whole(spec: Experiment, small_data: TrialData, tmp_path_factory: pytest.TempPathFactory) -> Worker:
    """One trial of three epochs, trained through by one program; read only."""
    worker = Worker(tmp_path_factory.mktemp("whole"), spec, small_data)
    worker.train(1, 2, 3)
    return worker


@pytest.fixture(scope="module")
def two_epochs(spec: Experiment, small_data: TrialData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of that trial, and of its twin, after two epochs; read only."""
    worker = Worker(tmp_path_factory.mktemp("two") / "results", spec, small_data)
    worker.train(1, 2)
    worker.train(1, 2, key=TWIN)
    worker.program.close()
    return worker.root


@pytest.fixture
def worker(spec: Experiment, small_data: TrialData, tmp_path: Path) -> Iterator[Worker]:
    made = Worker(tmp_path / "results", spec, small_data)
    yield made
    made.program.close()


@pytest.fixture
def half_way(worker: Worker, two_epochs: Path) -> Worker:
    """The worker whose trial has been trained for two epochs."""
    shutil.copytree(two_epochs, worker.root, dirs_exist_ok=True)
    return worker


def same(one: Worker, other: Worker) -> None:
    assert one.table() == other.table()
    assert one.state() == other.state() != {}


def test_an_epoch_leaves_report_and_checkpoint(whole: Worker) -> None:
    reports = FolderMemo(whole.root).reports(KEY)
    assert [report["ended"] for report in reports] == [False, False, True]
    assert all("timing" not in report and report["score"] is not None for report in reports)
    assert set(whole.state()) == {
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "checksums.json",
        "heads.safetensors",
        "optimizer.safetensors",
        "state.json",
    }


def test_old_checkpoints_are_forgotten_and_nothing_is_pickled(whole: Worker) -> None:
    assert sorted(path.name for path in FolderMemo(whole.root).trial_folder(KEY).iterdir()) == [
        "0001.json",
        "0002",
        "0002.json",
        "0003",
        "0003.json",
    ]
    files = [path for path in whole.root.rglob("*") if path.is_file()]
    assert files and {path.suffix for path in files} == {".json", ".safetensors"}
    for path in files:
        head = path.read_bytes()[:16]
        assert not head.startswith((b"\x80", b"PK")), f"{path} looks like a pickle or torch archive"
        assert head.startswith(b"{") if path.suffix == ".json" else head[8:9] == b"{"


def test_trials_take_turns_on_one_backbone(whole: Worker, worker: Worker) -> None:
    before = {name: value.clone() for name, value in whole.data.backbone.model.state_dict().items()}
    for epoch in (1, 2, 3):
        for key in (OTHER, KEY):
            timing = worker.train(epoch, key=key)[0]["timing"]
            assert timing["seconds"] > 0 and timing["peak_mb"] >= timing["allocated_mb"] > 0 and timing["started"] > 1.6e9
    same(whole, worker)
    worker.program.close()
    after = worker.data.backbone.model.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_fresh_program_continues_to_the_same_bits(whole: Worker, worker: Worker) -> None:
    for epoch in (1, 2, 3):
        worker.train(epoch)
        worker.fresh()
    same(whole, worker)


def damage(folder: Path, how: str) -> None:
    """Break a checkpoint."""
    match how:
        case "truncated adapter":
            path = folder / "adapter" / "adapter_model.safetensors"
            path.write_bytes(path.read_bytes()[:-40])
        case "optimizer missing":
            (folder / "optimizer.safetensors").unlink()
        case "state is no JSON":
            (folder / "state.json").write_text("{")
        case "heads of another shape":
            (folder / "heads.safetensors").write_bytes((folder / "adapter" / "adapter_model.safetensors").read_bytes())
        case "gone":
            shutil.rmtree(folder)


DAMAGES = ["truncated adapter", "optimizer missing", "state is no JSON", "heads of another shape", "gone"]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    whole: Worker, half_way: Worker, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    damage(FolderMemo(half_way.root).checkpoint(KEY, 2), how)
    half_way.fresh()
    with caplog.at_level(logging.WARNING, "tune_accent"):
        half_way.train(3)
    same(whole, half_way)
    assert ("this folder is damaged" in caplog.text and "0002" in caplog.text) == (how != "gone")
    assert half_way.state(epoch=2) == whole.state(epoch=2), "the checkpoint on the way is whole again"


@pytest.mark.parametrize(("key", "epoch", "why"), [(TWIN, 2, "another trial"), (KEY, 1, "epoch 1, not of 2")])
def test_a_checkpoint_from_elsewhere_is_not_believed(
    whole: Worker, half_way: Worker, key: str, epoch: int, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whole, and of the same shape: somebody copied it."""
    memo = FolderMemo(half_way.root)
    shutil.copytree(memo.checkpoint(key, epoch), half_way.root / "copy")
    shutil.rmtree(memo.checkpoint(KEY, 2))
    (half_way.root / "copy").rename(memo.checkpoint(KEY, 2))
    half_way.fresh()
    with caplog.at_level(logging.WARNING, "tune_accent"):
        half_way.train(3)
    same(whole, half_way)
    assert why in caplog.text


def test_with_every_checkpoint_damaged_the_trial_starts_over(whole: Worker, half_way: Worker) -> None:
    for epoch in (1, 2):
        damage(FolderMemo(half_way.root).checkpoint(KEY, epoch), "optimizer missing")
    half_way.fresh()
    half_way.train(3)
    same(whole, half_way)


def test_a_failure_ends_the_live_trial_and_no_other(whole: Worker, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    from tune_accent.training import trainer

    worker.train(1)
    for error in (Diverged("loss", 3, None), MemoryError(), ZeroDivisionError()):
        with monkeypatch.context() as patched, pytest.raises(type(error)):
            patched.setattr(trainer, "measure", _raising(error))
            worker.train(2)
        assert len(FolderMemo(worker.root).reports(KEY)) == 1 and worker.program._live is None
    worker.train(2, 3)  # the same process, as after a crash that Ray tries again
    same(whole, worker)


def _raising(error: Exception) -> Any:
    def measure(*_: Any) -> None:
        raise error

    return measure


@pytest.mark.usefixtures("own_logger", "small_data")
def test_data_that_changed_after_they_were_prepared_are_refused(
    small_spec: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tune_accent.training import preparation
    from tune_accent.training.preparation import ensure_prepared, record_path
    from tune_accent.tuning.program import build_program

    monkeypatch.setattr(preparation, "ProcessPoolExecutor", lambda workers, mp_context: ThreadPoolExecutor(workers))
    hashes = vars(ensure_prepared(small_spec, show=False))
    assert record_path(small_spec).is_file()
    build_program(small_spec.model_dump_json(), str(tmp_path), 0.0, hashes).close()
    with pytest.raises(DataError, match="backbone changed"):
        build_program(small_spec.model_dump_json(), str(tmp_path), 0.0, {**hashes, "backbone": "other"})
    assert not record_path(small_spec).exists(), "the next launch looks again"
