"""`python -m tune_accent.synthesize`: a folder as a search leaves it, texts, accents, and WAV files out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.entries.command import environment, refused, run
from tests.warm import Warm
from tune_accent.base.errors import UserError
from tune_accent.synthesize import chosen_accents, planned, said, wav_bytes

SYNTHESIZE = "tune_accent.synthesize"
ACCENTS = ("en-us", "nordestão")
TEXT = "A gravação do Zé já está no ar, não é?"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `best/` of a tiny model, and `ref.wav`."""
    import torch
    from safetensors.torch import save_file

    from tune_accent.base.checksums import write_checksums
    from tune_accent.base.files import write_json
    from tune_accent.config.schema import Lora, Tiny
    from tune_accent.models.adapter_base import AdapterBase
    from tune_accent.models.backbone import load_backbone
    from tune_accent.models.lora import attach, save_adapter
    from tune_accent.models.tiny import ensure_tiny

    folder, tiny = tmp_path_factory.mktemp("spoken"), Tiny(hidden=32, layers=2)
    backbone = load_backbone(ensure_tiny(folder / "data" / "prepared", tiny, 32))
    save_adapter(attach(backbone, Lora(rank=2), seed=0), folder / "best")
    table = torch.randn(len(ACCENTS), 32, generator=torch.Generator().manual_seed(0))
    save_file({"table.weight": table}, folder / "best" / "heads.safetensors", {"accents": json.dumps(ACCENTS)})
    base = AdapterBase(
        backbone="tiny", fingerprint=backbone.fingerprint, language=None, loudness_lufs=-23.0, tiny=tiny, codewords=32
    )
    write_json(folder / "best" / "base.json", base.model_dump(mode="json"))
    write_checksums(folder / "best")
    wave = 0.2 * np.random.default_rng(0).standard_normal(24_000)
    soundfile.write(folder / "ref.wav", wave, 24_000)
    (folder / "noise.wav").write_text("isto não é áudio")
    (folder / "texts.txt").write_bytes("\ufeffOlá!\n\n  A maçã caiu.  \n".encode())
    (folder / "latin.txt").write_bytes("não".encode("latin-1"))
    (folder / "blank.txt").write_text("\n \n")
    return folder


def command(out: str, *more: str, adapter: str = "best", wav: str = "ref.wav") -> list[str]:
    """The arguments of a short utterance."""
    fixed = ["--adapter", adapter, "--speaker-wav", wav, "--out", out, "--max-seconds", "0.8", "--device", "cpu"]
    return [*fixed, *more]


@pytest.mark.slow
def test_the_same_command_gives_the_same_bytes(place: Path, warm: Warm) -> None:
    arguments = command("a/x.wav", "--text", f"\n\n{TEXT}", "--accent", "nordestão", "--seed", "7")
    first = run(place, SYNTHESIZE, *arguments)
    assert first.returncode == 0, first.stderr
    assert "noise" in first.stderr and len(first.stderr.splitlines()) == 1
    assert first.stdout.startswith("a/x.wav: accent nordestão, ")
    data = (place / "a" / "x.wav").read_bytes()
    wave, rate = soundfile.read(place / "a" / "x.wav")
    frames = int(first.stdout.split(", ")[1].split()[0])
    assert rate == 24_000 and wave.shape == (1920 * frames,) and 2 <= frames <= 10
    refused(warm.run(place, SYNTHESIZE, *arguments), "a/x.wav", "there already", "--overwrite")
    again = warm.run(place, SYNTHESIZE, *arguments, "--overwrite")
    assert again.stdout == first.stdout and (place / "a" / "x.wav").read_bytes() == data
    assert [path.name for path in (place / "a").iterdir()] == ["x.wav"]


@pytest.mark.slow
def test_texts_and_accents_are_crossed(place: Path, warm: Warm) -> None:
    """And each file is the one that it would be alone."""
    many = warm.run(
        place, SYNTHESIZE, *command("all", "--text", TEXT, "--texts", "texts.txt", "--accent", "none", "--accent", "nordestão")
    )
    assert many.returncode == 0, many.stderr
    names = [f"{number:03d}_{accent}.wav" for number in (1, 2, 3) for accent in ("none", "nordestão")]
    assert sorted(path.name for path in (place / "all").iterdir()) == sorted(names)
    assert [line.split(": ")[0] for line in many.stdout.splitlines()] == [f"all/{name}" for name in names]
    contents = {name: (place / "all" / name).read_bytes() for name in names}
    assert len(set(contents.values())) == 6, "texts and accents matter"
    alone = warm.run(place, SYNTHESIZE, *command("one.wav", "--text", "A maçã caiu.", "--accent", "nordestão"))
    assert alone.returncode == 0 and (place / "one.wav").read_bytes() == contents["003_nordestão.wav"]


