"""The report of a search: what the terminal said, every trial, its figures and what lies beside it, from the folder alone, whatever the folder holds."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from tests.comparing.campaigns import results
from tests.entries.command import refused, run
from tests.tracking.test_tensorboard import events
from tests.tracking.tracked_search import launch
from tests.tuning.small_search import request
from tune_accent.base.errors import DataError
from tune_accent.base.files import read_json, write_json, write_text
from tune_accent.comparing.run import Request as Asked
from tune_accent.comparing.run import run_comparison
from tune_accent.paper.verify import verify_search
from tune_accent.reporting.figures import Picture
from tune_accent.reporting.page import (
    Block,
    Code,
    Grid,
    Items,
    Links,
    Note,
    Page,
    Paragraph,
    Plate,
    Section,
    to_html,
    to_markdown,
)
from tune_accent.reporting.search_figures import best_so_far, front, search_figures
from tune_accent.reporting.search_page import search_page
from tune_accent.reporting.search_view import SearchView, TrialView
from tune_accent.reporting.stored_page import page_record, stored_page
from tune_accent.tuning.driver import Outcome, Request
from tune_accent.tuning.search_report import PLACE, read_view, write_search_report
from tune_accent.tuning.summary import closing_words

HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>{{ 7 * 7 }}'


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Request, Outcome]]:
    """A finished search that was launched as ever, trials simulated."""
    with pytest.MonkeyPatch.context() as patch:
        asked = request(tmp_path_factory.mktemp("whole"), run_cap=8)
        yield asked, launch(asked, patch)


@pytest.fixture
def root(whole: tuple[Request, Outcome], tmp_path: Path) -> Path:
    """A copy of its folder elsewhere, to be damaged."""
    return Path(shutil.copytree(whole[0].root, tmp_path / whole[0].root.name))


def text_of(html: str) -> str:
    """What a reader sees, on one line."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html[html.index("<body>") :])).split())


def test_a_search_leaves_a_report_that_says_what_the_terminal_said(whole: tuple[Request, Outcome]) -> None:
    asked, outcome = whole
    html = (asked.root / PLACE).read_text()
    seen = text_of(html).replace(" · ", " ")
    said = re.split(r"\n(?:Report|Files):", closing_words(asked, outcome, "again"))[0]
    lines = [" ".join(line.split()) for line in said.splitlines() if line.strip()]
    assert len(lines) > 8
    params = next(line for line in lines if line.startswith(("lora_rank ", "leakage_weight ")))
    assert [line for line in lines if line not in seen and line != params] == []
    assert set(params.split(", ")) <= {part.strip(",") for part in re.findall(r"[\w.]+ [\w.]+,?", seen)}, "in another order"
    assert "default-src 'none'" in html and "<script" not in html and "http://" not in html


def test_every_trial_is_there_under_its_state_and_the_best_stands_out(whole: tuple[Request, Outcome]) -> None:
    asked, outcome = whole
    html = (asked.root / PLACE).read_text()
    rows = re.findall(r'<tr( class="marked")?><td class="right">(\d+)</td>', html)
    assert sorted(int(number) for _, number in rows) == list(range(8))
    assert outcome.best is not None and [int(number) for mark, number in rows if mark] == [outcome.best.number]
    assert int(rows[0][1]) == outcome.best.number, "as the search chooses: the first of the full-length trials"
    states = [trial.state for trial in outcome.core.trials]
    for state in set(states):
        assert f"{state}: {states.count(state)}, figures of the last epoch" in html
    assert "RUNNING" not in html and "leakage_weight" in html


def test_the_report_is_made_anew_from_the_folder_alone(whole: tuple[Request, Outcome], root: Path) -> None:
    before = (whole[0].root / PLACE).read_bytes()
    (root / PLACE).unlink()
    for name in ("trials", "suggestions", "optuna.db", "logs"):
        shutil.move(root / name, root.parent / name)
    done = run(root.parent, "tune_accent.report", root.name)
    assert done.returncode == 0 and done.stdout == f"{root.name}/{PLACE}\n", done.stderr
    assert (root / PLACE).read_bytes() == before


