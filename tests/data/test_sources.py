"""The contract of every source, and what is particular to the demo."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import soundfile

from tests.data.csv_corpora import csv_source
from tests.data.small_corpora import SMALL
from tune_accent.base.errors import DataError, MissingDependency
from tune_accent.base.files import sha256_file
from tune_accent.base.progress import Progress, silent
from tune_accent.config import speech
from tune_accent.data.hygiene import Hygiene
from tune_accent.data.manifest import Utterance, read_manifest
from tune_accent.data.sources import Rejected, Source, demo, demo_texts, espeak
from tune_accent.data.sources.coraa_mupe import CoraaMupe
from tune_accent.data.sources.making import make_corpus

TINY = speech.DemoSource(speakers=3, texts=3, workers=2)
TINY_PT = speech.DemoSource(preset="PT2", speakers=3, texts=3, workers=2)
MakeSource = Callable[[pytest.FixtureRequest], Source]


def coraa(request: pytest.FixtureRequest) -> Source:
    return CoraaMupe(speech.CoraaMupe(path=str(request.getfixturevalue("made_shards")), workers=1), Hygiene(3.0, 15.0))


SOURCES: dict[str, MakeSource] = {
    "EN3": lambda _: demo.Demo(TINY, 1),
    "PT2": lambda _: demo.Demo(TINY_PT, 1),
    "coraa-mupe": coraa,
    "csv folder": lambda request: csv_source(request.getfixturevalue("tmp_path"), workers=1),
    "csv ZIP": lambda request: csv_source(request.getfixturevalue("tmp_path"), packed=True, workers=1),
}


def hashes(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): sha256_file(path)
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_the_contract_of_a_source(make: MakeSource, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    source = make(request)
    calls: dict[str, list[tuple[int, int]]] = {}
    made = make_corpus(tmp_path / "a", source, lambda label, done, total: calls.setdefault(label, []).append((done, total)))
    assert calls
    for told in calls.values():  # every label has a bar of its own
        assert told[-1][0] == told[-1][1]
        assert sorted(told) == told
    assert json.loads((tmp_path / "a" / "source.json").read_text(encoding="utf-8")) == source.record
    rejected = (tmp_path / "a" / "rejected.csv").read_text(encoding="utf-8")
    assert rejected.startswith("utt_id,reason\n") and (rejected.count("\n") == 1 or "demo" not in source.record["source"])
    assert not {row.utt_id for row in made.rows} & {line.partition(",")[0] for line in rejected.splitlines()[1:]}
    for row in made.rows:
        info = soundfile.info(tmp_path / "a" / row.audio_path)
        assert (info.samplerate, info.frames) == (row.sampling_rate, round(row.duration_s * row.sampling_rate))
        assert row.audio_sha256 == sha256_file(tmp_path / "a" / row.audio_path)
    first = hashes(tmp_path / "a")
    make_corpus(tmp_path / "b", source, silent)
    assert hashes(tmp_path / "b") == first
    assert make_corpus(tmp_path / "a", source, silent) == made == read_manifest(tmp_path / "a")
    assert hashes(tmp_path / "a") == first


def test_the_audio_does_not_depend_on_the_number_of_workers(made_demo: Path, tmp_path: Path) -> None:
    demo.ensure(tmp_path / "one", SMALL.model_copy(update={"workers": 1}), 0, silent)
    assert hashes(tmp_path / "one") == hashes(made_demo)


def test_an_interrupted_making_is_begun_again(tmp_path: Path) -> None:
    class Interrupt(Exception):
        pass

    def interrupt(_: str, done: int, total: int) -> None:
        if done == total // 2:
            raise Interrupt

    with pytest.raises(Interrupt):
        demo.ensure(tmp_path / "cut", TINY, 0, interrupt)
    assert not (tmp_path / "cut" / "manifest.jsonl").exists()
    next((tmp_path / "cut").glob("audio/*/*.wav")).write_bytes(b"stale")
    (tmp_path / "cut" / "audio" / ".t00.wav.x.tmp").touch()
    demo.ensure(tmp_path / "cut", TINY, 0, silent)
    demo.ensure(tmp_path / "whole", TINY, 0, silent)
    assert hashes(tmp_path / "cut") == hashes(tmp_path / "whole")


def test_a_folder_with_other_parameters_is_refused(demo_root: Path) -> None:
    before = hashes(demo_root)
    with pytest.raises(DataError, match="made with texts 3, not 4") as caught:
        demo.ensure(demo_root, SMALL.model_copy(update={"texts": 4}), 0, silent)
    assert caught.value.where == str(demo_root)
    assert hashes(demo_root) == before


@dataclass(frozen=True)
class AllBroken:
    """A source whose recordings are all silent."""

    content: str

    @property
    def record(self) -> dict[str, str]:
        return {"content": self.content}

    def fill(self, root: Path, progress: Progress) -> tuple[list[Utterance], list[Rejected]]:
        return [], [Rejected("u1", "it is silent"), Rejected("u2", "it is silent")]


def test_where_everything_was_rejected_the_message_says_where_to_look(tmp_path: Path, made_demo: Path) -> None:
    root = tmp_path / "corpus"
    with pytest.raises(DataError, match=r"all 2 utterances were rejected, .* the first: u1: it is silent") as caught:
        make_corpus(root, AllBroken("first"), silent)
    assert caught.value.exit_code == 2 and caught.value.where == str(root / "rejected.csv")
    assert (root / "rejected.csv").read_text(encoding="utf-8") == "utt_id,reason\nu1,it is silent\nu2,it is silent\n"
    assert not (root / "manifest.jsonl").exists()
    with pytest.raises(DataError, match="all 2 utterances"):  # a corrected source may go there, nothing was made
        make_corpus(root, AllBroken("second"), silent)
    shutil.copytree(made_demo / "audio", root / "audio")
    with pytest.raises(DataError, match="made with content 'second', not 'third'"):
        make_corpus(root, AllBroken("third"), silent)


def test_a_folder_of_somebody_else_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match="not made here"):
        demo.ensure(tmp_path, SMALL, 0, silent)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(DataError, match="not a folder"):
        demo.ensure(tmp_path / "thesis.txt", SMALL, 0, silent)


def test_without_the_extra_the_error_names_the_install_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "espeakng_loader" else found(name))
    with pytest.raises(MissingDependency) as caught:
        demo.ensure(tmp_path / "corpus", SMALL, 0, silent)
    assert "pip install 'tune-accent[demo]'" in str(caught.value)


def test_a_corpus_that_is_there_needs_no_extra(demo_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert len(demo.ensure(demo_root, SMALL, 0, silent).rows) == 36


def test_every_variant_is_in_the_engines_folder() -> None:
    assert espeak.installed_voices() >= {*demo.MALE, *demo.FEMALE}
    assert len({*demo.MALE, *demo.FEMALE}) == len(demo.MALE) + len(demo.FEMALE) == 40


def test_an_unknown_variant_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "MALE", ("nobody",))
    with pytest.raises(DataError, match="no voice variant 'nobody'"):
        demo.ensure(tmp_path / "corpus", SMALL, 0, silent)


def test_speakers_are_balanced_and_within_their_ranges() -> None:
    speakers = demo.draw_speakers(speech.DemoSource(), 0)
    assert Counter((speaker.accent, speaker.gender) for speaker in speakers) == {
        (a, g): 10 for a in demo.PRESETS["EN3"][0] for g in "MF"
    }
    for accent in demo.PRESETS["EN3"][0]:
        assert len({speaker.variant for speaker in speakers if speaker.accent == accent}) == 20
    assert all(35 <= s.pitch <= 65 and 35 <= s.range <= 65 and 150 <= s.rate <= 190 for s in speakers)
    assert speakers == demo.draw_speakers(speech.DemoSource(), 0)
    assert speakers != demo.draw_speakers(speech.DemoSource(), 1)


@pytest.mark.parametrize("texts", [demo_texts.ENGLISH, demo_texts.PORTUGUESE], ids=["English", "Portuguese"])
def test_forty_different_sentences(texts: tuple[str, ...]) -> None:
    assert len(set(texts)) == 40
    assert all(8 <= len(text.split()) <= 15 and text.endswith((".", "?")) for text in texts)


def test_sentences_last_three_to_four_seconds_on_average(made_demo: Path) -> None:
    durations = [row.duration_s for row in read_manifest(made_demo).rows]
    assert 2.8 < sum(durations) / len(durations) < 4.0


def test_a_refused_voice_is_one_error_and_leaves_no_process(tmp_path: Path) -> None:
    good = espeak.Request(str(tmp_path / "a.wav"), "en-us+m1", "Hello there.", 170, 50, 50)
    bad = espeak.Request(str(tmp_path / "b.wav"), "en-gb+m1", "Hello there.", 170, 50, 50)
    with espeak.Engine() as engine:
        assert engine.version.startswith("1.5")
        before = engine.speak(good)
        with pytest.raises(DataError, match="voice 'en-gb\\+m1' is refused"):
            engine.speak(bad)
        assert engine.speak(good) == before
    with pytest.raises(DataError, match="refused"):
        espeak.synthesise([good, bad], 2, silent)


def test_a_worker_that_dies_is_one_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "libespeak-ng.so"
    broken.write_bytes(b"not a library")
    monkeypatch.setattr(espeak, "_library", lambda: broken)
    with pytest.raises(DataError, match="process ended with status 1"):
        espeak.synthesise([espeak.Request("a.wav", "en-us", "Hi.", 170, 50, 50)], 1, silent)


def test_the_parent_that_forks_is_slim() -> None:
    code = "import sys, tune_accent.data.sources.espeak_worker\nprint(sorted({'torch', 'numpy', 'pandas', 'espeakng_loader'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_corpus_folder_can_be_moved(demo_root: Path, tmp_path: Path) -> None:
    moved = Path(shutil.move(demo_root, tmp_path / "elsewhere"))
    assert demo.ensure(moved, SMALL, 0, silent).sha256 == read_manifest(moved).sha256
