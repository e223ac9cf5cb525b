"""The last epochs of trained runs on test speakers: exact, resumable, and only of what is asked for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tune_accent.base.errors import DataError
from tune_accent.config.load import resolve
from tune_accent.config.schema import Experiment
from tune_accent.evaluation import Evaluation, evaluate, paired_difference
from tune_accent.paper import final
from tune_accent.paper.results import Arm, TestedRun, TrainedRun
from tune_accent.training import preparation
from tune_accent.training.encode import Given, represent
from tune_accent.training.measure import measure
from tune_accent.tuning.folder import trial_key
from tune_accent.tuning.memo import FolderMemo

if TYPE_CHECKING:
    from tune_accent.training.inputs import TrialData
    from tune_accent.tuning.program import SpeechProgram

ARMS = (
    Arm("winner", "candidate", {"lora_rank": 2, "lr": 0.02}, "the winner"),
    Arm("no_lora", "baseline", {"lora_rank": 2, "model.lora.enabled": False}, "no adapter"),
    Arm("shuffled_accents", "baseline", {"training.shuffled_accents": True}, "shuffled"),
)
HASHES = {"cache": "c"}


@pytest.fixture(scope="module")
def experiment(small_spec: Experiment) -> Experiment:
    changes = {"training.epochs": 2, "training.steps_per_epoch": 2, "paper.permutations": 99, "evaluation.utterances": 3}
    return resolve(small_spec, changes)


@pytest.fixture(scope="module")
def program(experiment: Experiment, small_data: TrialData, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpeechProgram]:
    from tune_accent.tuning.program import SpeechProgram

    program = SpeechProgram(experiment, small_data, FolderMemo(tmp_path_factory.mktemp("results")))
    yield program
    program.close()


def trained(program: SpeechProgram, arm: Arm, repeat: int) -> TrainedRun:
    """Train what the memo does not know."""
    params = {**arm.params, "training.repeat": repeat}
    key = trial_key(resolve(program.experiment, params).model_dump(mode="json"), HASHES)
    for epoch in range(len(program.memo.reports(key)) + 1, 3):
        program.epoch(params, key, epoch)
    return TrainedRun(arm.name, repeat, key, "COMPLETE", tuple(program.memo.reports(key)))


@pytest.fixture(scope="module")
def runs(program: SpeechProgram) -> list[TrainedRun]:
    """Each arm on one seed, the winner on two, and a run that failed."""
    pairs = [(ARMS[0], 1), (ARMS[0], 2), (ARMS[1], 1), (ARMS[2], 1)]
    return [*(trained(program, arm, repeat) for arm, repeat in pairs), TrainedRun("winner", 3, "0" * 20, "DIVERGED", (), "nan")]


@pytest.fixture(autouse=True)
def same_inputs(small_data: TrialData, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data are open already."""
    monkeypatch.setattr(preparation, "open_inputs", lambda spec, device: small_data)


def outcome(program: SpeechProgram, runs: list[TrainedRun], **more: Any) -> list[TestedRun]:
    return final.test_runs(program.experiment, program.memo.root, runs, ARMS, wrong=("winner",), **more)


