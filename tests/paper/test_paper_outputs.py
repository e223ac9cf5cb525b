"""What is written: report, checklist, card, all files, and the bundle."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import stat
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.paper.paper_results import ODD, paper_results
from tests.reporting.latex_structure import check_structure
from tune_accent.base.errors import DataError
from tune_accent.evaluation import Figure
from tune_accent.paper.arms import measure
from tune_accent.paper.card import model_card
from tune_accent.paper.checklist import checklist
from tune_accent.paper.outputs import bundle, table_files, write_outputs
from tune_accent.paper.report import report_page
from tune_accent.paper.report_words import OF_Z, UNTESTED, control_words
from tune_accent.paper.results import Opening, PaperResults
from tune_accent.paper.sheets import paper_sheets
from tune_accent.reporting.figures import Picture
from tune_accent.reporting.page import to_markdown

FILES = {"report.md", "report.html", "checklist.md", "environment.json", "hashes.json", "commands.txt", "control.csv"}
AGAIN = Opening("2026-06-01T00:00:00+00:00", "0" * 64, "speaker 7 was mislabelled")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> PaperResults:
    made = paper_results(tmp_path_factory.mktemp("results"), names=("São Paulo", ODD, "<b>c"))
    record = made.experiment.record.model_copy(update={"hypothesis": "LoRA <moves> the accent & no voice"})
    return replace(made, experiment=made.experiment.model_copy(update={"record": record}))


@pytest.fixture(scope="module")
def folder(results: PaperResults, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs, written over those of another run."""
    made = tmp_path_factory.mktemp("outputs") / "paper"
    (made / "tables").mkdir(parents=True)
    (made / "tables" / "failures.csv").write_text("of an earlier run")
    (made / "test_split.json").write_text("{}")
    write_outputs(results, made)
    return made