def test_the_same_figures_are_image_summaries_in_tensorboard(whole: tuple[Request, Outcome]) -> None:
    (file,) = (whole[0].root / "tensorboard" / "search").iterdir()
    images = {value.tag: value.image for event in events(file) for value in event.summary.value}
    shown = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", (whole[0].root / PLACE).read_text())
    assert list(images) == ["pareto", "history", "learning"]
    assert [image.encoded_image_string for image in images.values()] == [base64.b64decode(data) for data in shown]
    assert all(image.width > 900 and image.height > 400 and image.colorspace == 4 for image in images.values())


def test_making_it_again_changes_nothing(whole: tuple[Request, Outcome]) -> None:
    before = {path: path.read_bytes() for path in whole[0].root.rglob("*") if path.is_file()}
    write_search_report(whole[0].root)
    assert {path: path.read_bytes() for path in whole[0].root.rglob("*") if path.is_file()} == before


def test_a_search_without_tensorboard_gets_none(root: Path) -> None:
    shutil.rmtree(root / "tensorboard")
    write_search_report(root)
    assert not (root / "tensorboard").exists()


def test_verify_does_not_trip_over_it(whole: tuple[Request, Outcome]) -> None:
    named = {fault.file for fault in verify_search(whole[0].root)}
    assert not any(name.startswith(("report", "tensorboard")) for name in named)


def test_a_comparison_is_a_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = results(tmp_path / "a", monkeypatch, tmp_path / "lora", "bayes")
    other = results(tmp_path / "a", monkeypatch, tmp_path / "other", "random", experiment=one.experiment)
    found, folder = run_comparison(Asked(one.root, (str(other.root),)))
    html = (one.root / PLACE).read_text()
    assert "Beside other searches: what can be concluded" in html and all(text in unescape(html) for text in found.conclusions)
    own = (folder / "index.html").read_text()
    for table in re.findall(r"<tbody>.*?</tbody>", own, re.DOTALL):
        assert table in html
    for data in re.findall(r"base64,[A-Za-z0-9+/=]+", own):
        assert data in html
    assert 'href="../comparison/index.html"' in html and 'href="../paper' not in html
    write_text(one.root / "paper" / "report.html", "x")
    shutil.rmtree(folder)
    write_search_report(one.root)
    html = (one.root / PLACE).read_text()
    assert 'href="../paper/report.html"' in html and "../comparison" not in html and "Beside other" not in html


def test_trials_that_failed_or_repeat_say_so_and_a_search_without_a_best_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    view = read_view(root)
    full = next(trial for trial in view.trials if trial.state == "COMPLETE")
    failed = TrialView(8, "k", full.params, "OOM", (), "epoch 1: out of memory")
    repeats = TrialView(9, full.key, full.params, "DUPLICATE", full.reports, f"repeats trial {full.number}")
    running = TrialView(10, "r", full.params, "RUNNING", full.reports[:1])
    shown = replace(view, trials=(*view.trials, failed, repeats, running), run_cap=20, best=None)
    html = to_html(search_page(shown, search_figures(shown)))
    seen = text_of(html)
    assert "unfinished: 10 of 20 trials ended" in seen and "No trial has run its full length" in seen
    assert "epoch 1: out of memory" in seen and f"repeats trial {full.number}" in seen and "RUNNING: 1" in seen
    assert 'class="marked"' not in html and "../best.json" not in html
    empty = replace(view, trials=(), best=None)
    assert "unfinished: 0 of 8" in to_html(search_page(empty, search_figures(empty)))


