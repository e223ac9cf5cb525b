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
from tune_accent.checking.gpu import check_gpu
from tune_accent.checking.smoke import Smoke
from tune_accent.config.load import load_experiment

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
    assert "estimate" in trial.found and "63 s (3 epochs of 21 s)" in trial.found and "memory:" in trial.found
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


def test_a_card_that_torch_does_not_see_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(
        "tune_accent.checking.gpu.gpus", lambda: [{"name": "RTX 3090", "memory": "24576 MiB", "driver": "550.54"}]
    )
    found = next(check_gpu(small_experiment(tmp_path)))
    assert found.status == "failed" and "RTX 3090" in found.found and "CUDA build" in str(found.fix)
