"""W&B's sweeps and `python -m tune_accent.trial`: what `wandb sweep` sends, the command that the real agent builds, the run it gets, how it is stopped.

Offline; and with the real commands `wandb sweep` and `wandb agent`, online, on a server of our own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.entries.command import REPOSITORY, environment
from tests.wandb_server import WandbServer
from tests.wandb_state import ENTITY, KEY, PROJECT
from tune_accent.base.files import canonical_json
from tune_accent.config.load import dump_experiment, load_experiment, resolve
from tune_accent.config.schema import Experiment
from tune_accent.tracking.wandb_files import read_runs
from tune_accent.trial import parameters

if TYPE_CHECKING:
    from tune_accent.training.inputs import TrialData

SPACES = sorted((REPOSITORY / "search_spaces").glob("**/*.yaml"))
# The real agent, told by us what W&B's server would tell it: run, then (if asked) stop once a file is there. Prints the command and the exit code.
AGENT = """
import json, sys, time
from pathlib import Path
from wandb import wandb_agent
told = json.loads(sys.argv[1])
started = []
popen = wandb_agent.subprocess.Popen
def note(command, **how):
    started.append(command)
    return popen(command, **how)
wandb_agent.subprocess.Popen = note
agent = wandb_agent.Agent(None, None)
agent._sweep_command = told["command"]
answer = agent._process_command({"type": "run", "run_id": "r1", "program": told["program"], "args": told["args"]})
assert "exception" not in answer, answer
process = agent._run_processes["r1"]
if told["stop"]:
    while process.poll() is None and not list(Path().glob(told["stop"])):
        time.sleep(0.05)
    agent._process_command({"type": "stop", "run_id": "r1"})