@pytest.mark.slow
def test_a_batch_and_greedy(place: Path, warm: Warm) -> None:
    arguments = ("--text", TEXT, "--text", "Olá!", "--accent", "en-us", "--greedy")
    for out, size in (("single", "1"), ("batch", "2")):
        done = warm.run(place, SYNTHESIZE, *command(out, *arguments, "--batch", size, "--scale", "0.5"))
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 2
    lengths = [[soundfile.info(path).frames for path in sorted((place / out).iterdir())] for out in ("single", "batch")]
    assert lengths[0] == lengths[1]


SAY = ("--text", TEXT, "--accent", "en-us")
BAD = {
    "unknown accent": (command("x.wav", "--text", TEXT, "--accent", "en-uk"), ("'en-uk'", "en-us, nordestão, none")),
    "no accent": (command("x.wav", "--text", TEXT), ("--accent", "en-us, nordestão, none")),
    "no adapter": (command("x.wav", *SAY, adapter="nowhere"), ("nowhere", "no such folder", "best/")),
    "a folder without accents": (command("x.wav", *SAY, adapter="data"), ("data", "carries no accents")),
    "another base": (command("x.wav", *SAY, "--base", "data"), ("data", "config.json")),
    "empty text": (command("x.wav", "--text", " \n ", "--accent", "en-us"), ("the text is empty",)),
    "no text": (command("x.wav", "--accent", "en-us"), ("nothing to say", "--texts")),
    "a blank file": (command("x.wav", "--accent", "en-us", "--texts", "blank.txt"), ("blank.txt", "nothing to say")),
    "not UTF-8": (command("x.wav", "--accent", "en-us", "--texts", "latin.txt"), ("latin.txt", "not UTF-8")),
    "no file": (command("x.wav", "--accent", "en-us", "--texts", "no.txt"), ("no.txt", "no such file")),
    "unreadable audio": (command("x.wav", *SAY, wav="noise.wav"), ("noise.wav", "cannot be decoded")),
    "no audio": (command("x.wav", *SAY, wav="no.wav"), ("no.wav", "not there")),
    "scale": (command("x.wav", *SAY, "--scale", "nan"), ("--scale", "finite")),
    "length": (command("x.wav", *SAY, "--max-seconds", "0"), ("--max-seconds", "above 0")),
    "device": (command("x.wav", *SAY, "--device", "tpu9"), ("--device", "'tpu9'", "cpu")),
}


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_one_message(place: Path, warm: Warm, name: str) -> None:
    arguments, words = BAD[name]
    refused(warm.run(place, SYNTHESIZE, *arguments), *words)
    assert not (place / "x.wav").exists()


def test_help_loads_no_model() -> None:
    code = "import sys; import tune_accent.synthesize; print([name for name in ('torch', 'numpy', 'safetensors') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert done.stdout.strip() == "[]"


def test_accents_are_chosen_by_name() -> None:
    assert chosen_accents(["none", "en-us"], ACCENTS, "best") == [None, "en-us"]
    assert chosen_accents(["none"], ["none", "a"], "best") == ["none"], "a name of the table comes first"
    with pytest.raises(UserError, match="given twice"):
        chosen_accents(["en-us", "en-us"], ACCENTS, "best")


def test_texts_lose_the_white_space_around_them(place: Path) -> None:
    assert said(["\n\nOlá, São João! "], place / "texts.txt") == ["Olá, São João!", "Olá!", "A maçã caiu."]


def test_files_of_several_utterances(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    assert [item.path for item in planned(["a"], [None], tmp_path / "there", False)] == [tmp_path / "there" / "001_none.wav"]
    names = [item.path.name for item in planned(["a", "b"], ["x/y", "x%2fy"], tmp_path / "new", False)]
    assert names == ["001_x%2fy.wav", "001_x%252fy.wav", "002_x%2fy.wav", "002_x%252fy.wav"]
    with pytest.raises(UserError, match="4 utterances go into a folder"):
        planned(["a", "b"], ["x", "y"], tmp_path / "x.wav", False)
    with pytest.raises(UserError, match=r"must end in \.wav"):
        planned(["a"], ["x"], tmp_path / "x", False)


def test_waves_are_clipped_and_not_wrapped() -> None:
    import io

    data, rate = soundfile.read(io.BytesIO(wav_bytes(np.array([2.0, -2.0, 0.5], dtype=np.float32))), dtype="int16")
    assert rate == 24_000 and data.tolist() == [32767, -32768, 16384]
