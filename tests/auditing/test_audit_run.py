"""An audit of the small demo, with real features and with made-up ones: records, interruptions, folders, limits, report."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch

from tune_accent.auditing.evaluated import search_layer_of
from tune_accent.auditing.features import FeatureSet, feature_sets
from tune_accent.auditing.report import write_report
from tune_accent.auditing.results import records
from tune_accent.auditing.run import Audit, Request, run_audit
from tune_accent.auditing.words import closing_words
from tune_accent.base.errors import FolderInUse, SearchChanged
from tune_accent.base.files import folder_lock, read_json, write_text
from tune_accent.base.progress import silent
from tune_accent.config.schema import Experiment
from tune_accent.evaluation import PROTOCOL_VERSION
from tune_accent.models.forward import forward, pool
from tune_accent.training.inputs import TrialData

CPU = torch.device("cpu")


@dataclass(frozen=True)
class MadeUp(FeatureSet):
    """A feature set that needs no file: the accent as far as `strength` goes, and noise."""

    strength: float = 1.0
    fault: type[BaseException] | None = None
    accents: tuple[int, ...] = ()

    def load(self) -> npt.NDArray[np.float32]:
        """(N, 8) float32."""
        if self.fault is not None:
            raise self.fault
        noise = np.random.default_rng(len(self.name)).normal(size=(len(self.accents), 8))
        noise[:, :3] += self.strength * np.eye(3)[list(self.accents)]
        return noise.astype(np.float32)


class Extraction:
    """Gives made-up sets over the real table, and can be told to change some of them."""

    def __init__(self) -> None:
        self.changes: dict[str, dict[str, Any]] = {}

    def __call__(
        self, spec: Experiment, options: Any, cache: Path, device: Any, progress: Any
    ) -> tuple[pd.DataFrame, Sequence[FeatureSet]]:
        table, _ = feature_sets(spec, options, cache, device, progress)
        accents = tuple(pd.factorize(table["accent"], sort=True)[0].tolist())
        sets = [
            MadeUp("text_encoder_out", "backbone", -1, "mean+std", "neutral", Path(), 0.0, accents=accents),
            MadeUp("decoder_block_00", "backbone", 0, "mean+std", "neutral", Path(), 3.0, accents=accents),
            MadeUp("pre_vocoder", "backbone", 2, "mean+std", "neutral", Path(), 0.3, accents=accents),
            MadeUp("pre_vocoder", "backbone", 2, "mean+std", "given", Path(), 0.3, accents=accents),
        ]
        return table, [replace(one, **self.changes.get(f"{one.name} {one.speaker}", {})) for one in sets]


@pytest.fixture(autouse=True)
def _logger(own_logger: logging.Logger) -> Iterator[None]:
    yield


@pytest.fixture
def made_up(small_data: TrialData) -> Extraction:
    return Extraction()


@pytest.fixture
def spec(small_spec: Experiment) -> Experiment:
    """The small experiment, with a score that knows no limits: only accent F1 decides."""
    return changed(small_spec, {"score.leakage_limit": 1.0, "score.drop_limit": 1.0})


@pytest.fixture(scope="module")
def real(small_spec: Experiment, small_data: TrialData, tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """The whole audit of the small demo, and its report."""
    layers = {"audit.layers": ["text_encoder_out", "decoder_block_00", "pre_vocoder"], "audit.poolings": ["mean+std"]}
    spec = changed(small_spec, layers)
    audit = run_audit(Request(spec, tmp_path_factory.mktemp("audit") / "small-audit"))
    write_report(audit)
    return audit


def changed(spec: Experiment, changes: dict[str, Any]) -> Experiment:
    """The experiment with values by dotted key."""
    tree = spec.model_dump()
    for key, value in changes.items():
        *sections, name = key.split(".")
        place = tree
        for section in sections:
            place = place[section]
        place[name] = value
    return Experiment.model_validate(tree)


def figures(audit: Audit) -> dict[str, Any]:
    """Every number of an audit, as JSON values."""
    sets = {f"{one.name} {one.pooling} {one.speaker}": one.evaluation and one.evaluation.to_dict() for one in audit.results}
    return {
        "sets": sets,
        "controls": {name: one.to_dict() for name, one in audit.controls.items()},
        "verdict": str(audit.verdict),
    }


# -- the real features -----------------------------------------------------------------------------------------------------------------


def test_every_layer_and_the_sound_are_measured(real: Audit) -> None:
    names = {(one.name, one.pooling, one.speaker) for one in real.results if one.evaluation is not None}
    layers = {"text_encoder_out", "decoder_block_00", "pre_vocoder"}
    assert names == {
        *((name, "mean+std", voice) for name in layers for voice in ("neutral", "given")),
        ("acoustic", "mean+std", None),
    }
    assert real.recommendation is not None and real.recommendation.layers == 2 and real.recommendation.layer in (1, 2)
    assert real.chosen is not None and real.chosen.evaluation is not None and real.verdict is not None
    assert real.verdict == real.chosen.evaluation.gate(real.request.experiment.gate)
    assert not real.verdict.decidable and "not decidable" in str(real.verdict)  # two validation speakers per accent
    assert real.chosen.evaluation.accent_f1.p is not None
    assert set(real.sweep) == {0.001, 0.01, 0.1, 1.0, 10.0}


def test_the_recommended_k_reads_the_state_that_was_measured(
    small_spec: Experiment, small_data: TrialData, tmp_path: Path
) -> None:
    """With `model.layer: k` a trial pools exactly the audited features; `hidden_states[k]` is the output of decoder block k - 1."""
    table, sets = feature_sets(small_spec, small_spec.audit, tmp_path / "features", CPU, silent)
    place = {name: row for row, name in enumerate(small_data.speech.table["utt_id"])}
    rows = np.array([place[name] for name in table["utt_id"][:6]])
    found = {}
    for one in sets:
        layer = search_layer_of(one, small_spec)
        if layer is not None and (one.speaker, one.pooling) == ("neutral", "mean+std"):
            speaker = small_data.mean_voice(len(rows))
            with torch.no_grad():
                out = forward(
                    small_data.backbone, small_data.inputs(rows), speaker=speaker, accent=None, layer=layer, losses=False
                )
            trained = pool(out.hidden, out.frames).numpy()
            np.testing.assert_allclose(one.load()[:6], trained, rtol=1e-5, atol=1e-5)
            found[one.name] = layer
    assert found == {"decoder_block_00": 1, "pre_vocoder": 2}
    assert {
        search_layer_of(one, small_spec) for one in sets if one.name in ("text_encoder_out", "decoder_block_01", "acoustic")
    } == {None}


def test_the_same_call_again_computes_nothing(real: Audit) -> None:
    again = run_audit(real.request)
    assert real.computed == 7 + 4 and again.computed == 0
    assert figures(again) == figures(real) and again.recommendation == real.recommendation


def test_the_report_repeats_numbers_rule_and_limits(real: Audit) -> None:
    root = real.request.root
    page, plain = (root / "report.html").read_text(), (root / "report.md").read_text()
    assert real.recommendation is not None and real.verdict is not None
    for words in (
        f"layer: {real.recommendation.layer}",
        "is itself a selection",
        "speaker-bootstrap interval",
        "random weights",
        "6 texts; at least 30 are needed",
        real.verdict.deciding,
        "not decidable",
        "(K - 1)/N",
        "S → A",
        "every accent reads the same texts",
    ):
        assert words in page.replace("&#39;", "'").replace("&gt;", ">") and words in plain, words
    for name in ("accent_f1", "leakage", "text_drop"):
        assert (root / "figures" / f"layer_{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (root / "figures" / f"layer_{name}.pdf").read_bytes().startswith(b"%PDF")
        assert f"figures/layer_{name}.png" in plain
    assert page.count("data:image/png;base64,") == 3


def test_metrics_hold_every_figure_exactly(real: Audit) -> None:
    with (real.request.root / "metrics.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(real.results)
    for row, one in zip(rows, real.results, strict=True):
        assert (row["name"], row["family"], row["pooling"], row["speaker"]) == (
            one.name,
            one.family,
            one.pooling,
            one.speaker or "",
        )
        assert row["depth"] == ("" if one.depth is None else str(one.depth)) and row["layer"] == str(one.layer or "")
        assert one.evaluation is not None
        for name, figure in one.evaluation.figures.items():
            for field in ("value", "low", "high", "chance", "n", "p"):
                cell, value = row[name if field == "value" else f"{name}_{field}"], getattr(figure, field)
                assert (cell == "") if value is None else (float(cell) == value)


def test_the_last_words_are_enough_to_go_on_with(real: Audit) -> None:
    assert real.recommendation is not None
    k = real.recommendation.layer
    other = replace(real, request=replace(real.request, experiment=changed(real.request.experiment, {"model.layer": 3 - k})))
    words = closing_words(other, "small.yaml")
    assert f"* {real.recommendation.name} (k = {real.recommendation.layer})" in words
    assert f"put `model: {{layer: {k}}}` into small.yaml" in words
    same = replace(real, request=replace(real.request, experiment=changed(real.request.experiment, {"model.layer": k})))
    assert "The config has it already." in closing_words(same, "small.yaml") and "put `" not in closing_words(same, "small.yaml")
    assert "Verdict: " in words and "(not decidable)" in words and "report.html" in words and "--config small.yaml" in words


# -- records, interruptions, damage ----------------------------------------------------------------------------------------------------


def test_an_interrupted_audit_continues_where_it_stopped(spec: Experiment, made_up: Extraction, tmp_path: Path) -> None:
    straight = run_audit(Request(spec, tmp_path / "straight"), made_up)
    request = Request(spec, tmp_path / "interrupted")
    made_up.changes = {"pre_vocoder neutral": {"fault": KeyboardInterrupt}}
    with pytest.raises(KeyboardInterrupt):
        run_audit(request, made_up)
    assert records(request.root) == 2
    made_up.changes = {}
    continued = run_audit(request, made_up)
    assert continued.computed == straight.computed - 2
    assert figures(continued) == figures(straight)


def test_only_what_is_damaged_or_changed_is_computed_again(spec: Experiment, made_up: Extraction, tmp_path: Path) -> None:
    request = Request(spec, tmp_path / "audit")
    first = run_audit(request, made_up)
    record = request.root / "sets" / "decoder_block_00-mean+std-neutral.json"
    whole = record.read_text(encoding="utf-8")
    value = json.loads(whole)["content"]["evaluation"]["accent_f1"]["value"]
    for damaged in (whole[: len(whole) // 2], whole.replace(repr(value), "0.5", 1), "[]", "{}", ""):
        assert damaged != whole
        write_text(record, damaged)
        again = run_audit(request, made_up)
        assert again.computed == 1 and figures(again) == figures(first)
    made_up.changes = {"decoder_block_00 neutral": {"strength": 2.0}}
    changed_layer = run_audit(request, made_up)
    for audit in (first, changed_layer):
        assert audit.recommendation is not None and audit.recommendation.layer == 1
    assert changed_layer.computed == 3  # the set, and the two controls of the recommended layer


def test_a_layer_that_overflows_is_shown_as_such(spec: Experiment, made_up: Extraction, tmp_path: Path) -> None:
    made_up.changes = {"pre_vocoder neutral": {"strength": float("nan")}}
    audit = run_audit(Request(spec, tmp_path / "audit"), made_up)
    write_report(audit)
    (broken,) = [one for one in audit.results if one.failed]
    assert broken.name == "pre_vocoder" and broken.failed is not None and "rows are not finite" in broken.failed
    assert audit.recommendation is not None and (audit.recommendation.layer, audit.recommendation.layers) == (1, 1)
    assert "rows are not finite" in (audit.request.root / "report.html").read_text()
    assert "rows are not finite" in (audit.request.root / "metrics.csv").read_text()


def test_no_layer_that_a_search_reads(spec: Experiment, made_up: Extraction, tmp_path: Path) -> None:
    made_up.changes = {"decoder_block_00 neutral": {"pooling": "mean"}, "pre_vocoder neutral": {"pooling": "mean"}}
    audit = run_audit(Request(spec, tmp_path / "audit"), made_up)
    write_report(audit)
    assert audit.recommendation is None and audit.verdict is None and audit.sweep == {}
    assert "No layer can be recommended" in closing_words(audit, "small.yaml")
    assert "No layer can be recommended" in (audit.request.root / "report.md").read_text()


# -- folders ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "line"),
    [({"model.attention": "eager"}, 'model.attention: "sdpa" → "eager"'), ({"evaluation.draws": 2}, "evaluation.draws: 1 → 2")],
    ids=["model", "evaluation"],
)
def test_another_audit_is_refused_with_what_differs(
    spec: Experiment, made_up: Extraction, tmp_path: Path, changes: dict[str, Any], line: str
) -> None:
    root = tmp_path / "audit"
    run_audit(Request(spec, root), made_up)
    other = changed(spec, changes)
    before = {path: path.read_bytes() for path in root.rglob("*.json")}
    with pytest.raises(SearchChanged) as refused:
        run_audit(Request(other, root), made_up)
    assert line in str(refused.value) and "--fresh" in str(refused.value) and "--out" in str(refused.value)
    assert {path: path.read_bytes() for path in root.rglob("*.json")} == before
    fresh = run_audit(Request(other, root, fresh=True), made_up)
    assert fresh.computed > 0 and records(tmp_path / "audit.old-1") > 0


@pytest.mark.parametrize(
    "changes",
    [
        {"model.layer": 2},
        {"training.epochs": 5},
        {"audit.layers": ["pre_vocoder"]},
        {"gate.adjust_f1": 0.3},
        {"score.val_loss_penalty": 1.0},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_does_not_change_a_figure_continues(
    spec: Experiment, made_up: Extraction, tmp_path: Path, changes: dict[str, Any]
) -> None:
    root = tmp_path / "audit"
    run_audit(Request(spec, root), made_up)
    assert run_audit(Request(changed(spec, changes), root), made_up).computed == 0


def test_a_folder_of_something_else_is_left_alone(spec: Experiment, made_up: Extraction, tmp_path: Path) -> None:
    root = tmp_path / "lora"
    write_text(root / "spec.yaml", "a search\n")
    with pytest.raises(SearchChanged, match=r"holds spec\.yaml, but no identity\.json"):
        run_audit(Request(spec, root), made_up)
    assert [path.name for path in root.iterdir()] == ["spec.yaml"]


def test_a_damaged_identity_is_refused(spec: Experiment, made_up: Extraction, tmp_path: Path) -> None:
    root = tmp_path / "audit"
    run_audit(Request(spec, root), made_up)
    write_text(root / "identity.json", "[]")
    with pytest.raises(SearchChanged, match="another audit"):
        run_audit(Request(spec, root), made_up)


def test_two_audits_do_not_share_a_folder(spec: Experiment, made_up: Extraction, tmp_path: Path) -> None:
    root = tmp_path / "audit"
    with folder_lock(root), pytest.raises(FolderInUse) as refused:
        run_audit(Request(spec, root), made_up)
    assert "--out" in str(refused.value) and "--name" not in str(refused.value)


def test_the_folder_says_what_it_is(real: Audit) -> None:
    root = real.request.root
    assert read_json(root / "identity.json")["experiment"]["seed"] == 5
    assert "name: small" in (root / "spec.yaml").read_text() and "packages" in read_json(root / "environment.json")
    content = read_json(root / "sets" / "pre_vocoder-mean+std-neutral.json")["content"]
    assert content["evaluation"]["protocol_version"] == PROTOCOL_VERSION
