"""The tables of a paper run, from real evaluations of simulated codes."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.paper.paper_results import ODD, paper_results, trained
from tests.reporting.latex_structure import check_structure
from tune_accent.evaluation import hierarchical_interval
from tune_accent.paper.arms import measure
from tune_accent.paper.results import Opening, PaperResults
from tune_accent.paper.sheets import paper_sheets
from tune_accent.reporting.latex import sheet_latex
from tune_accent.reporting.tables import Sheet, sheet_markdown, to_csv

FROM_TEST = ("main", "representations", "seeds", "leakage", "confusion", "differences", "wrong_accent")
AGAIN = Opening("2026-06-01T00:00:00+00:00", "0" * 64, "speaker 7 & 50% were mislabelled_{x}")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> PaperResults:
    return paper_results(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def sheets(results: PaperResults) -> dict[str, Sheet]:
    return paper_sheets(measure(results))


def without(results: PaperResults, *gone: tuple[str, int]) -> PaperResults:
    """The same run, in which these arms and seeds diverged."""
    arms = {arm.name: arm for arm in results.arms}
    runs = [trained(arms[run.arm], run.repeat, 1, "DIVERGED") if (run.arm, run.repeat) in gone else run for run in results.runs]
    return replace(results, runs=runs, tested=[run for run in results.tested if (run.arm, run.repeat) not in gone])


def record(sheet: Sheet, **where: Any) -> Any:
    """The one record with these values."""
    (found,) = [one for one in sheet.records if all(one[key] == value for key, value in where.items())]
    return found


def test_the_main_table_holds_what_the_evaluations_say(results: PaperResults, sheets: dict[str, Sheet]) -> None:
    runs = [run.neutral for run in results.tested_of("winner")]
    main, found = sheets["main"], record(sheets["main"], arm="winner")
    assert [row[0] for row in main.table.rows] == ["winner", "no_lora", "no_leakage"]
    assert main.table.marked == {0}
    values = [one.accent_f1.value for one in runs]
    assert found["accent_f1"] == pytest.approx(sum(value for value in values if value is not None) / 2)
    assert found["leakage_unseen"] == hierarchical_interval(runs, "leakage_unseen").value
    assert found["leakage_unseen_low"] < found["leakage_unseen"] < found["leakage_unseen_high"]
    assert found["accent_f1_p"] == max(one.accent_f1.p or 0.0 for one in runs)
    assert found["leakage_raw_ceiling"] == runs[0].leakage_raw_ceiling.value
    assert found["loss_ratio"] == pytest.approx((4.91 + 4.92) / 2 / 5.0)
    assert (found["seeds"], found["accent_f1_n"], found["verdict"]) == (2, 12, results.verdict.name)
    assert found["accent_f1_corrected"] == pytest.approx(
        (found["accent_f1"] - found["accent_f1_chance"]) / (1 - found["accent_f1_chance"])
    )
    assert record(main, arm="no_leakage")["leakage_unseen"] > found["leakage_unseen"]


def test_the_p_value_is_the_largest_over_seeds(results: PaperResults) -> None:
    first, *rest = results.tested
    worse = replace(first.neutral, accent_f1=replace(first.neutral.accent_f1, p=0.25))
    found = paper_sheets(measure(replace(results, tested=[replace(first, neutral=worse), *rest])))
    assert record(found["main"], arm="winner")["accent_f1_p"] == 0.25


def test_representations_stand_beside_each_other(results: PaperResults, sheets: dict[str, Sheet]) -> None:
    found = sheets["representations"]
    assert len(found.records) == 3 * len(results.arms)
    raw = [run.raw.accent_f1.value or 0.0 for run in results.tested_of("winner")]
    assert record(found, arm="winner", representation="raw")["accent_f1"] == pytest.approx(sum(raw) / 2)
    assert "accent-only ceiling" in found.table.columns


def test_leakage_by_accent_averages_to_the_leakage(sheets: dict[str, Sheet]) -> None:
    for side in ("unseen", "seen"):
        each = [one["leakage"] for one in sheets["leakage"].records if one["side"] == side]
        assert len(each) == 3
        assert sum(each) / 3 == pytest.approx(record(sheets["main"], arm="winner")[f"leakage_{side}"])


def test_confusion_counts_every_utterance_of_every_seed(results: PaperResults, sheets: dict[str, Sheet]) -> None:
    found = sheets["confusion"].records
    assert sum(one["utterances"] for one in found) == 2 * 3 * 4 * 6
    for accent in results.tested[0].neutral.gate_accents:
        assert sum(one["share"] for one in found if one["true"] == accent) == pytest.approx(1.0)


def test_differences_are_arm_minus_winner(sheets: dict[str, Sheet]) -> None:
    main, found = sheets["main"], record(sheets["differences"], arm="no_leakage")
    base = record(main, arm="winner")
    for name in ("accent_f1", "leakage_unseen", "leakage_seen", "leakage_auc"):
        assert found[f"{name}_difference"] == pytest.approx(record(main, arm="no_leakage")[name] - base[name])
    assert found["pairs"] == 2
    assert {one["kind"] for one in sheets["differences"].records} == {"baseline", "ablation"}


def test_the_curse_of_the_winner_is_visible(sheets: dict[str, Sheet]) -> None:
    found = sheets["selection"]
    assert record(found, trial=7)["score_change"] == pytest.approx(0.61 - 0.75)
    assert found.table.rows[0][-1] == "2 → 1"
    assert found.table.marked == {0}
    assert "trial 3, rank 2 in the search, whose best was trial 7" in found.notes[0]
    assert "-0.095" in found.notes[1]


def test_states_and_trials_add_up(results: PaperResults, sheets: dict[str, Sheet]) -> None:
    assert sum(one["trials"] for one in sheets["trial_states"].records) == len(results.search) == len(sheets["trials"].records)
    assert {one["parameter"] for one in sheets["search_space"].records} == {one.name for one in results.space.parameters}


def test_csv_keeps_every_digit(sheets: dict[str, Sheet]) -> None:
    for sheet in sheets.values():
        rows = list(csv.DictReader(io.StringIO(to_csv(sheet.records))))
        assert len(rows) == len(sheet.records)
        for row, exact in zip(rows, sheet.records, strict=True):
            for key, value in exact.items():
                assert (
                    (float(row[key]) == value)
                    if isinstance(value, float)
                    else (row[key] == ("" if value is None else str(value)))
                )


def test_a_reopening_is_printed_in_every_table_of_test_figures(results: PaperResults, sheets: dict[str, Sheet]) -> None:
    again = paper_sheets(measure(replace(results, openings=[*results.openings, AGAIN])))
    for name in FROM_TEST:
        assert any(AGAIN.reason in note for note in again[name].notes), name
        assert all(AGAIN.reason in one["test_split_reopened"] for one in again[name].records), name
        assert r"speaker 7 \& 50\% were mislabelled\_\{x\}" in sheet_latex(again[name])
        assert "speaker 7 &amp; 50% were" in sheet_markdown(again[name])
        assert {one["test_split_reopened"] for one in sheets[name].records} == {""}
    for name in ("control_figures", "control_matrix", "openings"):
        assert any(AGAIN.reason in note for note in again[name].notes), name
    assert not [note for name in FROM_TEST for note in sheets[name].notes if "reopened" in note]


def test_odd_names_break_no_table(tmp_path: Path) -> None:
    odd = paper_sheets(measure(paper_results(tmp_path, names=("São Paulo", ODD, "b|c"))))
    for sheet in odd.values():
        check_structure(sheet_latex(sheet), columns=len(sheet.table.columns))
        lines = [line for line in sheet_markdown(sheet).splitlines() if line.startswith("| ")]
        assert {len(line.replace("\\\\", "").replace("\\|", "").split("|")) for line in lines} == {len(sheet.table.columns) + 2}
    assert ODD in {one["accent"] for one in odd["leakage"].records}


def test_a_single_arm_has_no_differences(results: PaperResults) -> None:
    alone = replace(results, arms=results.arms[:1], runs=results.runs[:2], tested=results.tested[:2])
    found = paper_sheets(measure(alone))
    assert "differences" not in found
    assert len(found["main"].records) == 1


def test_a_missing_text_drop_is_a_dash(tmp_path: Path) -> None:
    found = paper_sheets(measure(paper_results(tmp_path, texts=False)))["main"]
    assert found.table.rows[0][found.table.columns.index("text drop")] == "–"
    assert found.records[0]["text_drop"] is None


def test_a_failed_seed_is_in_no_mean_and_named(results: PaperResults) -> None:
    found = paper_sheets(measure(without(results, ("no_lora", 2))))
    main = record(found["main"], arm="no_lora")
    assert (main["seeds"], main["failed_seeds"], main["accent_f1_sd"]) == (1, 1, None)
    assert main["accent_f1"] == results.tested_of("no_lora")[0].neutral.accent_f1.value
    assert any("no_lora: seed 2 DIVERGED" in note for note in found["main"].notes)
    assert any("no_lora has a single seed" in note for note in found["main"].notes)
    assert record(found["differences"], arm="no_lora")["pairs"] == 1
    assert [one["failure"] for one in found["failures"].records] == ["loss is nan at step 7"]
    assert "failures" not in paper_sheets(measure(results))


def test_an_arm_without_a_seed_is_still_in_the_table(results: PaperResults) -> None:
    found = paper_sheets(measure(without(results, ("no_lora", 1), ("no_lora", 2))))
    main = record(found["main"], arm="no_lora")
    assert (main["seeds"], main["accent_f1"], main["verdict"]) == (0, None, None)
    assert any("no_lora: seed 1 DIVERGED, seed 2 DIVERGED; no seed finished" in note for note in found["main"].notes)
    assert record(found["differences"], arm="no_lora")["accent_f1_difference"] is None


def test_what_was_not_asked_for_has_no_table(results: PaperResults) -> None:
    bare = replace(results, control=None, reproduction=None, tested=[replace(run, wrong={}) for run in results.tested])
    assert not {"control_figures", "control_matrix", "reproduction", "wrong_accent"} & set(paper_sheets(measure(bare)))
