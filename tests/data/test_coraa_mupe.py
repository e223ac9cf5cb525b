"""CORAA-MUPE-ASR: the census of a fixture worked out by hand, the same corpus from any shards and processes, kills, and mistakes."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pyloudnorm
import pytest

from tests.data.coraa_shards import ROWS, write_shards
from tune_accent.base.errors import DataError, MissingDependency
from tune_accent.base.files import sha256_file
from tune_accent.base.progress import silent
from tune_accent.config import speech
from tune_accent.data.audio import Wave, read_audio
from tune_accent.data.corpus import ensure_corpus
from tune_accent.data.manifest import Manifest, read_manifest
from tune_accent.data.sources import shards
from tune_accent.data.sources.coraa_mupe import affordable
from tune_accent.data.sources.kinds import source_of
from tune_accent.data.sources.making import make_corpus

CENSUS = [
    ("all rows", 70, 22),  # N 10, NE 10, SE 18, S 6, CO 8; 3 of an interviewer, 15 of X1-X5, Y1 and a speaker without a code
    ("interviewee (speaker_type R)", 67, 21),  # P1
    ("duration 3 to 15 s", 65, 21),  # 2.99 and 15.01 go, 3.0 and 15.0 stay
    ("state of birth known", 57, 17),  # X1 '', X2 unknown, X3 Atlântida, X5 Argentina: 3 + 3 + 1 + 1
    ("regions N NE CO SE S", 57, 17),
    ("gender M or F", 54, 16),  # X4
    ("audio_quality any", 54, 16),
    ("speaker_code given", 53, 16),
    ("one region and one gender per speaker", 50, 15),  # Y1, of Bahia and São Paulo
    ("at least 3 speakers per region", 44, 13),  # S has two
    ("at least 3 utterances per speaker", 42, 12),  # MT_1 has two
    ("still at least 3 speakers per region", 36, 10),  # which leaves two in CO
    ("no cap on speakers", 36, 10),
    ("no cap on utterances", 36, 10),
    ("usable sound and transcript", 33, 10),  # corrupt bytes, no bytes, no transcript
    ("no sound twice", 32, 10),
    ("at least 3 utterances per speaker, with usable sound", 32, 10),
    ("at least 3 speakers per region, with usable sound", 32, 10),
]


def data(folder: Path, root: Path, workers: int = 1, **changes: Any) -> speech.Data:
    """The section `data` of a small import."""
    return speech.Data(root=str(root), source=speech.CoraaMupe(path=str(folder), workers=workers, **changes))


def imported(folder: Path, root: Path, workers: int = 1, **changes: Any) -> Manifest:
    """The corpus of these shards."""
    cfg = data(folder, root, workers, **changes)
    source = source_of(cfg)
    assert source is not None
    return make_corpus(root, source, silent)


def census(root: Path) -> list[tuple[str, int, int]]:
    with (root / "census.csv").open(encoding="utf-8", newline="") as stream:
        return [(row["step"], int(row["rows"]), int(row["speakers"])) for row in csv.DictReader(stream)]


def content(root: Path) -> dict[str, str]:
    """Hashes of every file, but for the lock and the record, which names the shards."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): sha256_file(path) for path in files if path.name not in (".lock", "source.json")}


