"""Estimates of a trial and a search."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.step_model import shape_of
from tests.support import small_experiment
from tune_accent.base.errors import UserError
from tune_accent.checking import cost
from tune_accent.checking.cost import Corpus, Search, duration, epoch_seconds, flops_cost, search_of, timed_cost
from tune_accent.checking.finding import Skip
from tune_accent.checking.gpu import check_gpu, check_memory, room_mb
from tune_accent.checking.smoke import Smoke, check_smoke
from tune_accent.config.load import load_experiment, resolve
from tune_accent.models.published import HUB_IDS

ROOT = Path(__file__).parents[2]
TOOK = Smoke(step_s=2.0, evaluation_s=5.0, evaluated=100, peak_mb=900.0, device="cpu")


def test_an_epoch_is_its_steps_and_a_whole_evaluation(tmp_path: Path) -> None:
    spec = small_experiment(tmp_path)  # batches of 12, no steps_per_epoch
    assert epoch_seconds(spec, Corpus(121, 300, 4.0), TOOK) == 11 * 2.0 + 15.0
    fixed = small_experiment(tmp_path, steps_per_epoch=3)
    assert epoch_seconds(fixed, Corpus(121, 300, 4.0), TOOK) == 6.0 + 15.0


def test_estimates_are_marked_and_span_what_is_not_known(tmp_path: Path) -> None:
    search = Search("space.yaml", 16, (84, 144), 2.0**21)
    trial, whole = timed_cost(small_experiment(tmp_path, steps_per_epoch=3), Corpus(121, 300, 4.0), TOOK, search)
    assert "estimate" in trial.found and "63 s (3 epochs of 21 s)" in trial.found
    assert "estimate: 16 trials, 84 to 144 epochs as early stopping decides (space.yaml): 29 min to 50 min" in whole.found


def test_without_weights_flops_are_counted(tmp_path: Path) -> None:
    spec = small_experiment(tmp_path, sub_frames=None)
    search = Search(None, 16, (48, 48), 0.0)
    times = [
        next(iter(flops_cost(spec, Corpus(50_000, 25_000, 7.0), shape_of(size), 5, search))).found for size in ("0.6B", "1.7B")
    ]
    assert all("from FLOPs, for a 24 GB GPU" in one for one in times)
    flops = [cost.pair_flops(spec, shape_of(size), 7.0, 5) for size in ("0.6B", "1.7B")]
    assert 1.5 < flops[1] / flops[0] < 2.5


def test_the_space_file_that_names_the_config_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("configs", "search_spaces"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    spec = load_experiment("configs/demo.yaml").experiment
    found = search_of(spec, Path("configs/demo.yaml"), shape_of("tiny"))
    assert (found.file, found.trials, found.epochs) == ("search_spaces/lora.yaml", 16, (84, 144)) and found.disk > 0
    shutil.rmtree("search_spaces")
    alone = search_of(spec, Path("configs/demo.yaml"), shape_of("tiny"))
    assert (alone.file, alone.trials, alone.epochs) == (None, 16, (144, 144)) and alone.disk > 0


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.42, "0.4 s"), (75, "75 s"), (600, "10 min"), (9000, "2.5 h"), (864_000, "10.0 days")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_half_precision_without_a_gpu_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("tune_accent.checking.gpu.gpus", list)
    spec = small_experiment(tmp_path, precision="bf16")
    found = check_gpu(spec)
    assert next(found).status == "ok"
    with pytest.raises(UserError, match="bf16 needs a CUDA GPU"):
        next(found)


def test_a_real_checkpoint_without_a_gpu_is_one_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("tune_accent.checking.gpu.gpus", list)
    for precision, status in (("bf16", "failed"), ("fp32", "warning")):
        spec = resolve(small_experiment(tmp_path, precision=precision), {"model.backbone": HUB_IDS["0.6B"]})
        (found,) = check_gpu(spec)
        assert (found.status, "24 GB" in str(found.fix)) == (status, True)


def test_memory_that_is_too_little_is_told_before_anything_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tune_accent.tuning.peak.gpus", list)
    spec = load_experiment(ROOT / "configs/qwen3_tts_1.7b.yaml").experiment
    (found,) = check_memory(spec)
    assert found.status == "ok" and "estimate: about" in found.found and found.fix is None
    (found,) = check_memory(resolve(spec, {"training.batch_size": 64, "training.gradient_checkpointing": False}))
    assert found.status == "warning" and "DOES NOT FIT" in found.found and "training.sub_frames" in str(found.fix)
    with pytest.raises(Skip):
        list(check_memory(resolve(spec, {"model.backbone": "some/one-Base"})))


@pytest.mark.parametrize(("room", "status"), [(None, "ok"), (1000.0, "ok"), (800.0, "failed")])
def test_a_smoke_run_that_took_more_than_its_share_fails(room: float | None, status: str) -> None:
    (found,) = check_smoke(TOOK, {"val_loss": 5.0}, False, room)
    assert found.status == status and ("tuning.resources.gpu gives" in found.found) == (status == "failed")


def test_the_share_of_a_card_is_counted_in_its_whole_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    spec = resolve(small_experiment(tmp_path), {"tuning.resources.gpu": 0.25})
    assert room_mb(spec) is None
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: (1, 24 * 2**30))
    assert room_mb(spec) == 6 * 1024


def test_a_card_that_torch_does_not_see_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(
        "tune_accent.checking.gpu.gpus", lambda: [{"name": "RTX 3090", "memory": "24576 MiB", "driver": "550.54"}]
    )
    found = next(check_gpu(small_experiment(tmp_path)))
    assert found.status == "failed" and "RTX 3090" in found.found and "CUDA build" in str(found.fix)
