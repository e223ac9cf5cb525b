"""A trained adapter leaves the search: it loads through PEFT and speaks, and the control experiment runs on it from end to end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
import torch
from peft import PeftModel

from tests.support import small_experiment
from tune_accent.base.checksums import check_folder
from tune_accent.base.errors import DataError, ModelError
from tune_accent.config.schema import Control, Experiment, Training
from tune_accent.data.manifest import read_manifest
from tune_accent.models.adapter_base import adapter_base, read_accents
from tune_accent.models.backbone import load_backbone
from tune_accent.models.forward import forward
from tune_accent.models.synthesis import open_speaker
from tune_accent.paper.accent_probe import fit_accent_probe
from tune_accent.paper.adapter import export_adapter
from tune_accent.paper.control import measure_control
from tune_accent.paper.control_plan import BASE, NONE, SET
from tune_accent.paper.hidden_control import hidden_control
from tune_accent.synthesize import main as synthesize
from tune_accent.training.checkpoint import load_checkpoint, save_checkpoint
from tune_accent.training.encode import represent
from tune_accent.training.protocol import protocol
from tune_accent.training.seeding import configure_torch
from tune_accent.training.trainer import train
from tune_accent.training.trial import build_trial, close_trial

if TYPE_CHECKING:
    from tune_accent.training.inputs import TrialData

CPU = torch.device("cpu")
CARD = "# A card\n\nWhat it is for.\n"


@pytest.fixture(scope="module")
def spec(small_root: Path) -> Experiment:
    made = small_experiment(small_root, epochs=1, lr=0.05)
    paper = made.paper.model_copy(update={"control": Control(texts=1, speakers=1, batch=2, max_seconds=0.6), "permutations": 99})
    return made.model_copy(update={"paper": paper})


@pytest.fixture(scope="module")
def checkpoint(spec: Experiment, small_data: TrialData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One epoch of training."""
    folder = tmp_path_factory.mktemp("trained") / "0001"
    for report in train(spec, small_data):
        save_checkpoint(folder, report.trial)
    return folder


