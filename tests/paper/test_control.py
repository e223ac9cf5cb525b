"""Does A control the accent: planted talkers give the truth that was planted, and an interruption changes no number."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.paper.planted_talkers import Choose, Planted, deaf, follows
from tune_accent.auditing.extract import Sources
from tune_accent.base.errors import MissingDependency, ModelError
from tune_accent.base.progress import silent
from tune_accent.config.schema import Control, Experiment
from tune_accent.data.acoustic import acoustic_features
from tune_accent.data.audio import Wave
from tune_accent.data.manifest import read_manifest
from tune_accent.data.prepared import waves
from tune_accent.evaluation import evaluate
from tune_accent.models.synthesis import Spoken
from tune_accent.paper.control import control_csv, limits, measure_control, real_speech_probe
from tune_accent.paper.control_hooks import Ear, character_error_rate, character_errors, ears_of, naturalness
from tune_accent.paper.control_plan import BASE, NONE, SET, Batch, Plan, choose_texts, make_plan
from tune_accent.paper.results import ControlResults
from tune_accent.training.protocol import protocol

if TYPE_CHECKING:
    from tune_accent.training.inputs import TrialData

CPU = torch.device("cpu")
NOWHERE = Path("no adapter is needed")


def controlled(spec: Experiment, **options: Any) -> Experiment:
    """The small experiment with a small control section."""
    control = Control(**{"texts": 2, "speakers": 2, "batch": 1, **options})
    paper = spec.paper.model_copy(update={"control": control, "permutations": 99})
    return spec.model_copy(update={"paper": paper})


@pytest.fixture(scope="module")
def spec(small_spec: Experiment, small_data: TrialData) -> Experiment:
    return controlled(small_spec)


@pytest.fixture(scope="module")
def sounds(spec: Experiment) -> dict[str, list[Wave]]:
    """What train speakers said, by accent."""
    sources = Sources(spec, CPU, silent)
    table = sources.speech.table
    found: dict[str, list[Wave]] = {}
    for accent in sources.speech.gate_accents:
        rows = np.flatnonzero(((table["split"] == "train") & (table["accent"] == accent)).to_numpy())
        said = [sources.corpus.manifest.rows[int(row)] for row in rows]
        found[accent] = list(waves(sources.corpus, said, spec.data, "", silent))
    return found


def measured(spec: Experiment, root: Path, talker: Planted, ears: tuple[Ear, ...] = (), seed: int = 3) -> ControlResults:
    return measure_control(spec, NOWHERE, root, seed=seed, device=CPU, talker=talker, ears=ears)


@pytest.fixture(scope="module")
def results(
    spec: Experiment, sounds: dict[str, list[Wave]], tmp_path_factory: pytest.TempPathFactory
) -> dict[Choose, ControlResults]:
    """Of the two truths."""
    root = tmp_path_factory.mktemp("control")
    return {choose: measured(spec, root / choose.__name__, Planted(choose, sounds)) for choose in (follows, deaf)}


def value(control: ControlResults, name: str) -> float:
    found = control.figures[name].value
    assert found is not None
    return found


def contains(control: ControlResults, name: str, truth: float) -> bool:
    figure = control.figures[name]
    assert figure.low is not None and figure.high is not None and figure.value is not None
    assert figure.low <= figure.value <= figure.high
    return figure.low <= truth <= figure.high


def test_a_talker_that_follows_a_is_heard_to_follow(results: Mapping[Choose, ControlResults]) -> None:
    control = results[follows]
    assert value(control, "follows") > 0.9 and value(control, "follows_other") > 0.9
    assert value(control, "lift") > 0.5 and control.figures["lift"].low is not None and control.figures["lift"].low > 0
    assert value(control, "own_without") > 0.8 and value(control, "own_base") > 0.8
    matrix = np.array(control.matrix)
    assert matrix.shape == (3, 3) and np.allclose(matrix.sum(axis=1), 1) and (np.diag(matrix) > 0.8).all()
    assert control.figures["follows"].chance == pytest.approx(1 / 3) and control.figures["follows"].n == 6


def test_a_talker_that_ignores_a_is_at_chance(results: Mapping[Choose, ControlResults]) -> None:
    control = results[deaf]
    assert value(control, "follows") == pytest.approx(1 / 3) and contains(control, "follows", 1 / 3)
    assert value(control, "lift") == pytest.approx(0)
    assert value(control, "follows_other") == pytest.approx(control.figures["follows_other"].chance)
    assert value(control, "similarity_drop") == pytest.approx(0) and value(control, "similarity_drop_base") == pytest.approx(0)
    assert value(control, "own_without") > 0.8


def test_rows_and_table(spec: Experiment, results: Mapping[Choose, ControlResults]) -> None:
    control = results[follows]
    assert len(control.rows) == 2 * 6 * 5
    assert {(row["setting"], row["target"]) for row in control.rows} == {
        *((SET, accent) for accent in control.accents),
        (NONE, ""),
        (BASE, ""),
    }
    assert len({(row["speaker"], row["text_id"], row["setting"], row["target"]) for row in control.rows}) == len(control.rows)
    table = list(csv.DictReader(io.StringIO(control_csv(control))))
    assert [row["heard"] for row in table] == [row["heard"] for row in control.rows]
    assert float(table[0]["similarity"]) == control.rows[0]["similarity"]
    assert control.probe.value is not None and control.probe.low is not None and control.probe.p is not None
    assert "2 speakers per accent are few" in control.note and "noise" not in control.note


def test_the_probe_is_that_of_the_evaluation_on_test_speakers(spec: Experiment, results: Mapping[Choose, ControlResults]) -> None:
    """The features are computed again here, from the sound."""
    sources = Sources(spec, CPU, silent)
    table = sources.speech.table
    rows = np.flatnonzero(table["split"].isin(["train", "test"]).to_numpy())
    said = [sources.corpus.manifest.rows[int(row)] for row in rows]
    features = np.stack([acoustic_features(wave) for wave in waves(sources.corpus, said, spec.data, "", silent)])
    how = protocol(spec, sources.speech.gate_accents, sources.speech.held_fold, score_split="test", intervals=False)
    found = evaluate(features, table.iloc[rows].reset_index(drop=True), how, 0)
    told: list[str] = []
    probe = real_speech_probe(spec, sources, 0, lambda label, *_: told.append(label))
    assert probe.f1.value == found.accent_f1.value == results[follows].probe.value and probe.f1.n == 6
    assert told == [], "the features lie in the cache"


def test_an_interrupted_run_continues_with_the_same_numbers(
    spec: Experiment, sounds: dict[str, list[Wave]], results: Mapping[Choose, ControlResults], tmp_path: Path
) -> None:
    cut = Planted(follows, sounds, fail_after=7)
    with pytest.raises(KeyboardInterrupt):
        measured(spec, tmp_path, cut)
    rest = Planted(follows, sounds)
    control = measured(spec, tmp_path, rest)
    assert not set(cut.spoken) & set(rest.spoken) and len(cut.spoken) + len(rest.spoken) == 6 * 5 * 2
    assert control == results[follows]
    damaged = next((tmp_path / "paper" / "control_audio").rglob("001.flac"))
    damaged.write_bytes(damaged.read_bytes()[:-100])
    record = next((tmp_path / "paper" / "control").rglob("*.json"))
    record.write_text(record.read_text().replace('"similarity": ', '"similarity": 1'))
    last = Planted(follows, sounds)
    assert measured(spec, tmp_path, last) == control
    assert last.spoken == [f"{damaged.parent.parent.name}/{damaged.parent.name}"] and last.embedded == 1


def test_another_request_is_said_anew(spec: Experiment, sounds: dict[str, list[Wave]], tmp_path: Path) -> None:
    few = controlled(spec, texts=1, speakers=1)
    measured(few, tmp_path, Planted(follows, sounds))
    again, other = Planted(follows, sounds), Planted(follows, sounds)
    measured(few, tmp_path, again)
    measured(controlled(spec, texts=1, speakers=1, max_seconds=3.0), tmp_path, other)
    assert again.spoken == [] and again.embedded == 0 and len(other.spoken) == 15
    measured(controlled(spec, texts=1, speakers=2), tmp_path, Planted(follows, sounds), seed=4)
    names = {path.parent.relative_to(tmp_path / "paper" / "control_audio").as_posix() for path in tmp_path.rglob("001.flac")}
    records = {
        path.relative_to(tmp_path / "paper" / "control").as_posix() for path in (tmp_path / "paper" / "control").rglob("*.json")
    }
    assert len(names) == 30 and records == {f"{name}-001.json" for name in names}, "nothing is left of the first plan"


def test_further_ears(spec: Experiment, sounds: dict[str, list[Wave]], tmp_path: Path) -> None:
    """A transcriber that hears silence, and a score that is the length of the sound."""
    ears = (
        character_errors("silence", lambda: lambda wave: ""),
        naturalness("length", lambda: lambda wave: len(wave) / 24_000),
    )
    control = measured(controlled(spec, texts=1, speakers=1), tmp_path, Planted(deaf, sounds), ears)
    assert all(row["cer"] == 1.0 and row["mos"] == pytest.approx(row["seconds"]) for row in control.rows)
    assert value(control, "cer_set") == 1.0 and value(control, "mos_change") == pytest.approx(0)
    assert control.figures["cer_set"].low is None, "one speaker per accent has no interval"


def test_character_error_rate() -> None:
    assert character_error_rate("A porta, está aberta!", "a porta está aberta") == 0.0
    assert character_error_rate("abcd", "abXd") == 0.25
    assert character_error_rate("abcd", "bcd") == 0.25 and character_error_rate("abcd", "aabcd") == 0.25
    assert character_error_rate("não", "nao") == pytest.approx(1 / 3)
    assert character_error_rate("ab", "xyxyxy") == 3.0
    assert character_error_rate("?", "") == 0.0 and character_error_rate("?", "a") == 1.0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ecapa": True}, ("paper.control.ecapa", "speechbrain", "pip install 'tune-accent[ecapa]'")),
        ({"whisper": "small"}, ("paper.control.whisper", "faster_whisper", "pip install 'tune-accent[whisper]'")),
        ({"mos": True}, ("paper.control.mos", "utmos", "paper.control.mos off")),
    ],
)
def test_a_missing_ear_is_one_message(options: dict[str, Any], words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependency) as error:
        ears_of(Control(**options), "english")
    assert all(word in str(error.value) for word in words)


def test_no_ear_is_asked_for_by_default() -> None:
    assert ears_of(Control(), None) == []


def test_speech_that_is_not_finite_is_refused(spec: Experiment, sounds: dict[str, list[Wave]], tmp_path: Path) -> None:
    class Broken(Planted):
        def _one(self, batch: Batch, place: int) -> Spoken:
            return Spoken(np.zeros((1, 16), dtype=np.int64), np.full(9, np.nan, dtype=np.float32), ended=True)

    with pytest.raises(ModelError, match="not finite"):
        measured(spec, tmp_path, Broken(deaf, sounds))
    assert not list(tmp_path.rglob("*.flac"))


@pytest.fixture(scope="module")
def plan(spec: Experiment, small_data: TrialData, small_root: Path) -> Plan:
    return make_plan(spec.paper.control, small_data.speech, read_manifest(small_root).rows, 3)


def test_every_setting_has_the_same_texts_and_draws(plan: Plan) -> None:
    assert len(plan.texts) == 2 and len(plan.voices) == 6 and len(plan.batches) == 6 * 5 * 2
    assert len({batch.name for batch in plan.batches}) == len(plan.batches)
    for voice in plan.voices:
        own = [batch for batch in plan.batches if batch.voice == voice]
        assert len({batch.seed for batch in own}) == 1 and {batch.texts for batch in own} == {plan.texts[:1], plan.texts[1:]}
    assert len({batch.seed for batch in plan.batches}) == 6
    settings = [batch.setting == BASE for batch in plan.batches]
    assert settings == sorted(settings), "the model is loaded twice, not for every batch"


def test_references_are_other_real_utterances_of_test_speakers(plan: Plan, small_data: TrialData, small_root: Path) -> None:
    of = {row.utt_id: row for row in read_manifest(small_root).rows}
    table = small_data.speech.table
    for voice in plan.voices:
        assert table["split"][voice.row] == "test" and table["utt_id"][voice.row] == voice.utt_id
        assert of[voice.utt_id].speaker == voice.speaker and of[voice.utt_id].accent == voice.accent
        assert not voice.said and of[voice.utt_id].text not in {one.text for one in plan.texts}


def test_texts_are_spread_evenly(small_data: TrialData, small_root: Path) -> None:
    rows = read_manifest(small_root).rows
    every = choose_texts(rows, 99, 60.0)
    assert len(every) == 6 and len({one.text for one in every}) == 6
    assert choose_texts(rows, 3, 60.0) == (every[0], every[2], every[5])
    longest = max(rows, key=lambda row: row.duration_s)
    assert longest.duration_s > 1.0
    shorter = choose_texts(rows, 99, min(row.duration_s for row in rows))
    assert len(shorter) == 1
    assert choose_texts(rows, 99, 0.01) == every, "where all are too long they are cut"


def test_limits_are_said(spec: Experiment, plan: Plan) -> None:
    probe = real_speech_probe(spec, Sources(spec, CPU, silent), 0)
    rows = [{"heard": "en-us", "ended": True}, {"heard": "en-us", "ended": False}]
    told = limits(spec, plan, probe, True, rows)
    assert "noise" in told and "1 of 2 utterances had not ended" in told and "Every utterance was heard as en-us" in told
    assert "better than chance" in told, "so few train speakers teach it too little"
    plain = limits(spec, plan, probe, False, [{"heard": "en-us", "ended": True}, {"heard": "en-029", "ended": True}])
    assert not any(word in plain for word in ("noise", "had not ended", "Every utterance"))
