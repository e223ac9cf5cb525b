"""Whole comparisons of results folders that the search's own core, memo and tables made: figures, files, refusals."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.comparing.campaigns import results
from tests.tuning.simulated import Clock
from tests.tuning.small_search import SPACE, core_of, request
from tests.tuning.small_search import report as report_of
from tune_accent.base.errors import DataError, UserError
from tune_accent.base.files import read_json, write_json, write_text
from tune_accent.comparing.folder import params, read_folder
from tune_accent.comparing.identity import refuse_others
from tune_accent.comparing.record import PARTS
from tune_accent.comparing.run import Request, run_comparison
from tune_accent.config.parameters import Integer, Uniform
from tune_accent.config.space import Space
from tune_accent.tuning.driver import Request as SearchRequest


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[SearchRequest, SearchRequest]:
    """Two finished searches of one space: TPE and random."""
    one = results(tmp_path / "a", monkeypatch, tmp_path / "results" / "lora", "bayes", run_cap=9)
    other = replace(one, root=tmp_path / "results" / "lora-random")
    experiment = one.experiment
    return one, results(tmp_path / "a", monkeypatch, other.root, "random", run_cap=9, experiment=experiment)


def test_a_folder_is_read_back(pair: tuple[SearchRequest, SearchRequest]) -> None:
    """The same trials, epochs and states as a core in memory."""
    asked, _ = pair
    core = core_of(asked)
    assert Clock(core, 2, outcome=lambda grant: report_of(grant.params, grant.key, grant.epoch)).run()
    found = read_folder(asked.root)
    assert (found.name, found.engine, found.seed, found.length, found.grace) == ("lora", "GP + ASHA", "5/0", 3, 1)
    assert [trial.state for trial in found.trials] == [trial.state for trial in core.trials]
    assert [list(t.epochs) for t in found.trials if t.state != "DUPLICATE"] == [
        t.reports for t in core.trials if t.state != "DUPLICATE"
    ]
    assert [dict(trial.params) for trial in found.trials] == [dict(trial.params) for trial in core.trials]
    assert len(found.executed) == sum(len(trial.epochs) for trial in found.trials)
    assert all(found.identity.hashes().values())


def test_a_whole_comparison(pair: tuple[SearchRequest, SearchRequest]) -> None:
    one, other = pair
    found, folder = run_comparison(Request(one.root, (str(other.root),)))
    assert found.engines == ("GP + ASHA", "random + ASHA") and not found.caveats
    assert "one pair of searches" in found.conclusions[0] and folder == one.root / "comparison"
    names = {path.name for path in folder.iterdir()}
    tables = {"standings.csv", "times.csv", "waste.csv", "differences.csv", "curves.csv"}
    pages = {"index.html", "comparison.md", "page.json", "campaigns.json"}
    assert names == {*tables, *pages, "best_score.png", "fronts.png", "differences.png"}
    rows = list(csv.DictReader((folder / "standings.csv").read_text().splitlines()))
    assert [row["campaign"] for row in rows] == ["lora", "lora-random"]
    feasible = [trial.epochs[-1] for trial in read_folder(one.root).trials if trial.state == "COMPLETE"]
    assert float(rows[0]["best"]) == max(float(metrics["score"]) for metrics in feasible if metrics["feasible"])
    assert float(rows[0]["hypervolume"]) > 0 and int(rows[0]["epochs"]) == len(read_folder(one.root).executed)
    html = (folder / "index.html").read_text()
    assert found.conclusions[0] in html and "<script" not in html
    sources = json.loads((folder / "campaigns.json").read_text())
    assert [source["campaign"] for source in sources] == ["lora", "lora-random"]
    assert sources[0]["hashes"] == sources[1]["hashes"] and all(len(value) == 64 for value in sources[0]["hashes"].values())
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    run_comparison(Request(one.root, (str(other.root),)))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("part", PARTS)
def test_another_search_is_refused_unless_it_is_ignored(pair: tuple[SearchRequest, SearchRequest], part: str) -> None:
    first, other = (read_folder(asked.root) for asked in pair)
    assert refuse_others([first, other], ()) == ()
    changed = replace(other, identity=replace(other.identity, **{part: {"x": 1}}))
    unknown = replace(other, identity=replace(other.identity, **{part: None}))
    for wrong, words in ((changed, f"its {part} is not that of lora"), (unknown, f"the {part} of lora-random is not recorded")):
        with pytest.raises(UserError, match=words) as caught:
            refuse_others([first, wrong], [name for name in PARTS if name != part])
        assert f"--ignore {part}" in str(caught.value)
        (caveat,) = refuse_others([first, wrong], (part,))
        assert f"The {part} of lora-random" in caveat


def test_what_is_ignored_stands_everywhere(pair: tuple[SearchRequest, SearchRequest]) -> None:
    one, other = pair
    environment = read_json(other.root / "environment.json")
    write_json(other.root / "environment.json", {**environment, "git": {"commit": "other"}})
    with pytest.raises(UserError, match="its code is not that of lora"):
        run_comparison(Request(one.root, (str(other.root),)))
    assert not (one.root / "comparison").exists(), "nothing is written before it is checked"
    found, folder = run_comparison(Request(one.root, (str(other.root),), ignore=frozenset({"code"})))
    assert len(found.caveats) == 1
    for path in folder.glob("*.csv"):
        rows = list(csv.DictReader(path.read_text().splitlines()))
        assert rows and {row["caveats"] for row in rows} == set(found.caveats), path.name
    page = (folder / "comparison.md").read_text()
    assert page.count("not the same search") >= 4 and page.count("told to ignore it") >= 8


def test_what_differs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = results(tmp_path / "a", monkeypatch, tmp_path / "one")
    (tmp_path / "b").mkdir()
    wider = SPACE.replace("max: 0.02", "max: 0.05")
    other = results(
        tmp_path / "b", monkeypatch, tmp_path / "two", space=request(tmp_path / "b", wider).space, experiment=one.experiment
    )
    with pytest.raises(UserError, match=r"parameters.lr.high: 0.05 → 0.02|parameters.lr.high: 0.02 → 0.05"):
        run_comparison(Request(one.root, (str(other.root),)))


def test_another_sampler_or_repeat_is_the_same_space(pair: tuple[SearchRequest, SearchRequest]) -> None:
    one = pair[0].experiment
    repeat = one.model_copy(update={"training": one.training.model_copy(update={"repeat": 3})})
    first = read_folder(pair[0].root)
    from tune_accent.comparing.folder import seed_of
    from tune_accent.comparing.identity import identity_of

    space = pair[0].space
    again = identity_of(repeat.model_dump(mode="json"), space.space.to_dict(), ("score", "maximize"), None, None)
    assert again.hashes()["space"] == first.identity.hashes()["space"]
    assert seed_of(repeat.model_dump(mode="json")) == "5/3"


def test_points_of_a_grid_are_not_rounded() -> None:
    """Drawn values are multiples of q; W&B's grid, and ours, begins at min, whether that is one or not."""
    space, draw = Space((Uniform("lr", 0.1, 1.0, q=0.3), Integer("lora_rank", 2, 4))), {"lr": 0.4, "lora_rank": 3}
    assert params(space, draw, "grid") == {"lr": 0.4, "lora_rank": 3}
    assert params(space, {**draw, "lr": 0.5}, "random") == {"lr": 0.6, "lora_rank": 3}