@pytest.fixture(scope="module")
def root(spec: Experiment, small_data: TrialData, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with `paper/adapter`."""
    folder = tmp_path_factory.mktemp("results")
    export_adapter(checkpoint, adapter_base(spec, small_data.backbone.fingerprint), folder / "paper" / "adapter", CARD)
    return folder


def test_the_folder_is_whole(root: Path, spec: Experiment, small_data: TrialData, checkpoint: Path, tmp_path: Path) -> None:
    adapter = root / "paper" / "adapter"
    check_folder(adapter)
    assert {path.name for path in adapter.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "heads.safetensors",
        "base.json",
        "README.md",
        "checksums.json",
    }
    assert (adapter / "README.md").read_text() == CARD and read_accents(adapter) == small_data.accents
    export_adapter(checkpoint, adapter_base(spec, small_data.backbone.fingerprint), tmp_path / "again", CARD)
    assert (tmp_path / "again" / "checksums.json").read_bytes() == (adapter / "checksums.json").read_bytes()
    assert "/" not in (adapter / "adapter_config.json").read_text(), "no path of this machine"


def test_a_damaged_checkpoint_is_not_exported(root: Path, spec: Experiment, checkpoint: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    heads = copy / "heads.safetensors"
    heads.write_bytes(heads.read_bytes()[:-1] + b"\0\0")
    with pytest.raises(DataError, match="damaged"):
        export_adapter(copy, adapter_base(spec, "f"), root / "paper" / "adapter", "another card")
    assert (root / "paper" / "adapter" / "README.md").read_text() == CARD


def test_it_loads_through_peft_and_is_the_trained_model(
    root: Path, spec: Experiment, small_data: TrialData, checkpoint: Path
) -> None:
    rows = np.arange(4)
    inputs, voice = small_data.inputs(rows), small_data.voices(rows)
    trial = build_trial(spec, small_data)
    try:
        load_checkpoint(checkpoint, trial, CPU)
        trial.train(small_data, False)
        accent = trial.heads.table(torch.arange(4) % 3).detach()
        with torch.no_grad():
            trained = forward(small_data.backbone, inputs, speaker=voice, accent=accent, layer=2)
    finally:
        close_trial(trial)
    backbone = load_backbone(small_data.backbone.folder)
    with torch.no_grad():
        before = forward(backbone, inputs, speaker=voice, accent=accent, layer=2)
        PeftModel.from_pretrained(backbone.model, str(root / "paper" / "adapter")).eval()
        loaded = forward(backbone, inputs, speaker=voice, accent=accent, layer=2)
    assert torch.equal(loaded.hidden, trained.hidden) and torch.equal(loaded.loss_subtalker, trained.loss_subtalker)
    assert not torch.equal(before.hidden, trained.hidden)
    table = open_speaker(root / "paper" / "adapter", CPU).table
    assert torch.equal(table[torch.arange(4) % 3], accent) and bool(table.any())


def test_synthesize_speaks_with_it(root: Path, small_root: Path, small_data: TrialData, tmp_path: Path) -> None:
    wav = small_root / read_manifest(small_root).rows[0].audio_path
    said = {"text": ["The door is open."], "accent": ["en-us", "none"], "max_seconds": 0.6, "device": "cpu"}
    synthesize(root / "paper" / "adapter", wav, tmp_path / "out", **said)  # type: ignore[arg-type]
    files = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in files] == ["001_en-us.wav", "001_none.wav"]
    assert all(soundfile.info(path).frames > 0 for path in files)


@pytest.mark.slow
def test_the_control_experiment_runs_on_it(spec: Experiment, root: Path, small_data: TrialData) -> None:
    control = measure_control(spec, root / "paper" / "adapter", root, seed=1, device=CPU)
    again = measure_control(spec, root / "paper" / "adapter", root, seed=1, device=CPU)
    assert control == again and len(control.rows) == 3 * 5
    assert "noise" in control.note and "cut" in control.note
    assert all(-1 <= row["similarity"] <= 1 and row["heard"] in control.accents for row in control.rows)
    assert all(row["seconds"] <= 0.7 for row in control.rows)
    by = {(row["speaker"], row["setting"]): row["audio"] for row in control.rows if row["setting"] in (NONE, BASE)}
    assert any(by[name, NONE] != by[name, BASE] for name, _ in by), "LoRA makes a difference"
    assert any(row["audio"] != by[row["speaker"], NONE] for row in control.rows if row["setting"] == SET), "so does A"
    figure = control.figures["follows"]
    assert figure.value is not None and figure.chance == pytest.approx(1 / 3) and figure.n == 3


def test_an_adapter_of_other_accents_is_refused(spec: Experiment, root: Path, small_data: TrialData, tmp_path: Path) -> None:
    import json
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(root / "paper" / "adapter", tmp_path / "adapter")
    heads = tmp_path / "adapter" / "heads.safetensors"
    save_file(load_file(heads), heads, {"accents": json.dumps(["en-us", "en-029", "pt"])})
    (tmp_path / "adapter" / "checksums.json").unlink()
    with pytest.raises(ModelError, match="knows no accent 'en-gb-scotland'"):
        measure_control(spec, tmp_path / "adapter", tmp_path, seed=1, device=CPU)


def test_hidden_states_follow_no_accent_before_training(spec: Experiment, small_data: TrialData, tmp_path: Path) -> None:
    """The accent table is zero at step 0: swapping A changes nothing, and the figures are exactly those of a deaf model."""
    trial = build_trial(spec, small_data)
    save_checkpoint(tmp_path / "0000", trial)
    close_trial(trial)
    configure_torch(Training(deterministic=False))  # a process that has trained nothing yet
    figures = hidden_control(spec, small_data, tmp_path / "0000", seed=1)
    assert torch.are_deterministic_algorithms_enabled() and torch.backends.cudnn.deterministic
    assert len(figures) == 16
    for suffix in ("", "_given", "_h", "_h_given"):
        follows, other = figures[f"follows{suffix}"], figures[f"follows_other{suffix}"]
        assert follows.value == pytest.approx(1 / 3) and other.value == pytest.approx(other.chance)
        assert figures[f"own_kept{suffix}"].value == pytest.approx(figures[f"own_without{suffix}"].value)
        assert (
            follows.low is not None and follows.high is not None and follows.low <= 1 / 3 + 1e-9 and follows.high >= 1 / 3 - 1e-9
        )
    assert figures["own_without"].n == 6


def test_hidden_states_of_a_trained_run(spec: Experiment, small_data: TrialData, checkpoint: Path) -> None:
    """`own_without` is the recall of the same probe, and the backbone is left as it was."""
    fingerprint = [value.clone() for value in small_data.backbone.model.state_dict().values()]
    figures = hidden_control(spec, small_data, checkpoint, seed=1)
    left = list(small_data.backbone.model.state_dict().values())
    assert len(left) == len(fingerprint) and all(torch.equal(a, b) for a, b in zip(left, fingerprint, strict=True))
    trial = build_trial(spec, small_data)
    try:
        load_checkpoint(checkpoint, trial, CPU)
        trial.train(small_data, False)
        both = represent(spec, small_data, trial.heads, splits=("train", "test"), scored=None)
    finally:
        close_trial(trial)
    assert both.z is not None
    speech = small_data.speech
    how = protocol(spec, speech.gate_accents, speech.held_fold, score_split="test", intervals=False)
    recall = fit_accent_probe(both.z, speech.table.iloc[both.rows].reset_index(drop=True), how, 0).recall.value
    assert recall is not None and figures["own_without"].value == pytest.approx(recall, abs=0.1)
    moved = [figures[f"follows{suffix}"].value != pytest.approx(1 / 3) for suffix in ("", "_given", "_h", "_h_given")]
    assert any(moved), "after an epoch of training A is heard in the hidden states"
