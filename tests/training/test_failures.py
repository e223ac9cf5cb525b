"""Failures inside the real trainer, seen from the worker: each has its state and its place, frees what it held, and leaves its neighbours alone."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from peft.tuners.lora.layer import LoraLayer
from ray import cloudpickle
from torch import Tensor

from tests.support import old_objects_set_aside, small_experiment
from tune_accent.base.files import canonical_json
from tune_accent.config.schema import Experiment
from tune_accent.training import encode, trainer
from tune_accent.training import measure as measuring
from tune_accent.training.loss import accent_loss
from tune_accent.training.trial import Trial, build_trial
from tune_accent.tuning.memo import FolderMemo
from tune_accent.tuning.program import SpeechProgram
from tune_accent.tuning.worker import EpochTrainable

if TYPE_CHECKING:
    from tune_accent.training.inputs import TrialData

KEY, NEIGHBOUR = "a" * 20, "b" * 20
PARAMS = {KEY: {"lora_rank": 2, "lr": 0.01}, NEIGHBOUR: {"lora_rank": 4, "lr": 0.002}}


class Worker:
    """A worker's answers, as Ray would get them: the real Trainable around the real program, in this process."""

    def __init__(self, root: Path, spec: Experiment, data: TrialData) -> None:
        self.memo, self.data = FolderMemo(root), data
        self.program = SpeechProgram(spec, data, self.memo)
        self.trainable = EpochTrainable.__new__(EpochTrainable)
        self.trainable._program, self.trainable._timeout_s = self.program, 600.0

    def answer(self, epoch: int, key: str = KEY) -> dict[str, Any]:
        """What the step of one epoch answers."""
        answer: dict[str, Any] = self.trainable._answer({"key": key, "params": PARAMS[key]}, epoch)
        return answer

    def finish(self, key: str) -> tuple[str, dict[str, bytes]]:
        """Train the epochs of `key` that are not known; its reports and every file of its last checkpoint."""
        for epoch in range(len(self.memo.reports(key)) + 1, 4):
            assert "metrics" in self.answer(epoch, key)
        folder = self.memo.checkpoint(key, 3)
        files = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
        return canonical_json(self.memo.reports(key)), files


@pytest.fixture(scope="module")
def spec(small_root: Path) -> Experiment:
    """The small experiment in epochs of three small steps, of which each can fail."""
    return small_experiment(small_root, batch_size=6, steps_per_epoch=3)


@pytest.fixture(autouse=True, scope="module")
def quick_collections(small_data: TrialData) -> Iterator[None]:
    """Every test here collects garbage."""
    with old_objects_set_aside():
        yield


@pytest.fixture
def worker(spec: Experiment, small_data: TrialData, tmp_path: Path) -> Iterator[Worker]:
    made = Worker(tmp_path / "results", spec, small_data)
    yield made
    made.program.close()