def contents(folder: Path) -> dict[str, bytes]:
    """Every file by its path below `folder`."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def page(results: PaperResults) -> str:
    """report.md without its pictures."""
    measured = measure(results)
    pictures = {
        name: Picture(name, name, b"", b"")
        for name in ("pareto", "leakage_weight", "importances", "history", "survival", "learning")
    }
    return to_markdown(report_page(measured, paper_sheets(measured), pictures))


def test_everything_is_written_and_nothing_old_stays(folder: Path) -> None:
    found = set(contents(folder))
    assert {name for name in found if "/" not in name} == FILES | {"test_split.json"}
    tables = {name for name in found if name.startswith("tables/")}
    assert len(tables) % 3 == 1  # three forms of each, and tables.tex
    assert not [name for name in tables if "failures" in name]
    assert len([name for name in found if name.startswith("figures/")]) == 12
    assert json.loads((folder / "environment.json").read_text())["python"] == "3.11.9"


def test_equal_results_give_equal_bytes(results: PaperResults, folder: Path, tmp_path: Path) -> None:
    write_outputs(results, tmp_path / "paper")
    again = contents(tmp_path / "paper")
    assert again == {name: content for name, content in contents(folder).items() if name != "test_split.json"}
    assert table_files(results) == {
        name.removeprefix("tables/"): content for name, content in again.items() if name.startswith("tables/")
    }


def test_every_latex_table_is_whole_and_in_the_document(folder: Path) -> None:
    listed = re.findall(r"\\input\{(.*?)\}", (folder / "tables" / "tables.tex").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(path.name for path in (folder / "tables").glob("*.tex") if path.name != "tables.tex")
    for name in listed:
        check_structure((folder / "tables" / name).read_text(encoding="utf-8"))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX engine on the PATH")
def test_the_tables_compile(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "tables", tmp_path / "tables")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(command, cwd=tmp_path / "tables", capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]


def test_every_picture_of_the_report_is_there(folder: Path) -> None:
    report = (folder / "report.md").read_text(encoding="utf-8")
    named = re.findall(r"!\[.*?\]\((.*?)\)", report)
    assert sorted(named) == sorted(path.relative_to(folder).as_posix() for path in folder.glob("figures/*.png"))
    assert len(named) == 6


def test_the_report_begins_with_the_experiment_and_the_verdict(results: PaperResults, folder: Path) -> None:
    report = (folder / "report.md").read_text(encoding="utf-8")
    heads = re.findall(r"^## (.*)$", report, re.M)
    assert heads[:3] == ["The experiment", "Verdict", "Openings of the test split"]
    assert "Hypothesis: LoRA &lt;moves&gt; the accent &amp; no voice" in report
    assert results.verdict.deciding in report
    assert "The test split was opened once." in report
    assert "synthetic" in report
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert "LoRA &lt;moves&gt;" in html
    assert "<b>c" not in html
    assert html.count("data:image/png") == 6


def test_reopenings_are_told_at_the_head(results: PaperResults) -> None:
    report = page(replace(results, openings=[*results.openings, AGAIN]))
    assert "was opened 2 times. Reasons given: 2026-06-01T00:00:00+00:00: speaker 7 was mislabelled" in report
    assert report.index("was opened 2 times") < report.index("## Main results")


def test_the_figures_of_z_never_stand_for_control(results: PaperResults) -> None:
    assert page(results).count(OF_Z) >= 2
    untested = page(replace(results, control=None))
    assert f"> {UNTESTED}".replace("`", "\\`") in untested
    assert untested.count(OF_Z) >= 2
    assert "above chance, A moves" not in untested


@pytest.mark.parametrize(
    ("follows", "probe", "words"),
    [
        (Figure(0.7, 0.5, 0.9, 1 / 3), Figure(0.8, 0.6, 0.9, 1 / 3), "above chance, A moves what is heard"),
        (Figure(0.4, 0.2, 0.6, 1 / 3), Figure(0.8, 0.6, 0.9, 1 / 3), "control of the accent by A is not shown"),
        (Figure(0.7, None, None, 1 / 3), Figure(0.8, 0.6, 0.9, 1 / 3), "control of the accent by A is not shown"),
        (Figure(0.7, 0.5, 0.9, 1 / 3), Figure(0.4, 0.3, 0.5, 1 / 3), "cannot decide whether A controls"),
    ],
)
def test_control_is_claimed_only_where_it_is_shown(results: PaperResults, follows: Figure, probe: Figure, words: str) -> None:
    assert results.control is not None
    told = " ".join(control_words(replace(results.control, figures={"follows": follows}, hidden={}, probe=probe)))
    assert words in told
    assert ("A moves what is heard" in told) == (words == "above chance, A moves what is heard")


def test_the_checklist_ticks_only_what_the_records_show(results: PaperResults) -> None:
    full = checklist(measure(results))
    assert "- [x] Test split used once? Opened once." in full
    assert "- [x] Bit-identical in two fresh processes? Yes, on cpu." in full
    assert "- [ ] Bit-identical to the search's own trial? No." in full
    assert "- [ ] Enough speakers to decide? 4 test speakers in the smallest accent, 5 are asked for." in full
    assert "5 train, 4 test" in full
    bare = replace(
        results, control=None, reproduction=None, commands=[], environment={}, hashes={}, arms=results.arms[:1],
        runs=results.runs[:1], tested=results.tested[:1], openings=[*results.openings, AGAIN],
    )  # fmt: skip
    told = checklist(measure(bare))
    for question in (
        "Control of generated speech by A tested?",
        "Winner trained again?",
        "Test split used once?",
        "Central tendency and variation?",
        "Baselines under the same seeds and budget?",
        "Code identified?",
        "Hardware named?",
        "Exact commands?",
        "Data and splits identified by hash?",
    ):
        assert f"- [ ] {question}" in told, question
    assert AGAIN.reason in told


def test_the_card_has_a_head_that_yaml_reads(results: PaperResults) -> None:
    card = model_card(results)
    _, head, body = card.split("---\n", 2)
    read = yaml.safe_load(head)
    assert read["library_name"] == "peft"
    assert "base_model" not in read
    metrics = {one["type"]: one["value"] for one in read["model-index"][0]["results"][0]["metrics"]}
    assert metrics["accent_f1"] == measure(results).winner.figures["neutral"]["accent_f1"].figure.value
    for heading in ("Intended use", "How to load", "Figures on test speakers", "Limits", "Licences"):
        assert f"## {heading}\n" in body
    assert "GPL-3" in body
    assert "not tested" in model_card(replace(results, control=None))
    assert str(results.experiment.data.root) not in card  # a path of this machine


def test_a_hub_id_is_named_and_a_folder_is_not(results: PaperResults) -> None:
    def with_backbone(name: str) -> str:
        model = results.experiment.model.model_copy(update={"backbone": name})
        return model_card(replace(results, experiment=results.experiment.model_copy(update={"model": model})))

    assert "base_model: Qwen/Qwen3-TTS-12Hz-0.6B-Base" in with_backbone("Qwen/Qwen3-TTS-12Hz-0.6B-Base")
    hidden = with_backbone("/somewhere/models/mine")
    assert "/somewhere" not in hidden
    assert "Backbone mine" in hidden


def test_the_bundle_is_whole_sorted_and_the_same_again(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "paper"
    shutil.copytree(folder, root)
    kept = {"adapter/adapter_model.safetensors": b"lora", "adapter/README.md": b"card", "tested/a.json": b"{}"}
    left = {
        ".lock": b"",
        "reproduction/run-1/heads.safetensors": b"w",
        ".x.tmp": b"",
        "checksums.json": b"{}",
        ".torn.tmp/a.json": b"",
    }
    for name, content in (kept | left).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "link").symlink_to(root / "report.md")
    bundle(root, root / "paper.zip")
    first = (root / "paper.zip").read_bytes()
    (root / "report.md").touch()
    bundle(root, root / "paper.zip")
    assert (root / "paper.zip").read_bytes() == first
    with zipfile.ZipFile(root / "paper.zip") as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        found = {name: archive.read(name) for name in names}
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {stat.S_IMODE(entry.external_attr >> 16) for entry in archive.infolist()} == {0o644}
    sums = found.pop("SHA256SUMS").decode()
    assert names == [*sorted(found), "SHA256SUMS"]
    assert found == {f"paper/{name}": content for name, content in (contents(folder) | kept).items()}
    assert sums == "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(found.items()))


def test_a_bundle_that_cannot_be_made_leaves_the_old_one(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "paper.zip"
    target.write_bytes(b"old")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="nothing to pack"):
        bundle(tmp_path / "empty", target)

    def torn(self: zipfile.ZipFile, entry: zipfile.ZipInfo, data: bytes) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(zipfile.ZipFile, "writestr", torn)
    with pytest.raises(KeyboardInterrupt):
        bundle(folder, target)
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "paper.zip"]
