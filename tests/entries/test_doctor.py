"""`python -m tune_accent.doctor`: mistakes, layer names, the whole of it on a small real demo, and what is left of it without weights."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner, Result

from tests.entries.command import CONFIG, environment, refused, write_search
from tune_accent import doctor
from tune_accent.checking import data_set
from tune_accent.config.schema import Tiny
from tune_accent.models.tiny import ensure_tiny

DOCTOR = "tune_accent.doctor"
needs_demo = pytest.mark.skipif(importlib.util.find_spec("espeakng_loader") is None, reason="the demo extra")
WITHOUT = CONFIG.replace("model:\n", "model:\n  backbone: models/Qwen3-TTS-12Hz-0.6B-Base\n").replace(
    "{kind: demo, preset: EN3, speakers: 8, texts: 6}", "{kind: prepared}"
)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", DOCTOR, *arguments]
    own = {**environment(), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, timeout=300, check=False)


def statuses(printed: str) -> dict[str, str]:
    """Name → status of every finding (the last one of a name)."""
    lines = [
        line
        for line in printed.splitlines()
        if line[:1].strip() and line[17:25].strip() in ("ok", "warning", "failed", "skipped")
    ]
    return {line[:16].strip(): line[17:25].strip() for line in lines}


def test_help_needs_nothing_heavy() -> None:
    code = f"import sys\nimport {DOCTOR}\nprint([name for name in ('torch', 'rich', 'pandas', 'sklearn') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert done.stdout.strip() in ("[]", "['rich']"), "typer may bring rich"


def test_a_mistake_is_one_message(tmp_path: Path) -> None:
    write_search(tmp_path, CONFIG + "trainnig: {}\n")
    refused(run(tmp_path, "nowhere.yaml"), "nowhere.yaml", "not found")
    refused(run(tmp_path, "small.yaml"), "trainnig", "did you mean")
    assert not (tmp_path / "ray_results").exists()


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """The command in this process: the import of torch is what takes long. Offline, without a GPU."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    yield lambda *arguments: CliRunner().invoke(doctor.app, arguments)
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(("config", "layers"), [(CONFIG, 2), (WITHOUT, 28)], ids=["tiny", "published"])
def test_the_layers_of_an_audit_are_listed(tmp_path: Path, command: Callable[..., Result], config: str, layers: int) -> None:
    write_search(tmp_path, config)
    done = command("small.yaml", "--list-layers")
    names = [f"decoder_block_{number:02d}" for number in range(layers)]
    assert done.exit_code == 0 and done.stdout.split() == ["text_encoder_out", *names, "pre_vocoder"]


def test_without_weights_and_data_the_rest_is_still_checked(tmp_path: Path, command: Callable[..., Result]) -> None:
    write_search(tmp_path, WITHOUT)
    done = command("small.yaml")
    assert done.exit_code == 1 and done.stderr == ""
    found = statuses(done.stdout)
    assert {name for name, status in found.items() if status == "failed"} == {"data", "weights", "codec"}
    assert {name for name, status in found.items() if status == "ok"} >= {"locks", "a full trial", "a search"}
    assert found["memory"] == "warning" and "gpu 0.25 of a 24 GB card is 6.0 GiB: DOES NOT FIT" in done.stdout
    skipped = {name for name, status in found.items() if status == "skipped"}
    assert skipped == {"splits", "confounds", "tokenizer", "codes", "smoke run", "alignment"}
    for words in (
        "give the folder of a copy",
        "hf download Qwen/Qwen3-TTS-12Hz-0.6B-Base",
        "estimate from FLOPs",
        "Mend what failed",
    ):
        assert words in done.stdout


@needs_demo
@pytest.mark.slow
def test_a_machine_in_order(tmp_path: Path) -> None:
    """In a process of its own, as a person runs it."""
    write_search(tmp_path)
    done = run(tmp_path, "small.yaml")
    found = statuses(done.stdout)
    assert done.returncode == 0 and "failed" not in found.values() and len(found) == 20, done.stdout + done.stderr
    assert found["smoke run"] == "ok" and found["alignment"] == "skipped"
    assert "2 steps and an evaluation of" in done.stdout and "estimate from the two timed steps" in done.stdout
    assert "Next: python -m tune_accent.audit small.yaml" in done.stdout
    assert list((tmp_path / "ray_results").iterdir()) == []


@needs_demo
@pytest.mark.slow
def test_a_folder_of_untrained_weights_without_speaker_encoder_is_found_out(
    tmp_path: Path, command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tiny model as a checkpoint of its own, on a sample of the corpus: it trains, the alignment check and the speaker encoder fail."""
    monkeypatch.setattr(data_set, "WHOLE", 100)
    folder = ensure_tiny(tmp_path / "models", Tiny(hidden=32, layers=2), 32)
    kept = {name: value for name, value in load_file(folder / "model.safetensors").items() if "speaker_encoder" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    write_search(tmp_path, CONFIG.replace("model:\n", f"model:\n  backbone: {json.dumps(str(folder))}\n"))
    done = command("small.yaml")
    found = statuses(done.stdout)
    assert done.exit_code == 1, done.stdout + done.stderr
    assert {name for name, status in found.items() if status == "failed"} == {"speaker encoder", "codec", "alignment"}
    assert found["smoke run"] == "ok" and "(a sample)" in done.stdout and "do NOT agree" in done.stdout
    assert list((tmp_path / "data" / "small" / data_set.SAMPLE).iterdir())