print("\\n" + json.dumps({"command": started[0], "code": process.wait()}))
"""


def agent(folder: Path, command: list[str], args: dict[str, Any], stop: str = "") -> tuple[list[str], int, str]:
    """What the agent starts for a run with `args`, its exit code, and everything that was printed."""
    told = {
        "command": command,
        "program": "tune_accent/trial.py",
        "args": {name: {"value": value} for name, value in args.items()},
    }
    own = {"WANDB_SWEEP_ID": "s1", "WANDB_PROJECT": "p", "WANDB_MODE": "offline", "WANDB_API_KEY": KEY}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-c", AGENT, json.dumps({**told, "stop": stop})],
        cwd=folder,
        env={**environment(), **own, "PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    return answer["command"], answer["code"], done.stdout + done.stderr


def sweep_command(space: Path) -> list[str]:
    command: list[str] = yaml.safe_load(space.read_text())["command"]
    return command


@pytest.mark.parametrize("space", SPACES, ids=lambda path: path.name)
def test_what_an_agent_passes_is_what_the_trial_reads(space: Path, tmp_path: Path) -> None:
    """Values as `sweeps` makes them: exponents, booleans, null, and the raw value of `config`."""
    fixed = {name: spec["value"] for name, spec in yaml.safe_load(space.read_text())["parameters"].items() if "value" in spec}
    drawn: dict[str, Any] = {"lr": 1e-05, "leakage_weight": 0, "lora_rank": 8, "lora_alpha_ratio": 2.0}
    drawn |= {"model.lora.code_predictor": True, "training.deterministic": False, "training.patience": None}
    # `echo` in the place of python prints what it is given
    command = ["echo" if word == "python" else word for word in sweep_command(space)]
    started, code, printed = agent(tmp_path, command, {**fixed, **drawn})
    first = ["/usr/bin/env", "echo", "-m", "tune_accent.trial"]
    assert code == 0 and started[:4] == first and "--lr=1e-05" in printed and "--training.patience=None" in started
    config = [word.removeprefix("--config=") for word in started if word.startswith("--config=")]
    assert config == [fixed["config"]]
    given = parameters([word for word in started[4:] if not word.startswith("--config=")])
    assert given == {**{name: value for name, value in fixed.items() if name != "config"}, **drawn}
    spec = load_experiment(REPOSITORY / config[0], given).experiment
    assert (spec.training.lr, spec.training.patience, spec.training.deterministic) == (1e-05, None, False)
    assert spec.model.lora.code_predictor and spec.model.lora.scaled_alpha == 16


@pytest.mark.slow
def test_an_agent_s_trial_logs_to_the_sweep_s_run(tmp_path: Path, small_spec: Experiment, small_data: TrialData) -> None:
    (tmp_path / "e.yaml").write_text(dump_experiment(resolve(small_spec, {"training.epochs": 2})))
    given = {"config": "e.yaml", "lora_rank": 2, "lr": 1e-2, "leakage_weight": 0, "training.steps_per_epoch": 2}
    _, code, printed = agent(tmp_path, sweep_command(SPACES[0]), given)
    assert code == 0, printed
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith('{"epoch"')]
    (run,), faults = read_runs(tmp_path)
    assert not faults and (run.id, run.sweep, run.project, run.exit_code) == ("r1", "s1", "p", 0)
    assert {name: run.config[name] for name in given} == given
    assert run.config["experiment"]["training"]["lr"] == 1e-2 and run.summary["state"] == "COMPLETE"
    assert len(lines) == len(run.history) == 2
    compare_rows(lines, list(run.history))
    kept = tmp_path / "ray_results" / "sweep-s1" / "r1"
    assert (kept / "latest").resolve().name.startswith("small_epoch2") and (kept / "best").exists()
    assert KEY not in printed and not [
        path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()
    ]


@pytest.mark.slow
def test_a_trial_that_its_sweep_stops_keeps_its_checkpoint(tmp_path: Path, small_spec: Experiment, small_data: TrialData) -> None:
    (tmp_path / "e.yaml").write_text(dump_experiment(resolve(small_spec, {"training.epochs": 1000})))
    given = {"config": "e.yaml", "lora_rank": 2, "lr": 1e-2, "leakage_weight": 0, "training.steps_per_epoch": 2}
    _, code, printed = agent(tmp_path, sweep_command(SPACES[0]), given, stop="ray_results/sweep-s1/r1/latest")
    assert code == 0 and "stopped by the sweep; ray_results/sweep-s1/r1 has the checkpoints" in printed, printed
    (run,), faults = read_runs(tmp_path)
    assert not faults and run.exit_code == 0 and run.summary["state"] == "STOPPED"
    epochs = [json.loads(line)["epoch"] for line in printed.splitlines() if line.startswith('{"epoch"')]
    assert [row["epoch"] for row in run.history][: len(epochs)] == epochs and len(run.history) <= len(epochs) + 1
    latest = (tmp_path / "ray_results" / "sweep-s1" / "r1" / "latest").resolve()
    from tune_accent.base.checksums import check_folder

    check_folder(latest)


@pytest.mark.parametrize("space", SPACES, ids=lambda path: path.name)
def test_wandb_sweep_sends_our_file(space: Path, tmp_path: Path) -> None:
    """The real command; what it sends has the same keys, values and types."""
    with WandbServer() as server:
        done = server.run(tmp_path, "sweep", "--project", PROJECT, str(space))
    assert done.returncode == 0 and not server.unknown, done.stderr
    ((name, sweep),) = server.sweeps.items()
    assert f"sweep with ID: {name}" in done.stderr and f"wandb agent {ENTITY}/{PROJECT}/{name}" in done.stderr
    sent, ours = yaml.safe_load(sweep.config), yaml.safe_load(space.read_text())
    assert sweep.project == PROJECT and canonical_json(sent) == canonical_json(ours)
    assert {"parameters", "method", "metric", "early_terminate", "command", "program", "run_cap"} <= sent.keys()


@pytest.mark.slow
def test_wandb_agent_trains_a_run_of_a_sweep_online(tmp_path: Path, small_spec: Experiment, small_data: TrialData) -> None:
    """The real commands: a sweep is made, an agent takes a run from a heartbeat, and the trial's epochs reach the server."""
    (tmp_path / "e.yaml").write_text(dump_experiment(resolve(small_spec, {"training.epochs": 2})))
    given = {"config": "e.yaml", "lora_rank": 2, "lr": 1e-2, "leakage_weight": 0, "training.steps_per_epoch": 2}
    with WandbServer() as server:
        assert server.run(tmp_path, "sweep", "--project", PROJECT, str(SPACES[0])).returncode == 0
        sweep = server.sweeps["sweep0"]
        sweep.commands = [[sweep.start("r1", **given)]]
        done = server.run(tmp_path, "agent", "--count", "1", f"{ENTITY}/{PROJECT}/sweep0")
    assert done.returncode == 0 and not server.unknown, done.stderr
    command = "/usr/bin/env python -m tune_accent.trial --config=e.yaml --lora_rank=2 --lr=0.01 --leakage_weight=0"
    assert f"About to run command: {command} --training.steps_per_epoch=2" in done.stderr
    assert [sweep for _, sweep in server.agents.values()] == ["sweep0"] and server.reported[0] == {}
    assert list(server.runs) == ["r1"], "the run of the agent, and no other"
    run = server.runs["r1"]
    assert (run.sweep, run.project, run.state, run.exit_code) == ("sweep0", PROJECT, "finished", 0)
    assert {name: run.config[name] for name in given} == given and run.config["experiment"]["training"]["lr"] == 1e-2
    printed = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"epoch"')]
    compare_rows(printed, run.rows())
    assert len(printed) == 2 and run.summary["state"] == "COMPLETE"
    assert (tmp_path / "ray_results" / "sweep-sweep0" / "r1" / "latest").exists()
    assert KEY not in done.stdout + done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def compare_rows(lines: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    """Assert that what a trial printed is what it logged; printed times are rounded."""
    timed = {"seconds", "peak_mb", "allocated_mb"}
    for line, row in zip(lines, rows, strict=True):
        assert {name: row[name] for name in line.keys() - timed} == {name: line[name] for name in line.keys() - timed}
        assert timed | {"feasible", "ended", "text_drop"} <= row.keys()
        assert canonical_json(json.loads(row["evaluation"])) == row["evaluation"]
