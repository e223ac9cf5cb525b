"""What baselines, ablations and repeats mean in training: shuffled accents, no condition on accent, another training seed."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tune_accent.base.seeds import generator
from tune_accent.config.load import resolve
from tune_accent.config.schema import Experiment
from tune_accent.training import measure as measuring
from tune_accent.training import trainer
from tune_accent.training.loss import Labels
from tune_accent.training.preparation import record_path
from tune_accent.training.shuffled import as_trained, training_table
from tune_accent.training.trainer import train
from tune_accent.training.trial import build_trial, close_trial

if TYPE_CHECKING:
    from tune_accent.training.inputs import TrialData

SHORT = {"training.epochs": 1, "training.steps_per_epoch": 2}
SHUFFLED = {"training.shuffled_accents": True}


def metrics(spec: Experiment, data: TrialData, **changes: Any) -> dict[str, Any]:
    """Of one short epoch."""
    run = train(resolve(spec, {**SHORT, **{name.replace("__", "."): value for name, value in changes.items()}}), data)
    found = dict(next(run).metrics)
    run.close()
    return found


def weights(spec: Experiment, data: TrialData) -> dict[str, Tensor]:
    """Of a trial at step 0."""
    trial = build_trial(spec, data)
    found = {name: value.clone() for name, value in trial.heads.z.state_dict().items()}
    found |= {name: value.detach().clone() for name, value in data.backbone.model.named_parameters() if "lora_A" in name}
    close_trial(trial)
    return found


def test_without_shuffling_nothing_is_touched(small_spec: Experiment, small_data: TrialData) -> None:
    assert as_trained(small_spec, small_data) is small_data
    assert training_table(small_data).equals(small_data.speech.table)


def test_whole_speakers_move_and_counts_stay(small_spec: Experiment, small_data: TrialData) -> None:
    shuffled = as_trained(resolve(small_spec, SHUFFLED), small_data)
    before, after = small_data.speech.table, training_table(shuffled)
    trained = (before["split"] == "train").to_numpy()
    assert (before["accent"] == after["accent"])[~trained].all(), "speakers who are measured only keep theirs"
    speakers = after[trained].groupby("speaker")["accent"].unique()
    assert (speakers.str.len() == 1).all()
    true = before[trained].groupby("speaker")["accent"].first()
    given = speakers.str[0]
    assert given.value_counts().to_dict() == true.value_counts().to_dict()
    assert 0 < (given != true).sum() < len(true) + 1
    assert before.drop(columns="accent").equals(after.drop(columns="accent"))
    assert np.array_equal(shuffled.accent_labels, [small_data.accents.index(name) for name in after["accent"]])


def test_shuffling_depends_on_the_training_seed_alone_and_can_be_repeated(small_spec: Experiment, small_data: TrialData) -> None:
    spec = resolve(small_spec, SHUFFLED)
    once = as_trained(spec, small_data)
    assert np.array_equal(as_trained(spec, once).accent_labels, once.accent_labels)
    other = as_trained(resolve(spec, {"lr": 0.1}), small_data)
    assert np.array_equal(other.accent_labels, once.accent_labels)
    assert not np.array_equal(as_trained(resolve(spec, {"training.repeat": 1}), small_data).accent_labels, once.accent_labels)
    assert once.base_losses is small_data.base_losses


def test_all_that_trains_has_the_shuffled_accents_and_all_that_measures_the_true_ones(
    small_spec: Experiment, small_data: TrialData, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = resolve(small_spec, {**SHORT, **SHUFFLED})
    labels = as_trained(spec, small_data).accent_labels
    given: list[Labels] = []
    tables: list[Any] = []
    _spy(monkeypatch, trainer, "accent_loss", 2, given)
    _spy(monkeypatch, measuring, "evaluate", 1, tables)
    run = train(spec, small_data)
    steps = list(run.sampler.epoch(generator(spec.training_seed, "batches", 1)))
    own = {accent: set(np.flatnonzero(row)) for accent, row in enumerate(run.trial.heads.adversary.own.numpy())}
    next(run)
    run.close()
    for step, batch in zip(steps, given, strict=True):
        assert batch.accent.tolist() == labels[step.null].tolist() == batch.group.tolist()
        speakers = {(int(a), int(s)) for a, s in zip(batch.accent, batch.speaker, strict=True)}
        assert [sum(a == accent for a, _ in speakers) for accent in range(3)] == [2, 2, 2], "∅-batches are filled by them too"
        assert all(speaker in own[accent] for accent, speaker in speakers)
    truth = small_data.speech.table.set_index("utt_id")["accent"]
    assert tables and all((table["accent"].to_numpy() == truth[table["utt_id"]].to_numpy()).all() for table in tables)


def _spy(monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, place: int, seen: list[Any]) -> None:
    """Keep argument number `place` of every call."""
    original = getattr(module, name)

    def call(*args: Any) -> Any:
        seen.append(args[place])
        return original(*args)

    monkeypatch.setattr(module, name, call)


def test_the_accent_table_is_given_the_shuffled_rows(small_spec: Experiment, small_data: TrialData) -> None:
    spec = resolve(small_spec, SHUFFLED)
    run = train(spec, small_data)
    rows = next(run.sampler.epoch(generator(0)))
    number = as_trained(spec, small_data).accent_labels[rows.accented]
    run.trial.heads.table.weight.data = torch.arange(3.0)[:, None].expand(-1, run.trial.heads.table.weight.shape[1]).clone()
    shuffled = trainer._accented(spec, run.data, run.trial, rows).hidden
    moved = trainer._forward(
        spec, run.data, rows.accented, run.data.voices(rows.voices), run.trial.heads.table(torch.tensor(number))
    )
    run.close()
    assert torch.equal(shuffled, moved.hidden)
    assert not np.array_equal(number, small_data.accent_labels[rows.accented])


def test_shuffled_accents_change_the_trained_weights(small_spec: Experiment, small_data: TrialData) -> None:
    true, shuffled = (metrics(small_spec, small_data, training__shuffled_accents=value) for value in (False, True))
    assert true["loss_accent"] != shuffled["loss_accent"] and true["base_val_loss"] == shuffled["base_val_loss"]


def test_the_unconditional_terms_take_all_speakers_for_one_group(small_spec: Experiment, small_data: TrialData) -> None:
    spec = resolve(small_spec, {"objective.conditional": False})
    run = train(spec, small_data)
    rows = next(run.sampler.epoch(generator(0)))
    labels = trainer._labels(spec, run.data, rows.null)
    adversary = run.trial.heads.adversary
    z = torch.randn(len(rows.null), spec.objective.z_dim, generator=torch.Generator().manual_seed(0))
    chance = adversary.loss(z, labels.speaker, labels.group)
    run.close()
    assert adversary.own.tolist() == [[True] * len(small_data.speakers)]
    assert not labels.group.any() and len(set(labels.accent.tolist())) == 3
    assert chance.item() == pytest.approx(1.0, abs=1e-6)
    conditional = metrics(small_spec, small_data)
    unconditional = metrics(small_spec, small_data, objective__conditional=False)
    assert unconditional["loss_alignment"] > conditional["loss_alignment"], (
        "accents lie apart, so speakers lie further from the grand mean"
    )


def test_a_repeat_is_another_seed_of_training_and_of_nothing_else(small_spec: Experiment, small_data: TrialData) -> None:
    first, again, other, bare = (metrics(small_spec, small_data, training__repeat=number) for number in (1, 1, 2, 0))
    assert first == again
    assert bare == metrics(small_spec, small_data)
    assert len({found["loss_null"] for found in (first, other, bare)}) == 3
    assert len({found["base_val_loss"] for found in (first, other, bare)}) == 1, "the same frames of the same base model"
    repeated = resolve(small_spec, {"training.repeat": 1})
    assert record_path(repeated) == record_path(small_spec), "the data are the same"
    weights_of = [weights(spec, small_data) for spec in (small_spec, repeated)]
    assert all(not torch.equal(weights_of[0][name], weights_of[1][name]) for name in weights_of[0] if "norm" not in name)


def test_losses_of_all_repeats_are_over_the_same_frames(small_spec: Experiment, small_data: TrialData) -> None:
    """Without LoRA the trunk is the base model whatever the seed, so the validation loss is the base loss, and computed afresh it is the same."""
    for repeat in (0, 1):
        small_data.base_losses.clear()
        found = metrics(small_spec, small_data, training__repeat=repeat, model__lora__enabled=False)
        assert found["val_loss"] == found["base_val_loss"]
        assert found["base_val_loss"] == metrics(small_spec, small_data)["base_val_loss"]


def test_no_other_file_of_training_uses_the_experiments_own_seed() -> None:
    """Data, codec and scored frames are the experiment's; everything else is the training seed's."""
    folder = Path(trainer.__file__).parent
    using = {path.name for path in folder.glob("*.py") if "spec.seed" in path.read_text(encoding="utf-8")}
    assert using == {"preparation.py", "encode.py", "measure.py"}
