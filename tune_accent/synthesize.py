"""Speak with the adapter of a search.

python -m tune_accent.synthesize --adapter ray_results/lora/best --text "The door is open." --speaker-wav ref.wav --accent en-us --out x.wav
"""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tune_accent.base.entry import guarded
from tune_accent.base.errors import DataError, UserError, visible
from tune_accent.base.files import write_bytes
from tune_accent.base.storage import explained

if TYPE_CHECKING:
    import torch

    from tune_accent.data.audio import Wave
    from tune_accent.models.synthesis import Spoken

NULL = "none"  # A = ∅
LONGEST_FILE = 2**20  # bytes of a file of texts
LONGEST_S = 300  # the positions of the tiny model end before 5.5 min
NOISE = "note: the base is the tiny model of the demo, with random weights: it speaks no language, and what you hear is noise\n"
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Asked:
    """One utterance that was asked for, and its file; accent None: A = ∅."""

    text: str
    accent: str | None
    path: Path


@app.command()
def main(
    adapter: Annotated[Path, typer.Option(help="folder of the adapter, such as ray_results/lora/best")],
    speaker_wav: Annotated[Path, typer.Option(help="a few seconds of the voice to speak with")],
    out: Annotated[Path, typer.Option(help="WAV file; for several utterances a folder")],
    text: Annotated[list[str] | None, typer.Option(help="what to say; may be repeated")] = None,
    texts: Annotated[Path | None, typer.Option(help="UTF-8 file with a text per line")] = None,
    accent: Annotated[list[str] | None, typer.Option(help="an accent of the adapter, or none; may be repeated")] = None,
    scale: Annotated[float, typer.Option(help="factor on what LoRA adds; 0 switches it off, the accent stays set")] = 1.0,
    seed: Annotated[int, typer.Option(help="of the draws; equal seeds give equal files", min=0)] = 0,
    greedy: Annotated[bool, typer.Option("--greedy", help="take the most probable code instead of drawing")] = False,
    max_seconds: Annotated[float, typer.Option(help="cut an utterance that has not ended by then")] = 20.0,
    batch: Annotated[int, typer.Option(help="utterances spoken at once; the draws depend on it", min=1)] = 1,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; default: the first GPU, else the CPU")] = None,
    threads: Annotated[int, typer.Option(help="CPU threads", min=1)] = 1,
    base: Annotated[
        str | None, typer.Option(help="folder or Hub id of the adapter's base, where the recorded one is not here")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace files that are there")] = False,
) -> None:
    """Speak texts with every accent given. The base checkpoint is the one that the adapter folder names in base.json."""
    with guarded():
        _check_numbers(scale, max_seconds)
        from tune_accent.models.adapter_base import read_accents, read_base

        accents = chosen_accents(accent or [], read_accents(adapter), str(adapter))
        read_base(adapter)
        asked = planned(said(text or [], texts), accents, out, overwrite)

        from tune_accent.config.schema import Training
        from tune_accent.models.synthesis import Line, Sampling, open_speaker, read_voice, speak
        from tune_accent.training.seeding import configure_torch

        where = _device(device)
        configure_torch(Training(threads=threads))
        speaker = open_speaker(adapter, where, base=base, scale=scale)
        voice = read_voice(speaker, speaker_wav)
        if speaker.noise:
            sys.stderr.write(NOISE)
        sampling = Sampling(seed, greedy, max_seconds)
        for start in range(0, len(asked), batch):
            part = asked[start : start + batch]
            for item, spoken in zip(
                part, speak(speaker, [Line(one.text, one.accent) for one in part], voice, sampling), strict=True
            ):
                _write(item, spoken)


def _check_numbers(scale: float, max_seconds: float) -> None:
    if not math.isfinite(scale):
        raise UserError(
            f"must be a finite number, got {scale}", "--scale", "1 is the adapter as it was trained, 0 switches LoRA off"
        )
    if not 0 < max_seconds <= LONGEST_S:
        raise UserError(f"must be above 0 and at most {LONGEST_S}, got {max_seconds:g}", "--max-seconds", "e.g. --max-seconds 10")


def chosen_accents(given: Sequence[str], known: Sequence[str], adapter: str) -> list[str | None]:
    """The accents to speak with, in the order given; None for `none`.

    Raises:
        UserError: none is given, one is given twice, or the adapter does not know it; the message lists those it knows.
    """
    choice = f"choose from: {', '.join([*known, NULL])}"
    if not given:
        raise UserError("no accent is given", "--accent", choice)
    for name in given:
        if name != NULL and name not in known:
            raise UserError(f"the adapter {adapter} knows no accent {visible(name)!r}", "--accent", choice)
    if len(set(given)) < len(given):
        raise UserError("an accent is given twice", "--accent", "keep one of them")
    return [name if name in known else None for name in given]


def said(given: Sequence[str], file: Path | None) -> list[str]:
    """What to say: the texts of the command line, then the lines of the file that are not blank; without white space around them.

    Raises:
        UserError: there is none, one is empty, or the file cannot be read.
    """
    for text in given:
        if not text.strip():
            raise UserError("the text is empty", "--text", 'say something, e.g. --text "The door is open."')
    found = [text.strip() for text in given] + ([] if file is None else _lines(file))
    if not found:
        place = "--text" if file is None else str(file)
        raise UserError("there is nothing to say", place, "give --text, or --texts FILE with a text per line")
    return found


def _lines(file: Path) -> list[str]:
    fix = "give a UTF-8 file with a text per line"
    try:
        with explained(file), file.open("rb") as stream:
            data = stream.read(LONGEST_FILE + 1)
        if len(data) > LONGEST_FILE:
            raise DataError(f"longer than {LONGEST_FILE} bytes", str(file), "split it")
        return [line.strip() for line in data.decode("utf-8-sig").splitlines() if line.strip()]
    except FileNotFoundError as error:
        raise DataError("no such file", str(file), fix) from error
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 text (byte {error.start})", str(file), fix) from error


def planned(texts: Sequence[str], accents: Sequence[str | None], out: Path, overwrite: bool) -> list[Asked]:
    """Every text with every accent, and where it goes: `out` itself for one utterance, `out/001_<accent>.wav` and on for several.

    Raises:
        UserError: `out` cannot be that, or a file is there and `overwrite` is not set.
    """
    several = len(texts) * len(accents) > 1 or out.is_dir()
    asked = [
        Asked(text, accent, out / f"{number:03d}_{_file_name(accent or NULL)}.wav" if several else out)
        for number, text in enumerate(texts, 1)
        for accent in accents
    ]
    if several and (out.is_file() or out.suffix.lower() == ".wav"):
        raise UserError(
            f"{len(asked)} utterances go into a folder, and this is a file's name", str(out), "give a folder, e.g. --out spoken"
        )
    if not several and out.suffix.lower() != ".wav":
        raise UserError(
            "the name of the file must end in .wav", str(out), "e.g. --out x.wav; for several utterances give a folder"
        )
    there = [item.path for item in asked if item.path.exists()]
    if there and not overwrite:
        raise UserError("the file is there already", str(there[0]), "give another --out, or --overwrite")
    return asked


def _file_name(accent: str) -> str:
    """`accent` with what a file system may refuse escaped; different accents stay different."""
    return "".join(letter if letter.isalnum() or letter in "-_" else f"%{ord(letter):x}" for letter in accent)


def _device(name: str | None) -> torch.device:
    import torch

    from tune_accent.training.device import default_device

    if name is None:
        return default_device()
    try:
        device = torch.device(name)
        known = device.type == "cpu" or (device.type == "cuda" and (device.index or 0) < torch.cuda.device_count())
    except RuntimeError:
        known = False
    if not known:
        raise UserError(
            f"no device {visible(name)!r} here", "--device", f"use cpu; this machine has {torch.cuda.device_count()} GPUs"
        )
    return device


def _write(asked: Asked, spoken: Spoken) -> None:
    write_bytes(asked.path, wav_bytes(spoken.wave))
    cut = "" if spoken.ended else ", cut at --max-seconds"
    sys.stdout.write(f"{asked.path}: accent {asked.accent or NULL}, {len(spoken.codes)} frames{cut}\n")
    sys.stdout.flush()


def wav_bytes(wave: Wave) -> bytes:
    """A mono WAV file, 16 bits, 24 kHz; values outside ±1 are clipped."""
    import numpy as np
    import soundfile

    from tune_accent.data.audio import SAMPLING_RATE

    stream = io.BytesIO()
    soundfile.write(stream, np.clip(wave, -1.0, 1.0), SAMPLING_RATE, format="WAV", subtype="PCM_16")
    return stream.getvalue()


if __name__ == "__main__":
    app()
