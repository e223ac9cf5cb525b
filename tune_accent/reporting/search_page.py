"""`report/index.html` of a search: how it stands, its best trial and verdict, figures, every trial by state, and where everything else is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import quote

from tune_accent import __version__
from tune_accent.reporting.demo import demo_note
from tune_accent.reporting.figures import Picture
from tune_accent.reporting.page import Block, Code, Grid, Items, Links, Note, Page, Paragraph, Plate, Section, Tone
from tune_accent.reporting.search_figures import CAPTIONS
from tune_accent.reporting.search_view import SearchView, TrialView
from tune_accent.reporting.search_words import (
    NO_BEST,
    best_words,
    luck_words,
    recorded_verdict,
    short,
    state_words,
    verdict_words,
)
from tune_accent.reporting.stored_page import under
from tune_accent.reporting.tables import Table, number
from tune_accent.tracking.wandb import group_name

TONES: Mapping[str, Tone] = {"GO": "good", "CONDITIONAL": "warning", "ADJUST": "warning", "NO-GO": "bad"}
ORDER = ("COMPLETE", "STOPPED", "RUNNING", "DIVERGED", "OOM", "CRASHED", "TIMEOUT", "DUPLICATE")
FIGURES = {"accent_f1": "accent F1", "speaker_leakage": "leakage", "val_loss": "val loss", "score": "score"}


def search_page(view: SearchView, pictures: Mapping[str, Picture]) -> Page:
    """The report.

    Args:
        view: the search.
        pictures: `search_figures.search_figures(view)`.
    """
    spec = view.experiment
    sections = [
        Section("Result", list(_result(view))),
        Section("Figures", [Plate(picture, CAPTIONS.get(name, "")) for name, picture in pictures.items()]),
        Section("Trials", [Grid(table) for table in _tables(view)]),
        *_comparison(view),
        Section("Tracking", list(_tracking(view))),
        Section("Files", [Links(tuple(_files(view)))]),
    ]
    subtitle = f"Backbone {spec.model.backbone}, frozen; data {spec.data.root}; seed {spec.seed}"
    footer = f"tune_accent {__version__}. Every figure is of validation speakers; this page is made of the folder alone: python -m tune_accent.report."
    return Page(f"Search {view.name}", subtitle, [section for section in sections if section.blocks], footer)


def _result(view: SearchView) -> Iterator[Block]:
    if note := demo_note(view.experiment):
        yield Note(note, "warning")
    yield Paragraph(state_words(view.name, view.trials, view.run_cap, view.finished))
    if view.best is None:
        yield Paragraph(NO_BEST)
        return
    found = recorded_verdict(view.best)
    first, *reasons = (line.strip() for line in verdict_words(found))
    yield Note(first, TONES.get(found.name, "warning") if found.decidable else "warning")
    if reasons:
        yield Items(tuple(reasons))
    first, *lines = (line.strip() for line in best_words(view.best, view.experiment.score.leakage_limit))
    yield Paragraph(first)
    yield Items(tuple(re.sub(" {2,}", " · ", line) for line in lines))  # columns of the terminal
    yield Note(" ".join(line.strip() for line in luck_words(view.best)), "warning")


def _tables(view: SearchView) -> Iterator[Table]:
    known = [*ORDER, *sorted({trial.state for trial in view.trials} - {*ORDER})]
    for state in known:
        trials = [trial for trial in view.trials if trial.state == state]
        if trials:
            yield _table(view, state, _ranked(view, trials) if state == "COMPLETE" else trials)


def _ranked(view: SearchView, trials: Sequence[TrialView]) -> list[TrialView]:
    """Feasible ones first, then by the metric, as the search chooses; the earliest among equals."""
    sign = -1.0 if view.goal == "maximize" else 1.0

    def place(trial: TrialView) -> tuple[bool, float, int]:
        last = trial.reports[-1]
        return not last.get("feasible", True), sign * float(last[view.metric]), trial.number

    return sorted(trials, key=place)


def _table(view: SearchView, state: str, trials: Sequence[TrialView]) -> Table:
    names = list(trials[0].params)
    figures = {**FIGURES, view.metric: FIGURES.get(view.metric, view.metric)}
    noted = any(trial.note for trial in trials)
    rows = []
    for trial in trials:
        last = trial.reports[-1] if trial.reports else {}
        values = (number(last.get(name)) for name in figures)
        rows.append(
            (
                str(trial.number),
                str(len(trial.reports)),
                *(_cell(trial.params[name]) for name in names),
                *values,
                *([trial.note] if noted else []),
            )
        )
    columns = ("trial", "epochs", *names, *figures.values(), *(["why"] if noted else []))
    best = None if view.best is None else view.best["trial"]
    marked = frozenset(place for place, trial in enumerate(trials) if trial.number == best)
    return Table(columns, tuple(rows), f"{state}: {len(trials)}, figures of the last epoch", marked)


def _cell(text: str) -> str:
    """A parameter's value as people read it; whole numbers and words as they are."""
    if not any(mark in text for mark in ".e"):
        return text
    try:
        return short(float(text))
    except ValueError:
        return text


def _comparison(view: SearchView) -> Iterator[Section]:
    if view.comparison is not None:
        first, *rest = (under(section, "Beside other searches") for section in view.comparison.sections)
        link = Links((("The comparison on a page of its own", "../comparison/index.html"),))
        yield Section(first.heading, [Paragraph(view.comparison.subtitle), *first.blocks, link])
        yield from rest


def _tracking(view: SearchView) -> Iterator[Block]:
    tracking = view.experiment.tracking
    if tracking.tensorboard:
        yield Paragraph("TensorBoard (after `pip install tensorboard`), in the folder that holds this search's:")
        yield Code(f"tensorboard --logdir {view.name}/tensorboard")
    if tracking.wandb.mode == "off":
        return
    group = group_name(view.experiment, view.name, view.identity)
    yield Paragraph(f"W&B, {tracking.wandb.mode}: project {tracking.wandb.project}, group {group}, a run per trial.")
    if view.offline_runs:
        yield Code(f"wandb sync {view.name}/wandb/offline-run-*")
    if tracking.wandb.mode == "online" and tracking.wandb.entity:
        parts = (tracking.wandb.entity, tracking.wandb.project, "groups", group)
        yield Links((("The group on wandb.ai", "https://wandb.ai/" + "/".join(quote(part, safe="") for part in parts)),))


def _files(view: SearchView) -> Iterator[tuple[str, str]]:
    yield "Every trial: trials.csv", "../trials.csv"
    yield "Every figure of every epoch: epochs.jsonl", "../epochs.jsonl"
    yield "What was searched: spec.yaml", "../spec.yaml"
    yield "Versions and machine: environment.json", "../environment.json"
    if view.best is not None:
        yield "The best trial: best.json", "../best.json"
        yield "Its adapter: best/", "../best/README.md"
    if view.comparison is not None:
        yield "The comparison", "../comparison/index.html"
    if view.paper:
        yield "The paper run", "../paper/report.html"