@pytest.fixture(scope="module")
def corpus(made_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("imported") / "corpus"
    imported(made_shards, root)
    return root


def test_the_census_is_the_one_worked_out_by_hand(corpus: Path) -> None:
    assert census(corpus) == CENSUS
    manifest = read_manifest(corpus)
    assert Counter(manifest.speakers.values()) == {"N": 3, "NE": 3, "SE": 4}
    assert Counter(row.accent for row in manifest.rows) == {"N": 9, "NE": 9, "SE": 14}


def test_what_was_left_out_has_its_reason(corpus: Path) -> None:
    with (corpus / "rejected.csv").open(encoding="utf-8", newline="") as stream:
        reasons = sorted(row["reason"].partition(":")[0].rpartition(" as ")[0] or row["reason"] for row in csv.DictReader(stream))
    assert len(reasons) == 4
    assert "the same sound" in reasons and "it has no transcript" in reasons and "the file is empty" in reasons


def test_the_rows_keep_what_the_shards_say(corpus: Path) -> None:
    rows = read_manifest(corpus).rows
    one = next(row for row in rows if row.speaker == "PA_1")
    assert (one.accent, one.gender, one.age, one.birth_state, one.session) == ("N", "F", 61, "PA", "MUPE_PA_1")
    assert one.text_id is None and one.text == "sim eu nasci lá" and one.source == "CORAA-MUPE-ASR"
    assert [row.start_s for row in rows if row.speaker == "PA_1"] == [0.0, 20.0, 40.0]
    assert {row.age for row in rows if row.speaker == "AM_1"} == {None}
    assert {row.birth_state for row in rows} == {"PA", "AM", "TO", "BA", "PB", "CE", "RJ", "SP", "ES", "MG"}
    assert [row.text for row in rows if row.speaker == "ES_1"] == ["sim eu nasci lá"] * 2 + ["Fica só o original."]
    assert sorted(row.duration_s for row in rows)[0] == 3.0 and sorted(row.duration_s for row in rows)[-1] == 15.0
    assert all(row.snr_db is not None and row.clipping is not None for row in rows)


def test_the_audio_is_clean_and_where_the_manifest_says(corpus: Path) -> None:
    for row in read_manifest(corpus).rows[:4]:
        assert not Path(row.audio_path).is_absolute()
        wave = read_audio(corpus / row.audio_path)
        assert len(wave) == round(24_000 * row.duration_s)
        assert pyloudnorm.Meter(24_000).integrated_loudness(wave.astype("float64")) == pytest.approx(-23.0, abs=0.3)


def test_two_processes_make_the_same_bytes(corpus: Path, made_shards: Path, tmp_path: Path) -> None:
    imported(made_shards, tmp_path / "two", workers=2)
    assert content(tmp_path / "two") == content(corpus)
    assert (tmp_path / "two" / "source.json").read_bytes() == (corpus / "source.json").read_bytes()


def test_the_cut_into_shards_does_not_matter(corpus: Path, coraa_sounds: dict[int, Wave], tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "one", ROWS, coraa_sounds, group=len(ROWS), shards=1)
    imported(folder, tmp_path / "corpus")
    assert content(tmp_path / "corpus") == content(corpus)


def test_original_transcripts(made_shards: Path, tmp_path: Path) -> None:
    rows = imported(made_shards, tmp_path / "corpus", text="original", regions=["N"]).rows
    assert {row.text for row in rows} == {"Sim, eu nasci lá."} and {row.accent for row in rows} == {"N"}


def test_the_filters_of_the_config(made_shards: Path, tmp_path: Path) -> None:
    imported(made_shards, tmp_path / "high", audio_quality="HIGH")
    assert census(tmp_path / "high")[6] == ("audio_quality HIGH", 52, 16)  # of MG_1 three are left, two of them the same sound
    assert census(tmp_path / "high")[-2:] == [(label, 28, 9) for label, *_ in CENSUS[-2:]]
    imported(made_shards, tmp_path / "caps", max_speakers_per_region=3, max_utterances_per_speaker=3, seed=1)
    assert census(tmp_path / "caps")[12:14] == [
        ("at most 3 speakers per region (seed 1)", census(tmp_path / "caps")[12][1], 9),
        ("at most 3 utterances per speaker (seed 1)", 27, 9),
    ]


def test_a_region_that_loses_its_speakers_to_bad_sound(coraa_sounds: dict[int, Wave], tmp_path: Path) -> None:
    rows = [row if row.speaker != "TO_1" or row.number else type(row)(**{**vars(row), "sound": "corrupt"}) for row in ROWS]
    root = tmp_path / "corpus"
    imported(write_shards(tmp_path / "shards", rows, coraa_sounds), root)
    assert census(root)[-3:] == [
        ("no sound twice", 31, 10),
        ("at least 3 utterances per speaker, with usable sound", 29, 9),
        ("at least 3 speakers per region, with usable sound", 23, 7),
    ]
    rejected = (root / "rejected.csv").read_text(encoding="utf-8")
    assert rejected.count("left without: at least 3 utterances per speaker") == 2
    assert rejected.count("left without: at least 3 speakers per region") == 6
    assert {path.parent.name for path in root.glob("audio/*/*")} == {row.speaker.lower() for row in read_manifest(root).rows}


KILLED = """
import sys
from pathlib import Path
from tests.data.test_coraa_mupe import imported
if __name__ == "__main__":
    imported(Path(sys.argv[1]), Path(sys.argv[2]), workers=int(sys.argv[3]))
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_import_continues(corpus: Path, made_shards: Path, tmp_path: Path, workers: int) -> None:
    root = tmp_path / "cut"
    (tmp_path / "script.py").write_text(KILLED)
    command = [sys.executable, str(tmp_path / "script.py"), str(made_shards), str(root), str(workers)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while len(list(root.glob(".parts/*.json"))) < 2:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert not (root / "manifest.jsonl").exists()
    finished = {path: path.stat().st_mtime_ns for path in root.glob(".parts/*.json")}
    done: list[Path] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tune_accent.data.sources.in_parts.save_record", _noting(done))
        imported(made_shards, root)
    assert finished and not set(finished) & set(done)
    assert content(root) == content(corpus)
    assert not (root / ".parts").exists()


def _noting(done: list[Path]) -> Any:
    from tune_accent.base.records import save_record

    def save(path: Path, key: str, content: Any) -> None:
        done.append(path)
        save_record(path, key, content)

    return save


def test_finished_parts_are_believed_only_as_they_were_left(corpus: Path, made_shards: Path, tmp_path: Path) -> None:
    root = tmp_path / "cut"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="cut"):
        patch.setattr("tune_accent.data.sources.coraa_mupe.settle", _cut)
        imported(made_shards, root)
    parts = sorted(root.glob(".parts/*.json"))
    parts[0].write_text(parts[0].read_text(encoding="utf-8").replace("N", "S", 1), encoding="utf-8")
    parts[1].write_text("{", encoding="utf-8")
    next(path for path in root.glob("audio/*/*.flac")).write_bytes(b"stale")
    next(path for path in reversed(list(root.glob("audio/*/*.flac")))).unlink()
    (root / "audio" / "of_nobody.flac").write_bytes(b"left over")
    imported(made_shards, root)
    assert content(root) == content(corpus)


def _cut(*_: object) -> None:
    raise RuntimeError("cut")


def test_a_finished_corpus_needs_no_shards(made_shards: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made_shards, tmp_path / "shards"))
    root = tmp_path / "corpus"
    made = ensure_corpus(data(folder, root), 0, silent)
    shutil.rmtree(folder)
    assert ensure_corpus(data(folder, root, workers=2), 0, silent) == made
    with pytest.raises(DataError, match="made with min_speakers 3, not 4"):
        ensure_corpus(data(folder, root, min_speakers=4), 0, silent)
    with pytest.raises(DataError, match="no such folder"):
        imported(folder, root)


def test_other_shards_are_another_corpus(made_shards: Path, coraa_sounds: dict[int, Wave], tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    imported(made_shards, root)
    with pytest.raises(DataError, match="made with shards"):
        imported(write_shards(tmp_path / "fewer", ROWS[:60], coraa_sounds), root)


def test_one_file_and_a_glob(made_shards: Path) -> None:
    assert len(shards.find_shards(str(made_shards / "*.parquet"))) == 3
    assert [path.name for path in shards.find_shards(str(made_shards.parent))] == sorted(
        path.name for path in made_shards.iterdir()
    )
    assert len(shards.find_shards(str(made_shards / "train-00000-of-00003.parquet"))) == 1


def test_places_without_shards(tmp_path: Path, made_shards: Path) -> None:
    (tmp_path / "metadata.csv").touch()
    with pytest.raises(DataError, match=r"holds no \*.parquet file\n  → it holds metadata.csv"):
        shards.find_shards(str(tmp_path))
    with pytest.raises(DataError, match="there is no such folder"):
        shards.find_shards(str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="no file has a name like that"):
        shards.find_shards(str(made_shards / "train-*.pq"))


def test_the_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="as a data set of the Hub it cannot be had") as caught:
        shards.find_shards("nobody/nothing-of-this-name")
    assert "give a folder with its parquet shards" in str(caught.value.fix)


def test_the_hub_without_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingDependency, match=r"tune-accent\[hub\]"):
        shards.find_shards("nilc-nlp/CORAA-MUPE-ASR")


def test_columns_that_are_missing_or_of_another_kind(tmp_path: Path, made_shards: Path) -> None:
    table = pyarrow.parquet.read_table(made_shards / "train-00000-of-00003.parquet")
    renamed = table.rename_columns([name.replace("speaker_code", "speaker_id") for name in table.column_names]).drop(["duration"])
    pyarrow.parquet.write_table(renamed, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="lacks the columns speaker_code, duration; it has audio_id") as caught:
        imported(tmp_path, tmp_path / "out")
    assert "speaker_id is there for speaker_code" in str(caught.value.fix)
    (tmp_path / "a.parquet").unlink()
    wrong = table.set_column(table.column_names.index("duration"), "duration", table["duration"].cast(pyarrow.string()))
    pyarrow.parquet.write_table(wrong, tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"duration \(string, not number\)"):
        imported(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_that_are_no_parquet(tmp_path: Path, made_shards: Path) -> None:
    (tmp_path / "a.parquet").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DataError, match="cannot be read as parquet"):
        imported(tmp_path, tmp_path / "out")
    whole = (made_shards / "train-00000-of-00003.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[:1000] + bytes(len(whole) // 3) + whole[1000 + len(whole) // 3 :])
    with pytest.raises(DataError, match="cannot be read as parquet"):
        imported(tmp_path, tmp_path / "out")


def test_a_filter_that_leaves_nothing(tmp_path: Path, made_shards: Path) -> None:
    with pytest.raises(DataError, match="no row is left after: audio_quality hihg; before it there were 54") as caught:
        imported(made_shards, tmp_path / "a", audio_quality="hihg")
    assert caught.value.fix == "did you mean `high`?"
    assert census(tmp_path / "a")[6][1] == 0
    with pytest.raises(DataError, match="no row is left after: at least 9 speakers per region; before it there were 50"):
        imported(made_shards, tmp_path / "b", min_speakers=9)


def test_the_record_does_not_depend_on_place_or_processes(made_shards: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(made_shards, tmp_path / "elsewhere"))
    one, two = source_of(data(made_shards, tmp_path)), source_of(data(moved, tmp_path, workers=7))
    assert one is not None and two is not None and one.record == two.record
    assert json.loads(json.dumps(one.record)) == one.record


@pytest.mark.parametrize(("asked", "page_mb", "given"), [(1, 500, 1), (2, 20, 2), (2, 135, 1), (4, 13, 4), (64, 13, 5)])
def test_large_pages_leave_fewer_processes(asked: int, page_mb: int, given: int) -> None:
    assert affordable(asked, page_mb << 20) == given


def test_the_largest_page_is_read_off_the_footer(made_shards: Path) -> None:
    found = shards.open_shard(made_shards / "train-00000-of-00003.parquet", {"audio.bytes": "bytes"})
    assert found.path.stat().st_size / len(found.rows) < found.page < found.path.stat().st_size
