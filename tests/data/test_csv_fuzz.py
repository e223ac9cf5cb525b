"""5,000 damaged tables and archives: an import or one `UserError`, and never a byte outside the folder of the corpus."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from tests.data.csv_corpora import in_zip, row, table, tone
from tune_accent.base.errors import UserError
from tune_accent.base.progress import silent
from tune_accent.data.hygiene import Hygiene
from tune_accent.data.manifest import Manifest
from tune_accent.data.sources.csv_archive import CsvArchive
from tune_accent.data.sources.csv_table import read_table, read_texts
from tune_accent.data.sources.making import make_corpus

TABLES, ARCHIVES = 4_000, 1_000
SOUND = tone(440.0, seconds=0.05, rate=8_000)
ROWS = [row("s1", "N", "t1"), row("João", "SE", "t2", gender="F", text='Ele disse "oi"')]
TABLE = table(ROWS, ("utt_id", "speaker", "accent", "text_id", "rel_path", "gender", "text"))
TEXTS = b'{"t1": "A frase.", "t2": "Ol\xc3\xa1."}'
FILES = {"metadata.csv": TABLE, "texts.json": TEXTS, "wav/s1/t1.wav": SOUND}
NASTY = (
    *(b"\0", b"\n", b"\r", b'"', b",", b";", b"\t", b"\xff", b"\xef\xbb\xbf", b"../", b"/", b"\\", b"C:", b"\x1b[2J", b"NUL"),
    *(b"\xed\xa0\x80", b"\xcc\x83", b"\xe2\x80\xae", b"9" * 500, b"-1", b"nan", b"1e999", b"{", b"[" * 300, b"\xff\xff\xff\xff"),
    *(b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06", b"\x00\x00\x00\x00", b"\x01\x00"),
)


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """`data` with one to four pieces flipped, removed, doubled, moved or replaced by something nasty."""
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(len(data) + 1))
        size = int(rng.integers(1, 24))
        piece = data[at : at + size]
        kind = int(rng.integers(5))
        nasty = NASTY[int(rng.integers(len(NASTY)))]
        new = [bytes([byte ^ int(rng.integers(1, 256)) for byte in piece[:2]]), b"", piece * 2, nasty, nasty[: len(piece)]][kind]
        keep = {0: 2, 1: size, 2: size, 3: 0, 4: len(new)}[kind]
        data = data[:at] + new + data[at + keep :]
    return data


def test_damaged_tables_and_texts() -> None:
    rng = np.random.default_rng(1)
    ends = {"read": 0, "refused": 0}
    for number in range(TABLES):
        try:
            if number % 5:
                rows, left = read_table(damaged(TABLE, rng), {"t1": "x", "t2": "y"}, "metadata.csv")
                assert all(item.utt_id and item.reason and item.reason.isprintable() for item in left)
                assert all(item.text and item.utt_id and not item.rel_path.startswith("/") for item in rows)
            else:
                assert isinstance(read_texts(damaged(TEXTS, rng), "texts.json"), dict)
            ends["read"] += 1
        except UserError as error:
            assert error.where and error.where.startswith(("metadata.csv", "texts.json"))
            ends["refused"] += 1
    assert min(ends.values()) > TABLES / 20, ends


def archives(path: Path, rng: np.random.Generator) -> Iterator[bytes]:
    """Whole archives with damaged names and contents, and damaged archives."""
    whole = in_zip(path, FILES).read_bytes()
    for number in range(ARCHIVES):
        if number % 2:
            yield damaged(whole, rng)
        else:
            names = [damaged(name.encode(), rng).decode("utf-8", "replace") if rng.random() < 0.1 else name for name in FILES]
            contents = [damaged(data, rng) if rng.random() < 0.4 else data for data in FILES.values()]
            with suppress(ValueError, UnicodeError, zipfile.LargeZipFile):  # names that cannot be packed
                yield in_zip(path, dict(zip(names, contents, strict=True)), zipfile.ZIP_STORED).read_bytes()


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], Manifest]:
    """Import an archive given as bytes into a folder of its own; nothing needs to outlast a power cut here."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    folder = tmp_path / "fuzz"
    folder.mkdir()

    numbers = count()

    def made(data: bytes) -> Manifest:
        (folder / "a.zip").write_bytes(data)
        return make_corpus(folder / "out" / str(next(numbers)), CsvArchive(folder / "a.zip", Hygiene(), workers=1), silent)

    return made


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_damaged_archives_write_nothing_outside_the_corpus(tmp_path: Path, make: Callable[[bytes], Manifest]) -> None:
    rng = np.random.default_rng(2)
    ends = {"made": 0, "refused": 0}
    for data in archives(tmp_path / "packed.zip", rng):
        try:
            found = make(data)
        except UserError as error:
            assert str(error).replace("\n", "").isprintable(), repr(str(error))
            ends["refused"] += 1
        else:
            assert all((found.root / item.audio_path).resolve().is_relative_to(found.root / "audio") for item in found.rows)
            ends["made"] += 1
        assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*")} <= {"packed.zip", "fuzz"}
        assert {path.name for path in (tmp_path / "fuzz").glob("*")} <= {"a.zip", "out"}
    outs = list((tmp_path / "fuzz" / "out").iterdir())
    assert len(outs) > ARCHIVES / 20 and all(path.name.isdecimal() for path in outs)
    assert {path.name for out in outs for path in out.iterdir()} <= CORPUS
    assert all(path.suffix == ".flac" for out in outs for path in out.glob("audio/**/*") if path.is_file())
    assert min(ends.values()) > ARCHIVES / 20, ends


CORPUS = {".lock", ".parts", "audio", "manifest.jsonl", "manifest.jsonl.sha256", "rejected.csv", "source.json"}