def test_a_table_that_its_records_do_not_hold(pair: tuple[SearchRequest, SearchRequest]) -> None:
    one, _ = pair
    row = next(csv.DictReader((one.root / "trials.csv").read_text().splitlines()))
    (one.root / "trials" / row["key"] / "0001.json").write_text("{}")
    with pytest.raises(DataError, match="more epochs here than its records hold"):
        read_folder(one.root)


def test_an_unfinished_search_says_so(pair: tuple[SearchRequest, SearchRequest]) -> None:
    one, _ = pair
    lines = (one.root / "trials.csv").read_text().splitlines()
    write_text(one.root / "trials.csv", "\n".join(lines[:-2]) + "\n")
    found = read_folder(one.root)
    assert len(found.trials) == 7 and "is not finished" in found.notes[0]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("engine:hyperopt", "there is no such engine"),
        ("no/such", "nothing that can be compared"),
        ("ray_results/none/x", "nothing that can be compared"),
        ("HERE", "cannot be compared with itself"),
        ("EMPTY", "no run of W&B"),
    ],
)
def test_targets_that_are_none(pair: tuple[SearchRequest, SearchRequest], tmp_path: Path, target: str, words: str) -> None:
    one, _ = pair
    (tmp_path / "empty").mkdir()
    given = {"HERE": str(one.root), "EMPTY": str(tmp_path / "empty")}.get(target, target)
    with pytest.raises(UserError, match=words):
        run_comparison(Request(one.root, (given,)))
