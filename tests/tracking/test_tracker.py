"""Several trackers at once, what they are told, and GPU use where there is a GPU to ask."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tune_accent.tracking.gpu import GpuUse
from tune_accent.tracking.provenance import environment, git_state, recorded_arguments, without_secrets
from tune_accent.tracking.timing import timings
from tune_accent.tracking.tracker import NoTracker, Several, logged

KEY = "5ec2e75ec2e75ec2e75ec2e75ec2e75ec2e7cafe"


class Listed:
    """Lists what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def epoch(self, trial: int, epoch: int, metrics: Mapping[str, Any]) -> None:
        self.told.append((trial, epoch, metrics))

    def close(self) -> None:
        self.told.append("close")


def test_several_trackers_are_told_the_same() -> None:
    one, other = Listed(), Listed()
    both = Several([one, NoTracker(), other])
    both.epoch(1, 2, {"score": 0.5})
    both.close()
    assert one.told == other.told == [(1, 2, {"score": 0.5}), "close"]
    Several([]).close()


def test_records_are_logged_as_text() -> None:
    found = logged({"score": 0.5, "text_drop": None, "ended": True, "evaluation": {"b": [1, 2.5], "a": None}})
    assert found == {"score": 0.5, "text_drop": None, "ended": True, "evaluation": '{"a":null,"b":[1,2.5]}'}


def test_the_last_timing_of_an_epoch_counts(tmp_path: Path) -> None:
    assert timings(tmp_path) == {}
    rows = ["launch,trial,epoch,worker,started,seconds,peak_mb", "1,0,1,here:1,1.7e9,0.5,10.0", "1,0,2,here:1,1.7e9,0.25,11.0"]
    (tmp_path / "timing.csv").write_text("\n".join([*rows, "2,0,1,here:2,1.7e9,0.75,12.0", "2,1,1,here:2,1.7e9,nan,3", "2,1,"]))
    assert timings(tmp_path) == {(0, 1): {"seconds": 0.75, "peak_mb": 12.0}, (0, 2): {"seconds": 0.25, "peak_mb": 11.0}}
    now = [
        "launch,trial,epoch,worker,started,seconds,peak_mb,allocated_mb",
        "1,0,1,here:1,1.7e9,0.5,10.0,8.0",
        "1,0,2,here:1,1.7e9,0.5,1",
    ]
    (tmp_path / "timing.csv").write_text("\n".join(now))
    assert timings(tmp_path) == {(0, 1): {"seconds": 0.5, "peak_mb": 10.0, "allocated_mb": 8.0}}


class NVMLError(Exception):
    """As pynvml's."""


def nvml(count: int, **broken: Any) -> Any:
    """A stand-in for pynvml with `count` GPUs: the processor of the machine that tests has none."""
    use = SimpleNamespace(gpu=40)
    memory = SimpleNamespace(used=3 * 2**20)
    own = {
        "NVMLError": NVMLError,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: count,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetUtilizationRates": lambda gpu: use,
        "nvmlDeviceGetMemoryInfo": lambda gpu: memory,
    }
    return SimpleNamespace(**{**own, **broken})


def fails(*_: Any) -> Any:
    raise NVMLError("no driver")


def test_gpu_use_is_the_mean_since_it_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(2))
    watch = GpuUse(period=0.01)
    found: dict[str, float] = {}
    end = time.monotonic() + 30
    while len(found) < 4 and time.monotonic() < end:
        found |= watch.take()
        time.sleep(0.01)
    watch.close()
    assert found == {
        f"gpu{index}_{name}": value for index in (0, 1) for name, value in (("use_percent", 40.0), ("memory_mb", 3.0))
    }


@pytest.mark.parametrize(
    "module",
    [None, nvml(1, nvmlInit=fails), nvml(1, nvmlDeviceGetUtilizationRates=fails), nvml(0)],
    ids=["no pynvml", "no driver", "no rates", "no device"],
)
def test_without_a_gpu_nothing_is_said(monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", module)
    watch = GpuUse(period=0.01)
    time.sleep(0.05)
    assert watch.take() == {}
    watch.close()


def test_no_secret_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    assert without_secrets(f"a {KEY} b hf_0123456789") == "a *** b ***"
    given = ["--lr=0.1", f"--note=x{KEY}", "--api-key=other", "--token", "third", "--token", "--fresh", "--out=runs"]
    hidden = ["--lr=0.1", "--note=x***", "--api-key=***", "--token", "***", "--token", "--fresh", "--out=runs"]
    assert recorded_arguments(given) == hidden
    monkeypatch.setattr(sys, "argv", ["search", *given])
    assert KEY not in str(environment()) and environment()["command"] == ["search", *hidden]
    monkeypatch.undo()
    assert git_state(tmp_path) is None
