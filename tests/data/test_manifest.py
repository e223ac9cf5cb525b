"""A manifest comes back as it was written, and every broken row is one error with file, line, field, value and rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.small_corpora import utterance
from tune_accent.base.errors import DataError
from tune_accent.base.files import sha256_bytes, sha256_file
from tune_accent.data.manifest import NAME, SIDECAR, Manifest, read_manifest, write_manifest

ROWS = [
    utterance("s1", "A", 0, "t0"),
    utterance("s1", "A", 1, None, gender=None, age=40),
    utterance("s2", "B", 0, text="Olá, café!"),
]


def test_a_manifest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    written = write_manifest(tmp_path, ROWS)
    found = read_manifest(tmp_path)
    assert found == written
    assert found.rows == tuple(ROWS)
    assert found.sha256 == sha256_file(tmp_path / NAME) == (tmp_path / SIDECAR).read_text(encoding="utf-8").split()[0]
    assert found.speakers == {"s1": "A", "s2": "B"}
    assert found.accents == ("A", "B")


def test_figures_of_the_recording_are_optional_and_leave_no_trace_where_they_are_not_there(tmp_path: Path) -> None:
    assert "snr_db" not in ROWS[0].to_json() and "clipping" not in ROWS[0].to_json()
    rows = [utterance("s1", "A", 0, snr_db=12.25, clipping=0.0), utterance("s2", "B", 0, snr_db=-3.0)]
    written = write_manifest(tmp_path, rows)
    assert read_manifest(tmp_path).rows == written.rows == tuple(rows)
    line = json.loads(rows[0].to_json()) | {"snr_db": 12, "clipping": None}
    (tmp_path / NAME).write_text(json.dumps(line) + "\n", encoding="utf-8")
    (tmp_path / SIDECAR).write_text(sha256_file(tmp_path / NAME), encoding="utf-8")
    assert repr(read_manifest(tmp_path).rows[0].snr_db) == "12.0"


def test_the_hash_of_fewer_rows_is_another() -> None:
    assert Manifest(Path(), tuple(ROWS)).sha256 != Manifest(Path(), tuple(ROWS[:2])).sha256


BROKEN: list[tuple[dict[str, Any], str, str]] = [
    ({"audio_path": "../secret.wav"}, "audio_path", "inside the folder"),
    ({"audio_path": "audio/../../secret.wav"}, "audio_path", "inside the folder"),
    ({"audio_path": "/etc/passwd"}, "audio_path", "relative"),
    ({"audio_path": "C:/x.wav"}, "audio_path", "relative"),
    ({"audio_path": "."}, "audio_path", "relative"),
    ({"duration_s": 0}, "duration_s", "greater than 0"),
    ({"duration_s": -1.5}, "duration_s", "greater than 0"),
    ({"duration_s": float("nan")}, "duration_s", "number of seconds"),
    ({"duration_s": 10**400}, "duration_s", "number of seconds"),
    ({"duration_s": "3"}, "duration_s", "number of seconds"),
    ({"duration_s": True}, "duration_s", "number of seconds"),
    ({"start_s": -0.1}, "start_s", "negative"),
    ({"sampling_rate": 24000.0}, "sampling_rate", "whole number"),
    ({"utt_id": " "}, "utt_id", "not empty"),
    ({"text": "\ud800"}, "text", "not empty"),
    ({"gender": 1}, "gender", "null"),
    ({"age": -3}, "age", "years"),
    ({"snr_db": "12"}, "snr_db", "dB"),
    ({"snr_db": float("inf")}, "snr_db", "dB"),
    ({"snr_db": True}, "snr_db", "dB"),
    ({"clipping": 1.5}, "clipping", "share"),
    ({"clipping": float("nan")}, "clipping", "share"),
    ({"speaker": "s1", "accent": "C"}, "accent", "one accent per speaker"),
    ({"utt_id": "s1-0"}, "utt_id", "unique, line 1"),
]


@pytest.mark.parametrize(("change", "field", "rule"), BROKEN, ids=lambda value: str(value)[:40])
def test_a_broken_row_names_file_line_field_value_and_rule(tmp_path: Path, change: dict[str, Any], field: str, rule: str) -> None:
    lines = [json.loads(row.to_json()) for row in ROWS]
    lines[2] |= change
    (tmp_path / NAME).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_manifest(tmp_path)
    assert caught.value.where == f"{tmp_path / NAME}:3"
    assert field in caught.value.what
    assert repr(change[field])[:50] in caught.value.what
    assert rule in caught.value.what


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{", "not a JSON object"),
        (b"[1]", "not a JSON object but list"),
        (b"\xff\xfe", "not a JSON object in UTF-8"),
        (b"[" * 50_000, "not a JSON object"),
        (b'{"utt_id": "a"}', "is missing"),
        (ROWS[0].to_json().replace('"text"', '"txet"').encode(), "is missing"),
        (ROWS[0].to_json().replace("{", '{"colour":"red",', 1).encode(), "'colour' is not known"),
    ],
)
def test_a_line_that_is_no_record(tmp_path: Path, line: bytes, problem: str) -> None:
    (tmp_path / NAME).write_bytes(ROWS[1].to_json().encode() + b"\n" + line + b"\n")
    with pytest.raises(DataError, match=problem) as caught:
        read_manifest(tmp_path)
    assert caught.value.where == f"{tmp_path / NAME}:2"


def test_broken_rows_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unique"):
        write_manifest(tmp_path, [ROWS[0], ROWS[0]])
    assert list(tmp_path.iterdir()) == []


def test_no_manifest_and_no_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no readable manifest"):
        read_manifest(tmp_path / "nowhere")
    (tmp_path / NAME).touch()
    with pytest.raises(DataError, match="no rows"):
        read_manifest(tmp_path)


def test_an_edited_manifest_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path, ROWS)
    (tmp_path / NAME).write_text((tmp_path / NAME).read_text(encoding="utf-8").replace('"B"', '"C"'), encoding="utf-8")
    with pytest.raises(DataError, match="changed after it was made"):
        read_manifest(tmp_path)
    (tmp_path / SIDECAR).unlink()
    with pytest.raises(DataError, match="is missing"):
        read_manifest(tmp_path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60), st.integers(0, 500), st.integers(0, 20))
def test_any_damage_is_a_data_error(tmp_path: Path, junk: bytes, start: int, removed: int) -> None:
    data = "".join(row.to_json() + "\n" for row in ROWS).encode()
    (tmp_path / SIDECAR).write_text(sha256_bytes(data), encoding="utf-8")
    damaged = data[:start] + junk + data[start + removed :]
    if damaged != data:
        (tmp_path / NAME).write_bytes(damaged)
        with pytest.raises(DataError):
            read_manifest(tmp_path)