@pytest.fixture(scope="module")
def found(
    program: SpeechProgram, runs: list[TrainedRun], small_data: TrialData
) -> tuple[list[TestedRun], list[tuple[str, int, int]]]:
    seen: list[tuple[str, int, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparation, "open_inputs", lambda spec, device: small_data)
        return outcome(program, runs, progress=lambda *step: seen.append(step)), seen


Found = tuple[list[TestedRun], list[tuple[str, int, int]]]


def test_complete_runs_are_measured_in_their_order(found: Found, runs: list[TrainedRun], small_data: TrialData) -> None:
    done, steps = found
    assert [(run.arm, run.repeat, run.key) for run in done] == [(run.arm, run.repeat, run.key) for run in runs[:-1]]
    assert steps == [("test speakers", number, 4) for number in range(1, 5)]
    table = small_data.speech.table
    test = set(table["speaker"][table["split"] == "test"])
    for run in done:
        for evaluation in (run.neutral, run.given, run.raw):
            assert set(evaluation.speakers.predicted) == test
            f1 = evaluation.accent_f1
            assert f1.p is not None and f1.low is not None and f1.value is not None and evaluation.text_drop.value is not None
        assert run.neutral != run.raw != run.given
        assert bool(run.wrong) == (run.arm == "winner")
    assert paired_difference(done[0].neutral, done[2].neutral, "accent_f1").value is not None


def test_without_lora_the_loss_is_the_base_models(found: Found) -> None:
    winner, _, bare, _ = found[0]
    assert bare.loss == bare.base_loss == winner.base_loss != winner.loss


def test_what_is_measured_is_the_trial_that_was_trained(program: SpeechProgram, runs: list[TrainedRun]) -> None:
    for run in runs[:-1]:
        spec = resolve(program.experiment, {**{arm.name: arm for arm in ARMS}[run.arm].params, "training.repeat": run.repeat})
        with final._restored(spec, program.data, program.memo, run.key, 2) as trial:
            again = measure(spec, program.data, trial)
        assert again == {name: run.reports[-1][name] for name in again}
    assert not any(parameter.requires_grad for parameter in program.data.backbone.model.parameters())


def test_a_repeated_call_reads_its_records(
    program: SpeechProgram, runs: list[TrainedRun], found: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "open_inputs", lambda *given: pytest.fail("nothing is to be computed"))
    assert outcome(program, runs) == found[0]


@pytest.mark.parametrize("harm", ["removed", "edited"])
def test_an_interrupted_call_computes_the_rest_to_the_same_bits(
    program: SpeechProgram, runs: list[TrainedRun], found: Found, harm: str
) -> None:
    path = program.memo.root / "paper" / "tested" / f"{runs[1].key}.json"
    whole = path.read_bytes()
    if harm == "removed":
        path.unlink()
    else:
        path.write_bytes(whole.replace(b'"loss": ', b'"loss": 1'))
    steps: list[tuple[str, int, int]] = []
    assert outcome(program, runs, progress=lambda *step: steps.append(step)) == found[0]
    assert steps == [("test speakers", 1, 1)] and path.read_bytes() == whole


def test_other_permutations_are_another_question(program: SpeechProgram, runs: list[TrainedRun], found: Found) -> None:
    path = program.memo.root / "paper" / "tested" / f"{runs[2].key}.json"
    whole = path.read_bytes()
    other = resolve(program.experiment, {"paper.permutations": 199})
    [run] = final.test_runs(other, program.memo.root, [runs[2]], ARMS)
    assert run.neutral.accent_f1.value == found[0][2].neutral.accent_f1.value
    assert run.neutral.accent_f1.chance != found[0][2].neutral.accent_f1.chance
    path.write_bytes(whole)


@pytest.mark.parametrize("harm", ["missing", "damaged", "of the epoch before"])
def test_a_lost_checkpoint_is_trained_again_by_the_same_command(
    program: SpeechProgram, runs: list[TrainedRun], found: Found, harm: str
) -> None:
    run, memo = runs[0], program.memo
    record, last = memo.root / "paper" / "tested" / f"{run.key}.json", memo.checkpoint(run.key, 2)
    record.unlink()
    if harm == "damaged":
        (last / "heads.safetensors").write_bytes(b"")
    else:
        shutil.rmtree(last)
    if harm == "of the epoch before":
        shutil.copytree(memo.checkpoint(run.key, 1), last)
    with pytest.raises(DataError, match="the test figures need this checkpoint") as lost:
        outcome(program, runs)
    assert lost.value.where == str(last) and lost.value.fix is not None
    assert "the same command again: it trains epoch 2" in lost.value.fix
    assert len(memo.reports(run.key)) == 1 and not record.exists()
    assert trained(program, ARMS[0], 1) == run
    assert outcome(program, runs) == found[0]


def test_wrong_accents_are_set_on_the_table_of_the_run(
    program: SpeechProgram, runs: list[TrainedRun], small_data: TrialData
) -> None:
    """A table of zeros is A = ∅: every turn hears what neutral z is heard as."""
    spec = resolve(program.experiment, {**ARMS[0].params, "training.repeat": 1})
    with final._restored(spec, small_data, program.memo, runs[0].key, 2) as trial:
        set_ = final._turns(spec, small_data, trial)
        trial.heads.table.weight.data.zero_()
        none = final._turns(spec, small_data, trial)
    names = set(small_data.speech.gate_accents)
    for before, after in zip(set_, none, strict=True):
        assert before.set == after.set and {old != new for old, new in zip(before.own, before.set, strict=True)} == {True}
        assert not np.allclose(before.z, after.z)
    assert np.array_equal(none[0].z, none[1].z) and not np.allclose(set_[0].z, set_[1].z)
    assert set(set_[0].own) == set(set_[0].set) == names


def test_the_own_voice_is_given_in_the_place_of_the_mean(
    program: SpeechProgram, runs: list[TrainedRun], small_data: TrialData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tiny random model hardly hears S: figures may agree, z does not."""
    seen: list[np.ndarray] = []

    def spy(z: np.ndarray, *rest: Any) -> Evaluation:
        seen.append(z)
        return evaluate(z, *rest)

    monkeypatch.setattr(final, "evaluate", spy)
    spec = resolve(program.experiment, {**ARMS[0].params, "training.repeat": 1})
    with final._restored(spec, small_data, program.memo, runs[0].key, 2) as trial:
        final._measured(spec, small_data, trial, 99, False)
        voices, table = final._voices(spec, small_data), small_data.speech.table
        given = represent(spec, small_data, trial.heads, splits=("train", "test"), scored=None, given=Given(voices=voices))
    assert given.z is not None and np.array_equal(seen[1], given.z)
    assert not np.isclose(seen[0], seen[1], rtol=1e-6).all(axis=1).any()
    heard = np.flatnonzero(voices >= 0)
    assert np.array_equal(heard, given.rows) and (voices[heard] != heard).all()
    assert table["speaker"].iloc[voices[heard]].tolist() == table["speaker"].iloc[heard].tolist()


def test_arms_of_the_same_configuration_share_a_record(program: SpeechProgram, runs: list[TrainedRun], found: Found) -> None:
    twin = replace(runs[0], arm="twin")
    arms = (*ARMS, Arm("twin", "ablation", ARMS[0].params, "the same"))
    both = final.test_runs(program.experiment, program.memo.root, [runs[0], twin], arms, wrong=("winner",))
    assert both[0] == found[0][0] and both[1] == replace(both[0], arm="twin", wrong={})
