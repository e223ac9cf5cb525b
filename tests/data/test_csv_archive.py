"""A corpus in CSV form becomes a clean corpus folder, whatever is wrong with single rows, on any number of processes, kills included."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.data.csv_corpora import COLUMNS, csv_source, demo_files, in_folder, in_zip, row, small_files, table, tone
from tune_accent.base.errors import DataError
from tune_accent.base.files import sha256_file
from tune_accent.base.progress import silent
from tune_accent.data.audio import read_audio, set_loudness
from tune_accent.data.hygiene import Hygiene
from tune_accent.data.manifest import Manifest, read_manifest
from tune_accent.data.sources import Rejected
from tune_accent.data.sources.csv_archive import CsvArchive
from tune_accent.data.sources.csv_table import Listed, read_table, read_texts
from tune_accent.data.sources.making import make_corpus


def hashes(root: Path) -> dict[str, str]:
    """Of every file of a corpus folder but hidden ones."""
    paths = [path for path in sorted(root.rglob("*")) if path.is_file()]
    return {name: sha256_file(root / name) for path in paths if "/." not in f"/{(name := str(path.relative_to(root)))}"}


def rejected(root: Path) -> dict[str, str]:
    with (root / "rejected.csv").open(encoding="utf-8", newline="") as stream:
        return {line["utt_id"]: line["reason"] for line in csv.DictReader(stream)}


def made(path: Path, root: Path, **options: Any) -> Manifest:
    return make_corpus(root, CsvArchive(path, Hygiene(**options), workers=1), silent)


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_the_contract_of_a_source(tmp_path: Path, packed: bool) -> None:
    source = csv_source(tmp_path, packed)
    calls: list[tuple[int, int]] = []
    found = make_corpus(tmp_path / "a", source, lambda _, done, total: calls.append((done, total)))
    assert calls[-1] == (18, 18) and calls == sorted(calls)
    assert json.loads((tmp_path / "a" / "source.json").read_text(encoding="utf-8")) == source.record
    assert rejected(tmp_path / "a") == {}
    for item in found.rows:
        info = soundfile.info(tmp_path / "a" / item.audio_path)
        assert (info.samplerate, info.frames) == (24_000, round(item.duration_s * 24_000))
        assert (info.channels, info.subtype) == (1, "PCM_16")
        assert item.audio_sha256 == sha256_file(tmp_path / "a" / item.audio_path)
    first = hashes(tmp_path / "a")
    make_corpus(tmp_path / "b", CsvArchive(source.path, Hygiene(), workers=1), silent)
    assert hashes(tmp_path / "b") == first
    assert make_corpus(tmp_path / "a", source, silent) == found == read_manifest(tmp_path / "a")


def test_speech_comes_through_with_its_labels_and_figures(made_demo: Path, tmp_path: Path) -> None:
    demo = read_manifest(made_demo)
    found = made(in_zip(tmp_path / "demo.zip", demo_files(demo)), tmp_path / "out")
    for ours, theirs in zip(found.rows, demo.rows, strict=True):
        assert (ours.speaker, ours.accent, ours.text_id) == (theirs.speaker, theirs.accent, theirs.text_id)
        assert (ours.gender, ours.text) == (theirs.gender, theirs.text)
        assert ours.duration_s == pytest.approx(theirs.duration_s, abs=1e-3)
        assert ours.snr_db is not None and 5.0 < ours.snr_db <= 60.0
        assert ours.clipping is not None and 0.0 <= ours.clipping < 0.01
        wave = set_loudness(read_audio(made_demo / theirs.audio_path), -23.0)
        np.testing.assert_allclose(read_audio(tmp_path / "out" / ours.audio_path), wave, atol=2**-14)


def test_a_packed_folder_and_the_folder_make_the_same_corpus(tmp_path: Path) -> None:
    files = small_files()
    one = made(in_folder(tmp_path / "folder", files), tmp_path / "a")
    flat = made(in_zip(tmp_path / "flat.zip", files), tmp_path / "b")
    extra = {"__MACOSX/._x": b"", "corpus/.DS_Store": b""}
    nested = made(
        in_zip(tmp_path / "nested.zip", {f"corpus/{name}": data for name, data in files.items()} | extra), tmp_path / "c"
    )
    assert one.sha256 == flat.sha256 == nested.sha256


def test_every_broken_row_is_left_out_with_its_reason(tmp_path: Path) -> None:
    """Of 21 rows, 3 are fine."""
    columns = (*COLUMNS, "gender", "age", "text", "duration", "start_s")
    wav = {f"wav/s/{number:02d}.wav": tone(200.0 + number) for number in range(40)}
    place = iter(sorted(wav))

    def broken(utt_id: str, **more: Any) -> dict[str, Any]:
        return row("s", "N", "", utt_id=utt_id, rel_path=next(place), text="Uma frase.") | more

    rows = [
        broken("ok1", gender="Masculino", age="44", duration="0.6", start_s="1.5"),
        broken("ok1"),
        broken(""),
        broken("speaker", speaker=" "),
        broken("accent", accent=""),
        broken("other accent", accent="SE"),
        broken("no text", text="", text_id="t9"),
        broken("gender", gender="robot"),
        broken("age", age="-1"),
        broken("duration", duration="soon"),
        broken("longer", duration="3.0"),
        broken("up", rel_path="../secret.wav"),
        broken("absolute", rel_path="/etc/passwd"),
        broken("windows", rel_path="wav\\s\\01.wav"),
        broken("missing", rel_path="wav/s/none.wav"),
        broken("directory", rel_path="wav/s"),
        broken("torn", rel_path="torn.wav"),
        broken("empty", rel_path="empty.wav"),
        broken("silent", rel_path="silent.wav"),
        broken("z copy", rel_path="wav/s/00.wav"),
        broken("ok2", text_id="t1", gender="", age="0", duration=""),
        broken("another text", text_id="t1", text="Outra frase."),
        broken("ok3", text_id="t1", text=" Uma\n frase. ", gender="female_feminine"),
    ]
    files = {"torn.wav": tone(100.0)[:5_000], "empty.wav": b"", "silent.wav": tone(100.0)[:44] + bytes(19_200)}
    path = in_folder(tmp_path / "in", {"metadata.csv": table(rows, columns), **wav, **files})
    found = made(path, tmp_path / "out")
    assert [(item.utt_id, item.gender, item.age, item.start_s, item.text_id) for item in found.rows] == [
        ("ok1", "M", 44, 1.5, None),
        ("ok2", None, None, 0.0, "t1"),
        ("ok3", "F", None, 0.0, "t1"),
    ]
    assert {item.text for item in found.rows} == {"Uma frase."}
    reasons = rejected(tmp_path / "out")
    expected = {
        "ok1": "line 3: utt_id 'ok1' is that of line 2 already",
        "line 4": "utt_id is empty",
        "speaker": "speaker is empty",
        "accent": "accent is empty",
        "other accent": "speaker 's' has accent 'N' in line 2, here 'SE'",
        "no text": "there is no text: neither in the column `text` nor in texts.json for text_id 't9'",
        "gender": "gender 'robot' is not known",
        "age": "age '-1'",
        "duration": "duration 'soon'",
        "longer": "it lasts 0.60 s, the table says 3 s",
        "up": "`..`",
        "absolute": "slash at its start",
        "windows": "backslash",
        "missing": "there is no file 'wav/s/none.wav'",
        "directory": "there is no file 'wav/s'",
        "torn": "cut short",
        "empty": "is empty",
        "silent": "is silent",
        "z copy": "the same sound as ok1",
        "another text": "text_id 't1' has another text in line 22",
    }
    assert reasons.keys() == expected.keys()
    for utt_id, reason in expected.items():
        assert reason in reasons[utt_id], (utt_id, reasons[utt_id])
    assert len(list((tmp_path / "out" / "audio").rglob("*.*"))) == 3


def parsed(data: bytes, texts: dict[str, str] | None = None) -> tuple[list[Listed], list[Rejected]]:
    return read_table(data, texts or {"t": "A frase."}, "metadata.csv")


HEADER = b"utt_id,speaker,accent,text_id,rel_path"


@pytest.mark.parametrize(
    ("data", "where", "what"),
    [
        (b"", ":1", "column 'utt_id' is missing"),
        (b"utt_id,speaker,text_id,rel_path\n", ":1", "column 'accent' is missing"),
        (HEADER + b",text,text\n", ":1", "column 'text' is there twice"),
        (HEADER + b"\na,s,N,t,x.wav\nb,Jo\xe3o,N,t,x.wav\n", ":3", "not UTF-8: byte 0xe3"),
        (HEADER.decode().encode("utf-16"), ":1", "not UTF-8"),
        (HEADER + b"\na,s,N,t,x\0.wav\n", ":2", "a NUL character"),
        (HEADER + b'\na,"s"x,N,t,x.wav\n', ":2", "not CSV"),
        (HEADER + b'\na,s,N,t,"x.wav\n', ":2", "not CSV"),
        (HEADER + b"\na,s,N,t," + b"x" * 200_000 + b"\n", ":2", "not CSV"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_error_with_file_line_and_rule(data: bytes, where: str, what: str) -> None:
    with pytest.raises(DataError, match=what) as caught:
        parsed(data)
    assert caught.value.where == f"metadata.csv{where}"
    assert caught.value.fix


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "BOM"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_dialects_of_csv(separator: str, mark: bytes, ends: str) -> None:
    text = separator.join(["utt_id", "Speaker ", "accent", "text_id", "rel_path", "text", "duration", "notes"]) + ends
    text += separator.join(["a", "João", "N", "t", "wav/João/1.wav", '"Ele disse: ""oi"",\naqui;\tali"', "2.5", ""]) + ends + ends
    (found,), left = parsed(mark + text.encode())
    assert left == []
    assert (found.speaker, found.text, found.duration) == ("João", 'Ele disse: "oi", aqui; ali', 2.5)


def test_a_decimal_comma_where_commas_do_not_separate() -> None:
    (found,), _ = parsed(HEADER.replace(b",", b";") + b";duration;start_s\na;s;N;t;x.wav;2,5;1,25\n")
    assert (found.duration, found.start_s) == (2.5, 1.25)


def test_a_row_of_another_length_is_left_out() -> None:
    found, left = parsed(HEADER + b"\na,s,N,t\nb,s,N,t,x.wav,more\nc,s,N,t,x.wav\n\n,,,,\n")
    assert [item.utt_id for item in found] == ["c"]
    assert [item.utt_id for item in left] == ["a", "b"]
    assert "it has 4 fields, the header has 5" in left[0].reason


def test_control_characters_do_not_reach_the_terminal() -> None:
    _, left = parsed(HEADER + b"\na\x1b[2J,s,N,t,x.wav\n")
    assert left[0].utt_id == "a\\x1b[2J"


@pytest.mark.parametrize("data", [b"", b"[]", b'{"t": 1}', b'{"t": "a", "t": "b"}', b"\xff", b"[" * 100_000, b'{"t": ["a"]}'])
def test_texts_that_are_none(data: bytes) -> None:
    with pytest.raises(DataError, match="not a JSON object"):
        read_texts(data, "texts.json")


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_names_match_in_any_unicode_form(tmp_path: Path, packed: bool) -> None:
    nfc, nfd = (unicodedata.normalize(form, "wav/São Tomé/maçã.wav") for form in ("NFC", "NFD"))
    rows = [row("João", "NE", "t", rel_path=nfc), row("José", "NE", "t", rel_path="wav/b.wav")]
    rows[1]["speaker"] = unicodedata.normalize("NFD", "José")
    files = {"metadata.csv": table(rows), "texts.json": b'{"t": "Ol\xc3\xa1."}', nfd: tone(200.0), "wav/b.wav": tone(300.0)}
    path = in_zip(tmp_path / "a.zip", files) if packed else in_folder(tmp_path / "in", files)
    found = made(path, tmp_path / "out")
    assert [item.speaker for item in found.rows] == ["João", "José"]
    assert all(item.audio_path.isascii() for item in found.rows)


def test_names_of_files_are_ours_whatever_the_ids_are(tmp_path: Path) -> None:
    ids = ["../x", "a", "A", "a/b", "con", ".", "ç" * 200, "x" * 200, "a b"]
    rows = [row("../../s", "N", "t", utt_id=name, rel_path=f"{number}.wav") for number, name in enumerate(ids)]
    files = {f"{number}.wav": tone(200.0 + number) for number in range(len(ids))}
    found = made(
        in_folder(tmp_path / "in", {"metadata.csv": table(rows), "texts.json": b'{"t": "x"}', **files}), tmp_path / "out"
    )
    assert {item.utt_id for item in found.rows} == {*ids}
    paths = [item.audio_path for item in found.rows]
    assert len({path.casefold() for path in paths}) == len(ids)
    assert all(path.startswith("audio/s-") and path.count("/") == 2 and len(path) < 150 for path in paths)


def test_a_link_that_leaves_the_folder_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "secret.wav").write_bytes(tone(500.0))
    path = in_folder(tmp_path / "in", small_files())
    (path / "wav/n0/t0.wav").unlink()
    (path / "wav/n0/t0.wav").symlink_to(tmp_path / "secret.wav")
    found = made(path, tmp_path / "out")
    assert len(found.rows) == 17
    assert "leaves its folder" in rejected(tmp_path / "out")["n0_t0"]


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({}, "no metadata.csv"),
        ({"metadata.csv": HEADER, "texts.json": b"["}, "JSON"),
        ({"a/b/metadata.csv": HEADER}, "no metadata.csv"),
    ],
)
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_a_source_without_what_it_needs_writes_nothing(tmp_path: Path, files: dict[str, bytes], why: str, packed: bool) -> None:
    (tmp_path / "in").mkdir()
    path = in_zip(tmp_path / "a.zip", files) if packed else in_folder(tmp_path / "in", files)
    with pytest.raises(DataError, match=why):
        made(path, tmp_path / "out")
    assert not (tmp_path / "out" / "audio").exists()
    with pytest.raises(DataError, match="no such folder or ZIP"):
        made(tmp_path / "nowhere", tmp_path / "out")


def test_other_content_or_other_hygiene_is_another_corpus(tmp_path: Path) -> None:
    path = in_folder(tmp_path / "in", small_files())
    records = [CsvArchive(path).record, CsvArchive(path, Hygiene(trim_silence=True)).record, CsvArchive(path, workers=7).record]
    (path / "wav/n0/t0.wav").write_bytes(tone(999.0))
    records.append(CsvArchive(path).record)
    assert records[0] == records[2]
    assert len({json.dumps(record) for record in records}) == 3


IMPORT = """
import sys
from pathlib import Path
from tune_accent.base.progress import silent
from tune_accent.data.sources.csv_archive import CsvArchive
from tune_accent.data.sources.making import make_corpus
if __name__ == "__main__":
    make_corpus(Path(sys.argv[2]), CsvArchive(Path(sys.argv[1]), workers=int(sys.argv[3])), silent)
"""


def test_a_killed_import_on_two_processes_continues_on_one_to_the_same_bytes(tmp_path: Path) -> None:
    path = in_zip(tmp_path / "a.zip", small_files(speakers=11, texts=6))
    assert len(made(path, tmp_path / "whole").rows) == 132
    (tmp_path / "import.py").write_text(IMPORT, encoding="utf-8")
    root = tmp_path / "cut"
    command = [sys.executable, str(tmp_path / "import.py"), str(path), str(root), "2"]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while len(list(root.glob(".parts/*.json"))) < 1 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
    finally:
        process.kill()  # the parent alone: its workers end by themselves
        process.wait()
    assert not (root / "manifest.jsonl").exists()
    waited = time.monotonic() + 20
    while alive(process.pid) and time.monotonic() < waited:
        time.sleep(0.02)
    assert not alive(process.pid)
    assert list(root.glob(".parts/*.json"))
    next((root / "audio").rglob("*.flac")).write_bytes(b"stale")
    made(path, root)
    assert hashes(root) == hashes(tmp_path / "whole")


def alive(group: int) -> bool:
    """Whether a process of the group is left."""
    try:
        os.killpg(group, signal.SIGCONT)
    except ProcessLookupError:
        return False
    return True