def test_a_failure_is_read_from_the_memo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tune_accent.tuning.memo import Failure, FolderMemo

    one = results(tmp_path / "a", monkeypatch, tmp_path / "lora")
    rows = (one.root / "trials.csv").read_text().splitlines()
    place = next(place for place, row in enumerate(rows) if ",STOPPED," in row)
    write_text(
        one.root / "trials.csv", "\n".join(row.replace("STOPPED", "CRASHED") if row is rows[place] else row for row in rows)
    )
    key = rows[place].split(",")[-1]
    FolderMemo(one.root).record_failure(key, Failure("CRASHED", 2, HOSTILE))
    html = write_search_report(one.root).read_text()
    assert f"epoch 2: {HOSTILE}" in unescape(html) and HOSTILE not in html and "<img src=x" not in html


def test_everything_is_escaped(root: Path) -> None:
    view = read_view(root)
    assert view.best is not None
    best = {
        **view.best,
        "rule": HOSTILE,
        "params": {HOSTILE: HOSTILE},
        "verdict": {**view.best["verdict"], "deciding": HOSTILE, "reasons": [HOSTILE]},
    }
    trials = tuple(replace(trial, params={HOSTILE: HOSTILE}, note=HOSTILE) for trial in view.trials)
    picture = search_figures(view)["history"]
    other = Page(HOSTILE, HOSTILE, [Section(HOSTILE, [Paragraph(HOSTILE)])], HOSTILE)
    shown = replace(view, name=HOSTILE, best=best, trials=trials, comparison=other)
    html = to_html(search_page(shown, {"history": replace(picture, alt=HOSTILE)}))
    assert "<script" not in html and "<img src=x" not in html and "{{ 7 * 7 }}" in html
    assert html.count("&lt;script&gt;alert(2)&lt;/script&gt;") > 20


def test_tracking_is_named(root: Path) -> None:
    view = read_view(root)

    def tracked(**settings: Any) -> str:
        tracking = view.experiment.tracking.model_copy(
            update={"wandb": view.experiment.tracking.wandb.model_copy(update=settings)}
        )
        shown = replace(view, experiment=view.experiment.model_copy(update={"tracking": tracking}), offline_runs=True)
        return to_html(search_page(shown, {}))

    assert "tensorboard --logdir results/tensorboard" in tracked() and "W&amp;B" not in tracked()
    offline = tracked(mode="offline", project="a b")
    assert f"project a b, group results-{view.identity[:8]}" in offline and "wandb sync results/wandb/offline-run-*" in offline
    assert "https://" not in offline
    online = tracked(mode="online", entity="lab", project="a b", group="g&h")
    assert 'href="https://wandb.ai/lab/a%20b/groups/g%26h"' in online


def break_line(root: Path) -> None:
    lines = (root / "epochs.jsonl").read_text().splitlines()
    (root / "epochs.jsonl").write_text("\n".join([lines[0][:50], *lines[1:]]))


def lose_line(root: Path) -> None:
    lines = (root / "epochs.jsonl").read_text().splitlines()
    (root / "epochs.jsonl").write_text("\n".join(lines[:-1]))


@pytest.mark.parametrize(
    ("damage", "file", "words"),
    [
        (shutil.rmtree, "", "no such folder"),
        (lambda root: (root / "spec.yaml").unlink(), "", "holds no search"),
        (break_line, "epochs.jsonl", "line 1 makes no sense"),
        (lose_line, "trials.csv", "epochs in epochs.jsonl"),
        (lambda root: (root / "trials.csv").write_text("trial,state\n0,COMPLETE\n"), "trials.csv", "a row makes no sense"),
        (lambda root: (root / "best.json").write_text("[]"), "best.json", "no record of a best trial"),
        (lambda root: (root / "best.json").write_text("{"), "best.json", "not a JSON file"),
        (lambda root: write_json(root / "comparison" / "page.json", {"title": 3}), "comparison/page.json", "not a page"),
    ],
    ids=["no folder", "no search", "torn line", "lost line", "other columns", "other best", "torn best", "other page"],
)
def test_a_folder_that_makes_no_sense_is_one_message(root: Path, damage: Callable[[Path], object], file: str, words: str) -> None:
    damage(root)
    with pytest.raises(DataError, match=words) as caught:
        write_search_report(root)
    assert caught.value.where == str(root / file if file else root)