@pytest.fixture(scope="module")
def undisturbed(spec: Experiment, small_data: TrialData, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Both trials, trained where nothing fails."""
    made = Worker(tmp_path_factory.mktemp("undisturbed"), spec, small_data)
    return {key: made.finish(key) for key in (NEIGHBOUR, KEY)}


@pytest.fixture(scope="module")
def backbone(small_data: TrialData) -> dict[str, Tensor]:
    """The weights of the backbone as it was loaded."""
    return {name: value.clone() for name, value in small_data.backbone.model.state_dict().items()}


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Trial]]:
    """Every trial that is built from now on."""
    built: list[weakref.ref[Trial]] = []

    def noted(*arguments: Any) -> Trial:
        trial = build_trial(*arguments)
        built.append(weakref.ref(trial))
        return trial

    monkeypatch.setattr(trainer, "build_trial", noted)
    return built


def assert_clean(worker: Worker, backbone: dict[str, Tensor], trials: list[weakref.ref[Trial]]) -> None:
    """No adapter, no gradient, no changed weight, no live trial."""
    model = worker.data.backbone.model
    after = model.state_dict()
    assert after.keys() == backbone.keys() and all(torch.equal(value, after[name]) for name, value in backbone.items())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in model.parameters())
    assert worker.program._live is None
    gc.collect()
    assert not any(trial() for trial in trials), "a failed trial is still held"


def at(call: int, function: Callable[..., Any], fault: Callable[[Any], Any]) -> Callable[..., Any]:
    """`function`, whose result goes through `fault` at its n-th call, counted from 0."""
    calls = iter(range(10**6))

    def wrapped(*arguments: Any, **named: Any) -> Any:
        due = next(calls) == call
        result = function(*arguments, **named)
        return fault(result) if due else result

    return wrapped


def out_of_memory(error: Exception) -> Callable[..., Any]:
    def fault(_: Any) -> Any:
        raise error

    return fault


@pytest.mark.parametrize("step", [0, 1, 2])
@pytest.mark.parametrize(("name", "per_step", "place"), [("speech_loss", 2, 0), ("speech_loss", 2, 1), ("accent_loss", 1, 0)])
def test_a_loss_that_is_not_finite(
    worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
    backbone: dict[str, Tensor],
    trials: Any,
    name: str,
    per_step: int,
    place: int,
    step: int,
) -> None:
    bad = at(step * per_step + place, getattr(trainer, name), lambda loss: loss * float("nan"))
    with monkeypatch.context() as patched:
        patched.setattr(trainer, name, bad)
        failure = worker.answer(1)["failure"]
    quantity = "loss_a" if (name, place) == ("speech_loss", 0) else "loss"
    assert (failure["state"], failure["epoch"]) == ("DIVERGED", 1)
    assert failure["message"].startswith(f"{quantity} is not finite at step {step} (last gradient norm ")
    assert failure["message"].endswith("norm none)") == (step == 0)
    assert_clean(worker, backbone, trials)


@pytest.mark.parametrize(("value", "step"), [(float("inf"), 0), (float("-inf"), 2), (float("nan"), 1)])
def test_a_gradient_that_is_not_finite(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, backbone: dict[str, Tensor], trials: Any, value: float, step: int
) -> None:
    def spoil(trial: Trial) -> None:
        gradient = next(parameter.grad for parameter in trial.trained() if parameter.grad is not None)
        gradient.view(-1)[0] = value

    original, calls = trainer._step, iter(range(1000))

    def stepped(spec: Experiment, trial: Trial) -> float:
        if next(calls) == step:
            spoil(trial)
        return original(spec, trial)

    with monkeypatch.context() as patched:
        patched.setattr(trainer, "_step", stepped)
        failure = worker.answer(1)["failure"]
    assert failure["state"] == "DIVERGED" and failure["message"].startswith(f"gradient norm is not finite at step {step} (last ")
    assert failure["message"].endswith("norm none)") == (step == 0)
    assert_clean(worker, backbone, trials)


@pytest.mark.parametrize(("epoch", "what"), [(1, "score"), (2, "score"), (3, "score"), (1, "z"), (3, "z"), (2, "text_drop")])
def test_a_metric_that_is_not_finite_ends_the_trial_in_that_epoch(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, backbone: dict[str, Tensor], trials: Any, epoch: int, what: str
) -> None:
    for earlier in range(1, epoch):
        assert "metrics" in worker.answer(earlier)
    with monkeypatch.context() as patched:
        if what == "z":
            patched.setattr(measuring, "represent", _spoilt_z)
        else:
            patched.setattr(trainer, "measure", lambda *given: {**measuring.measure(*given), what: float("nan")})
        failure = worker.answer(epoch)["failure"]
    assert (failure["state"], failure["epoch"]) == ("DIVERGED", epoch)
    name = "validation" if what == "z" else what
    assert failure["message"].startswith(f"{name} is not finite at step ") and "last gradient norm none" not in failure["message"]
    assert "at step 0 " not in failure["message"]
    assert len(worker.memo.reports(KEY)) == epoch - 1
    assert_clean(worker, backbone, trials)


def _spoilt_z(spec: Any, data: Any, heads: Any) -> Any:
    seen = represent(spec, data, heads)
    if seen.z is not None:
        seen.z[3, 1] = float("inf")
    return seen


represent = encode.represent
ERRORS = [MemoryError("host"), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")]
PLACES = {
    "adapter": (LoraLayer, "update_layer", 3),
    "optimizer": (torch.optim, "Adam", 0),
    "load": (trainer, "load_checkpoint", 0),
    "forward": (trainer, "forward", 3),
    "backward": (torch.autograd, "backward", 4),
    "step": (trainer, "_step", 2),
    "evaluation": (encode, "forward", 1),
    "probes": (measuring, "evaluate", 0),
    "checkpoint": (None, "save_checkpoint", 0),
}

BUILDING = ("adapter", "optimizer", "load")


def run_out(worker: Worker, monkeypatch: pytest.MonkeyPatch, place: str, error: Exception, epoch: int) -> None:
    """Let epoch `epoch` run out of memory at `place`; it must be named."""
    from tune_accent.tuning import program

    module, name, call = PLACES[place]
    module = module or program
    if place in BUILDING:
        worker.program.close()  # as in a worker that had another trial before
    with monkeypatch.context() as patched:
        patched.setattr(module, name, at(call, getattr(module, name), out_of_memory(error)))
        failure = worker.answer(epoch)["failure"]
    assert failure["state"] == "OOM" and failure["epoch"] == epoch
    assert type(error).__name__ in failure["message"] and str(error) in failure["message"]
    assert len(worker.memo.reports(KEY)) == epoch - 1 and worker.memo.failure(KEY) is None, "the core decides whether it is final"
    error.__traceback__ = None


@pytest.mark.parametrize("error", ERRORS, ids=["host", "device"])
@pytest.mark.parametrize("place", [place for place in PLACES if place != "load"])
def test_out_of_memory_is_named_and_frees_everything(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, backbone: dict[str, Tensor], trials: Any, error: Exception, place: str
) -> None:
    run_out(worker, monkeypatch, place, error, 1)
    assert_clean(worker, backbone, trials)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_after_out_of_memory_all_trials_end_with_the_same_bits(
    worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
    backbone: dict[str, Tensor],
    trials: Any,
    undisturbed: dict[str, Any],
    place: str,
) -> None:
    assert "metrics" in worker.answer(1)
    run_out(worker, monkeypatch, place, ERRORS[1], 2)
    assert_clean(worker, backbone, trials)
    assert worker.finish(NEIGHBOUR) == undisturbed[NEIGHBOUR]
    assert worker.finish(KEY) == undisturbed[KEY], "tried again alone, and then to the end"


def test_out_of_memory_while_the_program_is_built(worker: Worker) -> None:
    worker.trainable._program, worker.trainable._spec = None, {}
    worker.trainable._factory = cloudpickle.dumps(_too_large)
    failure = worker.answer(1)["failure"]
    assert failure["state"] == "OOM" and "building the program" in failure["message"]


def _too_large(spec: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize("fault", ["nan loss", "nan gradient", "nan metric", "crash"])
def test_a_neighbour_gets_the_same_bits_as_without_the_failure(
    worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
    backbone: dict[str, Tensor],
    trials: Any,
    undisturbed: dict[str, Any],
    fault: str,
) -> None:
    """The neighbour begins before, and goes on after: one program, one backbone."""
    assert "metrics" in worker.answer(1, NEIGHBOUR)
    assert "metrics" in worker.answer(1)
    with monkeypatch.context() as patched:
        if fault == "nan metric":
            patched.setattr(trainer, "measure", lambda *given: {**measuring.measure(*given), "score": float("nan")})
        elif fault == "nan loss":
            patched.setattr(trainer, "accent_loss", at(2, accent_loss, lambda loss: loss * float("nan")))
        elif fault == "nan gradient":
            patched.setattr(
                torch.nn.utils, "clip_grad_norm_", at(1, torch.nn.utils.clip_grad_norm_, lambda norm: norm * float("nan"))
            )
        else:
            patched.setattr(trainer, "measure", at(0, measuring.measure, out_of_memory(ZeroDivisionError("a bug"))))
        if fault == "crash":
            with pytest.raises(ZeroDivisionError):  # Ray's to retry
                worker.answer(2)
        else:
            assert worker.answer(2)["failure"]["state"] == "DIVERGED"
    assert_clean(worker, backbone, trials)
    assert worker.finish(NEIGHBOUR) == undisturbed[NEIGHBOUR]
    if fault == "crash":
        assert worker.finish(KEY) == undisturbed[KEY]
