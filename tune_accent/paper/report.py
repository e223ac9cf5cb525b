"""`report.md` and `report.html` of a paper run: what was asked, what came out, and what it does not show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from tune_accent import __version__
from tune_accent.paper.arms import Measured
from tune_accent.paper.report_words import (
    OF_Z,
    backbone_name,
    code_words,
    control_words,
    data_name,
    demo_notes,
    limits,
    machine_words,
    verdict_words,
    version_words,
)
from tune_accent.paper.results import PaperResults
from tune_accent.paper.search_tables import reproduction_notes
from tune_accent.reporting.figures import Picture
from tune_accent.reporting.page import Block, Code, Grid, Items, Note, Page, Paragraph, Plate, Section, Tone
from tune_accent.reporting.tables import Sheet

TONES: Mapping[str, Tone] = {"GO": "good", "CONDITIONAL": "warning", "ADJUST": "warning", "NO-GO": "bad"}
CAPTIONS = {
    "pareto": "Points of the search are of validation speakers, and it chose among them; the diamond is of test speakers. Lines are the limits of the gate.",
    "leakage_weight": "Full-length trials differ in other settings, too; the square is the winner with the leakage weight set to 0.",
    "importances": "Shares of the variance of the score (fANOVA), and of what sets the best tenth apart (PED-ANOVA). Both are of the trials that were "
    "drawn, which a sampler does not draw evenly.",
    "history": "The score of a stopped trial is of the epoch at which it was stopped.",
    "survival": "Trials that finished each epoch, and how those that ended there ended.",
    "learning": "No seed was chosen by these curves: the last epoch counts.",
}


def report_page(measured: Measured, sheets: Mapping[str, Sheet], pictures: Mapping[str, Picture]) -> Page:
    """The report.

    Args:
        measured: the arms over seeds.
        sheets: `sheets.paper_sheets`.
        pictures: `figures.paper_figures`; the page refers to them as `figures/<name>.png`.
    """
    results, spec = measured.results, measured.results.experiment
    shown = {name: replace(picture, name=f"figures/{name}") for name, picture in pictures.items()}
    sections = [
        Section("The experiment", list(_record(results))),
        Section("Verdict", list(_verdict(results))),
        Section("Openings of the test split", [*_openings(results), *_grids(sheets, "openings")]),
        Section(
            "Main results", [*_grids(sheets, "main"), *_plates(shown, "pareto"), *_grids(sheets, "representations", "seeds")]
        ),
        Section("By accent", _grids(sheets, "leakage", "confusion")),
        Section("Does A control the accent of generated speech?", list(_control(measured, sheets))),
        Section("Baselines and ablations", [*_grids(sheets, "differences", "wrong_accent"), *_plates(shown, "learning")]),
        Section("Selection", _grids(sheets, "selection")),
        Section("The search", list(_search(sheets, shown))),
        Section("Reproduction", [Items(reproduction_notes(results)), *_grids(replace_notes(sheets), "reproduction")]),
        Section("Limits", [Items(limits(measured))]),
        Section(
            "Compute", [*_grids(sheets, "compute", "failures"), Paragraph(f"Machine: {machine_words(results.environment)}.")]
        ),
        Section("Provenance", list(_provenance(results))),
    ]
    subtitle = f"Backbone {backbone_name(spec)}, frozen; data {data_name(spec)}; seed {spec.seed}"
    footer = f"tune_accent {__version__}. Exact numbers: tables/*.csv. LaTeX: tables/tables.tex."
    return Page(f"Paper run of {results.name}", subtitle, [section for section in sections if section.blocks], footer)


def replace_notes(sheets: Mapping[str, Sheet]) -> dict[str, Sheet]:
    """The sheets without notes, for a section that says them itself."""
    return {name: replace(sheet, notes=()) for name, sheet in sheets.items()}


def _record(results: PaperResults) -> Iterator[Block]:
    record = results.experiment.record
    told = [
        ("Hypothesis", record.hypothesis),
        ("Independent variable", record.independent_variable),
        ("Controlled variables", "; ".join(record.controlled_variables)),
        ("Metrics", "; ".join(record.metrics)),
        ("Result", record.result),
        ("Notes", record.notes),
    ]
    written = tuple(f"{head}: {text}" for head, text in told if text)
    missing = ", ".join(head.lower() for head, text in told if not text)
    if written:
        yield Items(written)
    if missing:
        yield Paragraph(f"Not filled in (section `record` of the config): {missing}.")
    for note in demo_notes(results.experiment):
        yield Note(note, "warning")


def _verdict(results: PaperResults) -> Iterator[Block]:
    found = results.verdict
    yield Note(verdict_words(found), TONES[found.name] if found.decidable else "warning")
    if found.reasons:
        yield Items(found.reasons)
    yield Paragraph(OF_Z)


def _openings(results: PaperResults) -> Iterator[Block]:
    again = results.openings[1:]
    if again:
        reasons = "; ".join(f"{one.time}: {one.reason}" for one in again)
        yield Note(f"The test split was opened {len(results.openings)} times. Reasons given: {reasons}", "warning")
    elif results.openings:
        yield Paragraph("The test split was opened once.")


def _control(measured: Measured, sheets: Mapping[str, Sheet]) -> Iterator[Block]:
    control = measured.results.control
    yield Paragraph(OF_Z)
    first, *rest = control_words(control)
    if control is None:
        yield Note(first, "warning")
        return
    yield Items((first, *rest))
    yield from _grids(replace_notes(sheets), "control_figures", "control_matrix")


def _search(sheets: Mapping[str, Sheet], shown: Mapping[str, Picture]) -> Iterator[Block]:
    yield from _grids(sheets, "search_space", "trial_states")
    yield from _plates(shown, "history", "survival", "leakage_weight", "importances")
    yield Paragraph("Every trial is in tables/trials.csv.")


def _provenance(results: PaperResults) -> Iterator[Block]:
    yield Items(
        (
            f"Code: {code_words(results.environment)}.",
            f"Versions: {version_words(results.environment)}.",
            *(f"{name}: {digest}" for name, digest in results.hashes.items()),
        )
    )
    yield Code("\n".join(results.commands))


def _grids(sheets: Mapping[str, Sheet], *names: str) -> list[Block]:
    blocks: list[Block] = []
    for name in names:
        if name in sheets:
            blocks.append(Grid(sheets[name].table))
            if sheets[name].notes:
                blocks.append(Items(sheets[name].notes))
    return blocks


def _plates(shown: Mapping[str, Picture], *names: str) -> list[Block]:
    return [Plate(shown[name], CAPTIONS[name]) for name in names]