def test_the_command_says_so(tmp_path: Path) -> None:
    refused(run(tmp_path, "tune_accent.report", "ray_results/none"), "no such folder")


def test_a_page_is_stored_and_read_back(tmp_path: Path) -> None:
    from tune_accent.reporting.tables import Table

    picture = Picture("best", "alt", b"\x89PNG", b"")
    blocks: list[Block] = [
        Paragraph("p"), Note("n", "warning"), Items(("a", "b")), Code("c"),
        Grid(Table(("x", "y"), (("1", "2"),), "caption", frozenset({0}))), Plate(picture, "seen"),
    ]  # fmt: skip
    page = Page("t", "s", [Section("h", [*blocks, Links((("x", "y.html"),))])], "f")
    write_json(tmp_path / "page.json", page_record(page))
    (tmp_path / "best.png").write_bytes(picture.png)
    assert stored_page(tmp_path / "page.json") == replace(page, sections=[Section("h", blocks)])
    (tmp_path / "best.png").unlink()
    with pytest.raises(DataError, match="not a page"):
        stored_page(tmp_path / "page.json")
    record = read_json(tmp_path / "page.json")
    for block in (
        {"kind": "script"},
        {"kind": "plate", "picture": "../secret", "alt": "", "caption": ""},
        {"kind": "items", "items": [3]},
    ):
        write_json(tmp_path / "page.json", {**record, "sections": [{"heading": "h", "blocks": [block]}]})
        with pytest.raises(DataError):
            stored_page(tmp_path / "page.json")


def test_links_lead_to_pages_only() -> None:
    good = ("../comparison/index.html", "https://wandb.ai/a/b%20c/groups/d", "x.csv")
    page = Page("t", "", [Section("h", [Links(tuple((name, name) for name in good))])])
    assert all(f'href="{name}"' in to_html(page) and f"]({name})" in to_markdown(page) for name in good)
    for bad in ("javascript:alert(1)", "//host/x", "http://host", 'x" onclick="y', "data:text/html,x", "", "a b", "/etc/passwd"):
        with pytest.raises(ValueError, match="no address"):
            Links((("x", bad),))


def test_front_and_best_so_far() -> None:
    assert front([(0.1, 0.5), (0.2, 0.4), (0.2, 0.7), (0.05, 0.45), (0.3, 0.7)]) == [(0.05, 0.45), (0.1, 0.5), (0.2, 0.7)]
    assert front([]) == []
    rows = [
        ("STOPPED", 0.9, True),
        ("COMPLETE", 0.3, True),
        ("COMPLETE", 0.8, False),
        ("COMPLETE", 0.2, True),
        ("COMPLETE", 0.6, True),
    ]
    trials = [
        TrialView(number, "", {}, state, ({"score": score, "feasible": fit},)) for number, (state, score, fit) in enumerate(rows)
    ]
    assert best_so_far(trials) == [(1, 0.3), (3, 0.3), (4, 0.6)]
    assert best_so_far(trials, goal="minimize") == [(1, 0.3), (3, 0.2), (4, 0.2)]
    assert best_so_far(trials[:1]) == []


@pytest.mark.parametrize("metric", ["val_loss", "accent_f1"])
def test_another_metric_is_drawn_and_ranked(root: Path, metric: str) -> None:
    view: SearchView = replace(read_view(root), metric=metric, goal="minimize", best=None)
    html = to_html(search_page(view, search_figures(view)))
    full = [trial for trial in view.trials if trial.state == "COMPLETE"]
    first = min(full, key=lambda t: (not t.reports[-1]["feasible"], t.reports[-1][metric], t.number))
    assert re.findall(r'<tr><td class="right">(\d+)</td>', html)[0] == str(first.number)
