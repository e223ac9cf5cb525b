"""Corpora in CSV form to test with: real speech of the espeak demo, in a folder or a ZIP archive."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import soundfile

from tests.data.small_corpora import sine
from tune_accent.data.hygiene import Hygiene
from tune_accent.data.manifest import Manifest
from tune_accent.data.sources.csv_archive import CsvArchive

COLUMNS = ("utt_id", "speaker", "accent", "text_id", "rel_path")


def tone(hertz: float, seconds: float = 0.6, rate: int = 16_000) -> bytes:
    """A WAV file of a tone; different tones are no duplicates."""
    buffer = io.BytesIO()
    soundfile.write(buffer, sine(seconds, hertz, rate), rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def table(rows: Iterable[Mapping[str, Any]], columns: Iterable[str] = COLUMNS, separator: str = ",") -> bytes:
    """`metadata.csv`."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(columns), delimiter=separator, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def row(speaker: str, accent: str, text_id: str, **more: Any) -> dict[str, Any]:
    """A row of the table in the usual form."""
    return {
        "utt_id": f"{speaker}_{text_id}",
        "speaker": speaker,
        "accent": accent,
        "text_id": text_id,
        "rel_path": f"wav/{speaker}/{text_id}.wav",
        **more,
    }


def small_files(speakers: int = 3, texts: int = 3) -> dict[str, bytes]:
    """A clean corpus of tones: accents N and SE, path → content."""
    rows = [row(f"{a.lower()}{s}", a, f"t{t}") for a in ("N", "SE") for s in range(speakers) for t in range(texts)]
    files = {item["rel_path"]: tone(200.0 + 3 * number) for number, item in enumerate(rows)}
    sentences = {f"t{t}": f"A frase número {t}." for t in range(texts)}
    return {"metadata.csv": table(rows), "texts.json": json.dumps(sentences).encode(), **files}


def demo_files(corpus: Manifest) -> dict[str, bytes]:
    """A made demo corpus in CSV form, with its genders and texts."""
    rows = [row(item.speaker, item.accent, str(item.text_id), gender=item.gender, text=item.text) for item in corpus.rows]
    files = {r["rel_path"]: (corpus.root / item.audio_path).read_bytes() for r, item in zip(rows, corpus.rows, strict=True)}
    return {"metadata.csv": table(rows, (*COLUMNS, "gender", "text")), **files}


def in_folder(root: Path, files: Mapping[str, bytes]) -> Path:
    """Write `files` below `root`."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def in_zip(path: Path, files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Pack `files`; the same files give the same bytes."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0)), content, method)
    return path


def csv_source(folder: Path, packed: bool = False, workers: int = 2) -> CsvArchive:
    """A clean source for the contract of sources: nothing of it is rejected. `folder` must exist."""
    path = in_zip(folder / "corpus.zip", small_files()) if packed else in_folder(folder / "corpus", small_files())
    return CsvArchive(path, Hygiene(), workers)
