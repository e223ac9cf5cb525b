"""The closing words of a paper run: verdict with its number, what the new seeds changed, whether it repeats, where the files are."""

from __future__ import annotations

from pathlib import Path

from tune_accent.evaluation import Figure
from tune_accent.paper.arms import over_seeds
from tune_accent.paper.results import WINNER, PaperResults
from tune_accent.paper.selection import selection_words
from tune_accent.reporting.demo import demo_note


def closing_words(root: Path, results: PaperResults) -> str:
    """What a person reads last.

    Args:
        root: the results folder.
        results: of the paper run.
    """
    chosen = results.selection[0]
    known = "" if results.verdict.decidable else " — not decidable"
    lines = [
        "",
        f"Winner on {results.experiment.paper.seeds} new seeds: trial {chosen.trial} (rank {chosen.search_rank} in the search)",
    ]
    lines += [f"  {line}" for line in selection_words(results.selection, results.metric, results.goal)]
    lines += ["", "On test speakers (mean over seeds, 95 % over seeds and speakers):", *_figures(results)]
    lines += [f"Verdict: {results.verdict.name}{known}: {results.verdict.deciding}"]
    lines += [f"  {reason}" for reason in results.verdict.reasons]
    lines += ["", *_reproduction(results), *_control(results), *_openings(results)]
    lines += [f"note: {note}" for note in results.notes]
    lines += [
        "",
        f"Files: {root}/paper/report.html, {root}/paper/tables/, {root}/paper/figures/, {root}/paper/adapter/, {root}/paper.zip",
    ]
    lines.append(f"Check: python -m tune_accent.rerun --verify {root}")
    note = demo_note(results.experiment)
    lines += ["", note] if note else []
    return "\n".join(lines) + "\n"


def _figures(results: PaperResults) -> list[str]:
    found = [run.neutral for run in results.tested_of(WINNER)]
    names = {"accent_f1": "accent F1", "leakage": "speaker leakage", "text_drop": "text drop"}
    return [f"  {title:<16} {_shown(over_seeds(results.experiment, found, name).figure)}" for name, title in names.items()]


def _shown(figure: Figure) -> str:
    if figure.value is None:
        return f"not identifiable ({figure.reason})"
    interval = "no interval" if figure.low is None else f"{figure.low:+.2f} … {figure.high:+.2f}"
    chance = "" if figure.chance is None else f", chance {figure.chance:.2f}"
    return f"{figure.value:+.3f} ({interval}{chance})"


def _reproduction(results: PaperResults) -> list[str]:
    found = results.reproduction
    if found is None:
        return []
    twice = "equal to the bit" if found.same_twice else "NOT equal"
    search = {True: "equal to the bit", False: "NOT equal", None: "cannot be compared"}[found.same_as_search]
    lines = [f"Twice from the spec on {found.device}: {twice}; with the search's own trial: {search}."]
    lines += [f"  {text}" for text in (found.difference, found.cause) if text]
    return lines


def _control(results: PaperResults) -> list[str]:
    if results.control is None:
        return ["Whether A controls the accent of generated speech was not measured (paper.control.enabled)."]
    follows = results.control.figures.get("follows")
    heard = "" if follows is None else f"generated speech is heard with the accent that was set: {_shown(follows)}. "
    return [f"Does A control the accent? {heard}{results.control.note}"]


def _openings(results: PaperResults) -> list[str]:
    more = [f"  {one.time}: {one.reason}" for one in results.openings[1:]]
    return [f"The test split was opened {len(results.openings)} times:", *more] if more else []
