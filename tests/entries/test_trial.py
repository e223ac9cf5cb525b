"""`python -m tune_accent.trial`: the one program that both engines run, on the small real demo; and every command under one name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from tests.entries.command import refused, run, write_search
from tests.warm import Warm
from tune_accent.__main__ import app
from tune_accent.base.errors import UserError
from tune_accent.config.load import dump_experiment, resolve
from tune_accent.config.schema import Experiment
from tune_accent.trial import parameters

if TYPE_CHECKING:
    from tune_accent.training.inputs import TrialData

TRIAL = "tune_accent.trial"


def test_parameters_are_read_as_the_config_reads_them() -> None:
    given = [
        "--lora_rank=8",
        "--lr=1e-3",
        "--model.language=english",
        "--training.patience=null",
        "--leakage_weight=0",
    ]
    assert parameters(given) == {
        "lora_rank": 8,
        "lr": 1e-3,
        "model.language": "english",
        "training.patience": None,
        "leakage_weight": 0,
    }
    assert parameters([]) == {}


@pytest.mark.parametrize("arguments", [["--lr"], ["--lr", "0.1"], ["lr=0.1"], ["--=3"], ["-lr=3"]], ids=" ".join)
def test_what_is_no_parameter_is_refused(arguments: list[str]) -> None:
    with pytest.raises(UserError, match="cannot read the argument") as mistake:
        parameters(arguments)
    assert mistake.value.fix is not None and "--NAME=VALUE" in mistake.value.fix


def test_a_parameter_is_given_once() -> None:
    with pytest.raises(UserError, match="--lr is given twice"):
        parameters(["--lr=0.1", "--lr=0.2"])


BAD = [
    (("--lora_rang=8",), ("command line", "lora_rang", "did you mean `lora_rank`")),
    (("--lora_rank=0", "--lr=fast"), ("lora_rank", "lr")),
    (("--model.layer=9",), ("layer must be at most tiny.layers (2)",)),
    (("--lora_rank",), ("cannot read the argument '--lora_rank'",)),
    (("--config=nowhere.yaml",), ("nowhere.yaml", "not found")),
]


@pytest.mark.parametrize(("arguments", "words"), BAD, ids=lambda part: " ".join(part))
def test_bad_input_is_one_message(tmp_path: Path, warm: Warm, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    write_search(tmp_path)
    first = () if any(argument.startswith("--config") for argument in arguments) else ("--config=small.yaml",)
    refused(warm.run(tmp_path, TRIAL, *first, *arguments), *words)
    assert {path.name for path in tmp_path.iterdir()} == {"space.yaml", "small.yaml"}


def test_every_command_has_one_name(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["--help"])
    assert shown.exit_code == 0 and "search" in shown.output and "trial" in shown.output
    assert CliRunner().invoke(app, ["nothing"]).exit_code == 2
    refused(run(write_search(tmp_path), "tune_accent", "trial", "--config=small.yaml", "--lora_rank=0"), "lora_rank")
    refused(run(tmp_path, "tune_accent", "search", "space.yaml", "--trials", "0"), "--trials")


SHORT = ("--config=e.yaml", "--lora_rank=2", "--lr=0.01", "--leakage_weight=0", "--training.steps_per_epoch=2")


def epochs(text: str) -> list[dict[str, Any]]:
    """The lines of a run, without what a clock or the machine says."""
    timed = {"seconds", "peak_mb", "allocated_mb"}
    lines = [json.loads(line) for line in text.splitlines()]
    assert all(timed <= line.keys() for line in lines)
    return [{name: value for name, value in line.items() if name not in timed} for line in lines]


@pytest.mark.slow
def test_a_trial_prints_a_line_per_epoch_and_continues_from_its_checkpoints(
    tmp_path: Path, small_spec: Experiment, small_data: TrialData, warm: Warm
) -> None:
    (tmp_path / "e.yaml").write_text(dump_experiment(resolve(small_spec, {"training.epochs": 2})))
    kept = run(tmp_path, TRIAL, *SHORT, "--out=kept", "--checkpoints.keep=null")
    assert kept.returncode == 0, kept.stderr
    lines = epochs(kept.stdout)
    assert [line["epoch"] for line in lines] == [1, 2]
    assert all({"accent_f1", "speaker_leakage", "val_loss", "score"} <= line.keys() for line in lines)
    names = [f"small_epoch{line['epoch']}_loss{line['val_loss']:.4f}" for line in lines]
    assert sorted(path.name for path in (tmp_path / "kept").iterdir() if not path.name.startswith(".")) == sorted(
        ["best", "latest", "run.json", *names]
    )
    best = max((0, 1), key=lambda place: (lines[place]["score"], -place))
    assert (str((tmp_path / "kept" / "latest").readlink()), str((tmp_path / "kept" / "best").readlink())) == (
        names[1],
        names[best],
    )
    assert json.loads((tmp_path / "kept" / "latest" / "adapter" / "adapter_config.json").read_text())["r"] == 2

    finished = warm.run(tmp_path, TRIAL, *SHORT, "--out=kept")
    assert (
        finished.returncode == 0
        and not finished.stdout
        and f"kept holds a finished run: latest is kept/{names[1]}" in finished.stderr
    )
    other = warm.run(tmp_path, TRIAL, *SHORT, "--out=kept", "--objective.z_dim=8")
    refused(other, "checkpoints of another run", "objective.z_dim: 32 → 8", "--out NEW")
    whole = (tmp_path / "kept" / "latest" / "heads.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "kept" / names[1])
    continued = warm.run(tmp_path, TRIAL, "--out=kept", *reversed(SHORT))
    assert continued.returncode == 0 and epochs(continued.stdout) == lines[1:]
    assert (tmp_path / "kept" / "latest" / "heads.safetensors").read_bytes() == whole


@pytest.mark.slow
def test_a_trial_that_diverges_says_so(tmp_path: Path, small_spec: Experiment, small_data: TrialData, warm: Warm) -> None:
    (tmp_path / "e.yaml").write_text(dump_experiment(small_spec))
    done = warm.run(tmp_path, TRIAL, "--config=e.yaml", "--lr=1e30", "--training.heads_lr=1e30")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "DIVERGED: " in done.stderr and "is not finite at step" in done.stderr
