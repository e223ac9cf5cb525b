"""`python -m tune_accent.search`: bad input, data that cannot be used, and what is answered before anything runs."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

from tests.data.small_corpora import sine, utterance
from tests.entries.command import CONFIG, REPOSITORY, SPACE, environment, refused, run, write_search
from tests.warm import Warm
from tune_accent.data.manifest import Utterance, write_manifest
from tune_accent.search import folder_name

SEARCH = "tune_accent.search"


def with_line(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1
    return text.replace(old, new)


def lr(spec: str) -> str:
    return with_line(SPACE, "{distribution: log_uniform_values, min: 0.001, max: 0.02}", spec)


BAD_SPACES = {
    "min above max": (lr("{min: 0.1, max: 0.01}"), ("space.yaml:8", "parameters.lr")),
    "no values": (lr("{values: []}"), ("space.yaml:8", "parameters.lr.values")),
    "NaN bound": (lr("{min: .nan, max: 0.1}"), ("space.yaml:8", "parameters.lr.min")),
    "log_uniform in exponents": (lr("{distribution: log_uniform, min: -7, max: -3}"), ("space.yaml:8", "log_uniform_values")),
    "lr of zero on a log scale": (
        lr("{distribution: log_uniform_values, min: 0, max: 0.1}"),
        ("space.yaml:8", "parameters.lr.min"),
    ),
    "run_cap 0": (with_line(SPACE, "run_cap: 5", "run_cap: 0"), ("space.yaml:3", "run_cap")),
    "unknown key": (with_line(SPACE, "run_cap: 5", "run_caps: 5"), ("space.yaml:3", "run_cap", "did you mean")),
    "unknown parameter": (
        with_line(SPACE, "lora_rank:", "lora_rang:"),
        ("space.yaml:7", "lora_rang", "did you mean `lora_rank`"),
    ),
    "missing config file": (with_line(SPACE, "small.yaml", "smal.yaml"), ("space.yaml:6", "smal.yaml", "small.yaml")),
    "tag": (with_line(SPACE, "run_cap: 5", "run_cap: !!python/object:os.system 5"), ("space.yaml:3",)),
    "alias": (with_line(SPACE, "[2, 4]", "&a [2, 4]") + "  training.batch_size: {values: *a}\n", ("space.yaml",)),
    "duplicate key": (SPACE + "  lora_rank: {values: [8]}\n", ("space.yaml:10", "lora_rank")),
    "binary file": ("\x00\x01\x02", ("space.yaml", "not a text file")),
    "empty file": ("", ("space.yaml", "empty")),
}
BAD_CONFIGS = {
    "unknown key": (with_line(CONFIG, "epochs: 3", "epoch: 3"), ("small.yaml:11", "training.epoch", "did you mean `epochs`")),
    "wrong type": (with_line(CONFIG, "epochs: 3", "epochs: three"), ("small.yaml:11", "training.epochs")),
    "out of range": (with_line(CONFIG, "seed: 5", "seed: -5"), ("small.yaml:2", "seed")),
    "NaN": (with_line(CONFIG, "epochs: 3", "epochs: 3\n  lr: .nan"), ("small.yaml:12", "training.lr")),
    "missing section": (CONFIG[: CONFIG.index("data:")], ("small.yaml", "data")),
    "not YAML": ("a: [", ("small.yaml",)),
}


@pytest.mark.parametrize("case", BAD_SPACES)
def test_a_bad_space_is_refused_with_file_line_and_key(tmp_path: Path, warm: Warm, case: str) -> None:
    space, words = BAD_SPACES[case]
    write_search(tmp_path, space=space)
    refused(warm.run(tmp_path, SEARCH, "space.yaml"), *words)
    assert {path.name for path in tmp_path.iterdir()} == {"space.yaml", "small.yaml"}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_a_bad_config_is_refused_with_file_line_and_key(tmp_path: Path, warm: Warm, case: str) -> None:
    config, words = BAD_CONFIGS[case]
    write_search(tmp_path, config)
    refused(warm.run(tmp_path, SEARCH, "space.yaml"), *words)
    assert {path.name for path in tmp_path.iterdir()} == {"space.yaml", "small.yaml"}


def test_every_error_of_both_files_is_shown_at_once(tmp_path: Path, warm: Warm) -> None:
    config = with_line(with_line(CONFIG, "epochs: 3", "epochs: 0"), "batch_size: 12", "batch: 12")
    write_search(tmp_path, config, with_line(with_line(SPACE, "run_cap: 5", "run_cap: 0"), "[2, 4]", "[]"))
    message = refused(warm.run(tmp_path, SEARCH, "space.yaml"))
    for place in (
        "space.yaml:3: run_cap",
        "space.yaml:7: parameters.lora_rank",
        "small.yaml:11: training.epochs",
        "small.yaml:12: training.batch",
    ):
        assert place in message


BAD_ARGUMENTS = [
    (("nowhere.yaml",), ("nowhere.yaml", "not found", "small.yaml")),
    (("space.yaml", "--config", "nowhere.yaml"), ("nowhere.yaml", "not found")),
    (("space.yaml", "--trials", "0"), ("--trials", "at least 1")),
    (("space.yaml", "--max-hours", "0"), ("--max-hours", "above 0")),
    (("space.yaml", "--max-hours", "nan"), ("--max-hours", "above 0")),
    (("space.yaml", "--name", "../elsewhere"), ("--name", "cannot name a results folder")),
]


@pytest.mark.parametrize(("arguments", "words"), BAD_ARGUMENTS, ids=lambda part: " ".join(part))
def test_bad_arguments_are_refused(tmp_path: Path, warm: Warm, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    refused(warm.run(write_search(tmp_path), SEARCH, *arguments), *words)
    assert {path.name for path in tmp_path.iterdir()} == {"space.yaml", "small.yaml"}


def test_a_search_without_a_number_of_trials_is_refused_unless_it_is_a_grid(tmp_path: Path) -> None:
    space = with_line(SPACE, "run_cap: 5\n", "")
    refused(run(write_search(tmp_path, space=space), SEARCH, "space.yaml"), "how many trials", "--trials 16")
    write_search(tmp_path, space=with_line(lr_values(space), "method: random", "method: grid"))
    assert "8 trials of" in run(tmp_path, SEARCH, "space.yaml", "--validate").stdout


def lr_values(space: str) -> str:
    return with_line(space, "{distribution: log_uniform_values, min: 0.001, max: 0.02}", "{values: [0.001, 0.01]}")


@pytest.mark.parametrize("arguments", [("--help",), ("space.yaml", "--validate")], ids=lambda arguments: arguments[-1])
@pytest.mark.parametrize("module", [SEARCH, "tune_accent"])
def test_help_and_validate_import_nothing_heavy(tmp_path: Path, module: str, arguments: tuple[str, ...]) -> None:
    words = arguments if module == SEARCH else ("search", *arguments)
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['x', *{words!r}]\n"
        f"try:\n    runpy.run_module({module!r}, run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "heavy = ('torch', 'ray', 'optuna', 'pandas', 'sklearn', 'scipy', 'transformers', 'peft', 'qwen_tts', 'wandb', 'rich', 'tensorboardX')\n"
        "sys.stderr.write(repr([name for name in heavy if name in sys.modules]))\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=write_search(tmp_path), env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stderr == "[]", done.stderr
    assert (
        "--accept-environment" in done.stdout
        or "5 trials of lora_rank, lr, leakage_weight (random), 3 epochs at most" in done.stdout
    )


def test_dry_run_tells_and_writes_nothing(tmp_path: Path) -> None:
    done = run(write_search(tmp_path), SEARCH, "space.yaml", "--dry-run", "--trials", "7")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert "seed: 5" in done.stdout and "trial 3: rank" in done.stdout and "# epochs: 13 to 21 (7 trials of 3" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"space.yaml", "small.yaml"}


def test_the_shipped_search_is_fine() -> None:
    done = run(REPOSITORY, SEARCH, "search_spaces/lora.yaml", "--validate")
    assert done.returncode == 0 and done.stderr == "" and "16 trials of lora_rank" in done.stdout


def still(text: str) -> str:
    """What a command says, without what is free on the machine at that moment."""
    return re.sub(r"[\d.]+ [KMGT]iB (free|of main memory)", r"\1", text)


@pytest.mark.parametrize("arguments", [("--help",), ("space.yaml", "--dry-run"), ("nowhere.yaml",), ("--nothing",)], ids=" ".join)
def test_a_warm_command_says_and_ends_as_a_real_one(tmp_path: Path, warm: Warm, arguments: tuple[str, ...]) -> None:
    real, forked = run(write_search(tmp_path), SEARCH, *arguments), warm.run(tmp_path, SEARCH, *arguments)
    assert (forked.returncode, still(forked.stdout), forked.stderr) == (real.returncode, still(real.stdout), real.stderr)


def test_a_name_can_be_a_folder() -> None:
    assert folder_name("lora_2.old-1") == "lora_2.old-1"


# -- data that cannot be used ----------------------------------------------------------------------------------------------------------

PREPARED = with_line(CONFIG, "{kind: demo, preset: EN3, speakers: 8, texts: 6}", "{kind: prepared}")


def corpus(folder: Path, speakers: dict[str, int]) -> list[Utterance]:
    """A corpus of tones with a manifest: accent → speakers, who all read three sentences."""
    rows = []
    for accent, count in speakers.items():
        for number in range(count):
            for text in range(3):
                row = replace(utterance(f"{accent}{number}", accent, text, f"t{text}", gender="MF"[number % 2]), duration_s=1.0)
                path = folder / row.audio_path
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, sine(1.0, 200.0 + 40 * number + 10 * text), 24_000)
                rows.append(row)
    write_manifest(folder, rows)
    return rows


@pytest.fixture
def prepared_search(tmp_path: Path) -> Iterator[Path]:
    """A search over `data/small`; afterwards: no results, and no half-made cache."""
    yield write_search(tmp_path, PREPARED)
    assert not (tmp_path / "ray_results").exists()
    assert not list(tmp_path.rglob("*.tmp")) and not list(tmp_path.glob("data/small/prepared/record-*"))


@pytest.mark.slow
def test_a_data_path_that_is_not_there(prepared_search: Path, warm: Warm) -> None:
    refused(warm.run(prepared_search, SEARCH, "space.yaml"), "data.root: data/small", "not there", "tune_accent.prepare")
    assert not (prepared_search / "data").exists()


@pytest.mark.slow
def test_an_accent_with_one_speaker(prepared_search: Path, warm: Warm) -> None:
    corpus(prepared_search / "data" / "small", {"north": 4, "south": 1})
    refused(warm.run(prepared_search, SEARCH, "space.yaml"), "south", "1")


@pytest.mark.slow
def test_a_corrupt_wav(prepared_search: Path, warm: Warm) -> None:
    rows = corpus(prepared_search / "data" / "small", {"north": 4, "south": 4})
    path = prepared_search / "data" / "small" / rows[0].audio_path
    path.write_bytes(b"RIFF\x00\x00\x00\x00 not audio")
    refused(warm.run(prepared_search, SEARCH, "space.yaml"), f"data/small/{rows[0].audio_path}", "cannot be decoded")


@pytest.mark.slow
def test_a_manifest_path_that_leaves_its_folder(prepared_search: Path, warm: Warm) -> None:
    root = prepared_search / "data" / "small"
    corpus(root, {"north": 4, "south": 4})
    lines = (root / "manifest.jsonl").read_text().splitlines()
    lines[4] = json.dumps({**json.loads(lines[4]), "audio_path": "../../secret.wav"})
    (root / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    refused(warm.run(prepared_search, SEARCH, "space.yaml"), "manifest.jsonl:5", "audio_path", "'../../secret.wav'", "`..`")


@pytest.mark.skipif(importlib.util.find_spec("espeakng_loader") is None, reason="the demo extra")
@pytest.mark.slow
def test_ctrl_c_while_the_data_are_made_is_quiet_and_the_next_call_goes_on(tmp_path: Path, warm: Warm) -> None:
    process, deadline = warm.start(write_search(tmp_path), SEARCH, "space.yaml"), time.monotonic() + 60
    while len(list(tmp_path.glob("data/small/audio/*/*.wav"))) < 5:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it
    out, err = process.communicate(timeout=60)
    assert process.poll() == 130 and out == "" and "Traceback" not in err, err
    assert not (tmp_path / "ray_results").exists() and not (tmp_path / "data" / "small" / "manifest.jsonl").exists()
