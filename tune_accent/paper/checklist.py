"""The reproducibility checklist, filled in from the records alone: an item that they do not show stays open, and says so.

Items follow the machine learning reproducibility checklist (Pineau et al. 2021, J. Mach. Learn. Res. 22:164) and that of NeurIPS.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tune_accent.paper.arms import Measured
from tune_accent.paper.report_words import (
    backbone_name,
    code_words,
    control_words,
    data_name,
    hours,
    licence_notes,
    machine_words,
    verdict_words,
    version_words,
)
from tune_accent.paper.results import PaperResults
from tune_accent.reporting.tables import escape_markdown
from tune_accent.tuning.results import resolved_values

OPEN = "not in the records; to be answered by the authors"


@dataclass(frozen=True)
class Item:
    """One question of the checklist; `met` only where the records answer it with yes."""

    question: str
    met: bool
    answer: str


def checklist(measured: Measured) -> str:
    """The checklist as Markdown."""
    parts = {
        "Claims and limits": _claims(measured),
        "Data": _data(measured),
        "Search and training": _search(measured),
        "Measurement": _measurement(measured),
        "Compute and software": _compute(measured.results),
        "Reproduction": _reproduction(measured.results),
        "Licences, people, use": _people(measured.results),
    }
    title = f"# Reproducibility checklist: {escape_markdown(measured.results.name)}\n\n"
    intro = "Answered from the records of this run; an unticked item is not met, or not shown by them.\n"
    return title + intro + "".join(_section(head, list(items)) for head, items in parts.items())


def _section(head: str, items: list[Item]) -> str:
    lines = [f"- [{'x' if item.met else ' '}] {item.question} {escape_markdown(item.answer)}\n" for item in items]
    return f"\n## {head}\n\n" + "".join(lines)


def _claims(measured: Measured) -> Iterator[Item]:
    results = measured.results
    yield Item("Claim and deciding number stated?", True, verdict_words(results.verdict))
    decided = results.verdict.decidable
    yield Item(
        "Enough speakers to decide?",
        decided,
        f"{measured.winner.speakers_per_accent} test speakers in the smallest accent, {results.experiment.gate.min_speakers} are asked for.",
    )
    yield Item("Control of generated speech by A tested?", results.control is not None, " ".join(control_words(results.control)))
    yield Item("Limits stated?", True, "Section Limits of report.md.")
    record = results.experiment.record
    yield Item(
        "Hypothesis written down in the config?", bool(record.hypothesis), record.hypothesis or "The section `record` holds none."
    )


def _data(measured: Measured) -> Iterator[Item]:
    results, data = measured.results, measured.results.experiment.data
    yield Item("Data set and source named?", True, f"{data_name(results.experiment)}, source {data.source.kind}.")
    counts = _speakers(measured)
    yield Item("Splits with numbers of speakers?", bool(counts), counts or OPEN)
    shared = {name: results.hashes[name] for name in ("manifest", "splits", "cache") if name in results.hashes}
    words = ", ".join(f"{name} {digest[:16]}" for name, digest in shared.items())
    yield Item(
        "Data and splits identified by hash?",
        len(shared) == 3,
        f"SHA-256, taken before anything ran: {words or 'none recorded'}.",
    )
    loud = "level untouched" if data.loudness_lufs is None else f"{data.loudness_lufs:g} LUFS"
    copies = (
        f"{data.transforms.copies} transformed copies of each training utterance" if data.transforms.copies else "no augmentation"
    )
    yield Item(
        "Preprocessing described?",
        True,
        f"Mono, 24 kHz, {loud}, {data.min_duration_s:g} to {data.max_duration_s:g} s, codec {data.codec.name}, {copies}.",
    )
    allowed = "; ".join(data.allow_confounds)
    yield Item("Accepted confounds listed?", True, allowed or "None was accepted.")


def _speakers(measured: Measured) -> str:
    runs = measured.winner.runs
    if not runs:
        return ""
    per = runs[0].neutral.per_accent
    told = "; ".join(f"{name}: {one.train_speakers} train, {one.scored_speakers} test" for name, one in per.items())
    reports = [trial.reports[-1] for trial in measured.results.search if trial.reports and "evaluation" in trial.reports[-1]]
    val: Mapping[str, Any] = reports[0]["evaluation"]["per_accent"] if reports else {}
    validation = ", ".join(f"{name}: {one['scored_speakers']}" for name, one in val.items())
    splits = measured.results.experiment.data.splits
    return f"Speakers by accent: {told}. Validation: {validation or 'not recorded'}. {splits.folds} folds of utterances within speakers, of which fold {splits.held_fold} of train speakers is never trained on."


def _search(measured: Measured) -> Iterator[Item]:
    results, spec = measured.results, measured.results.experiment
    space = ", ".join(parameter.name for parameter in results.space.searched)
    yield Item("Search space given?", True, f"{space}: tables/search_space.csv.")
    states = ", ".join(f"{count} {state}" for state, count in sorted(Counter(trial.state for trial in results.search).items()))
    sampler = (
        f" (sampler {spec.tuning.sampler}, {spec.tuning.startup_trials} first ones without a model)"
        if results.method == "bayes"
        else ""
    )
    yield Item("Search method and number of trials?", True, f"{results.method}{sampler}, {len(results.search)} trials: {states}.")
    finished = sum(run.state == "COMPLETE" for run in results.runs)
    yield Item(
        "Number of training runs beyond the search?",
        True,
        f"{len(results.runs)} of winner, baselines and ablations, {finished} of them finished; {len(results.selection)} candidates were compared on new seeds first.",
    )
    yield Item(
        "How the winner was chosen?",
        bool(results.selection),
        "Mean score over new seeds on validation speakers, ties by lower unseen leakage; never by test speakers.",
    )
    rank, alpha, lr, weight = resolved_values(spec, measured.winner.arm.params)
    yield Item(
        "Chosen values given?",
        True,
        f"LoRA rank {rank}, alpha {alpha:g}, learning rate {lr:.6g}, leakage weight {weight:g}; {spec.training.epochs} epochs, the last one counts.",
    )
    repeats = sorted({run.repeat for run in results.runs})
    yield Item(
        "Seeds given?",
        True,
        f"Experiment seed {spec.seed}; training.repeat {', '.join(map(str, repeats))}. All others are derived from these.",
    )
    yield Item(
        "Baselines under the same seeds and budget?",
        bool(measured.others),
        ", ".join(one.arm.name for one in measured.others) or "None was run.",
    )


def _measurement(measured: Measured) -> Iterator[Item]:
    results, spec = measured.results, measured.results.experiment
    seeds = len(measured.winner.runs)
    yield Item("Metrics defined?", True, "Below the main table.")
    yield Item("Central tendency and variation?", seeds > 1, f"Mean and standard deviation over {seeds} seeds of the winner.")
    yield Item(
        "Intervals, and over what?",
        seeds > 1,
        f"95 %, over seeds and speakers (crossed bootstrap, {spec.evaluation.bootstrap} resamples); utterances are never resampled.",
    )
    yield Item(
        "Chance level measured?",
        True,
        f"Permutation null of macro-F1, {spec.paper.permutations} permutations of the accents across speakers.",
    )
    yield Item("Correction for several comparisons?", False, "Differences to baselines and ablations are not corrected.")
    once = len(results.openings) == 1
    reasons = "; ".join(opening.reason for opening in results.openings[1:])
    yield Item(
        "Test split used once?",
        once,
        "Opened once." if once else f"Opened {len(results.openings)} times: {reasons or 'no opening is recorded'}.",
    )
    yield Item("More than one split of the speakers?", False, "One split.")


def _compute(results: PaperResults) -> Iterator[Item]:
    spent = hours(results)
    told = ", ".join(f"{part} {value:.2f} h" for part, value in spent.items())
    peak = "" if results.compute.peak_mb is None else f"; peak memory of a worker {results.compute.peak_mb:,.0f} MB"
    yield Item(
        "Compute of all runs, failed and stopped ones too?",
        bool(spent),
        f"{told or 'nothing recorded'}{peak}. tables/compute.csv.",
    )
    yield Item("Hardware named?", "processor" in results.environment, f"{machine_words(results.environment)}.")
    yield Item("Versions recorded?", "packages" in results.environment, f"{version_words(results.environment)}.")
    git = results.environment.get("git") or {}
    yield Item("Code identified?", bool(git) and not git.get("dirty"), f"{code_words(results.environment)}.")
    yield Item("Exact commands?", bool(results.commands), "commands.txt.")


def _reproduction(results: PaperResults) -> Iterator[Item]:
    found = results.reproduction
    if found is None:
        yield Item("Winner trained again?", False, "No.")
        return
    change = (
        "" if found.difference is None else f" First difference: {found.difference}; likely cause: {found.cause or 'unknown'}."
    )
    yield Item(
        "Bit-identical in two fresh processes?",
        found.same_twice,
        f"{'Yes' if found.same_twice else 'No'}, on {found.device}.{change}",
    )
    beside = {True: "Yes.", False: "No.", None: "Cannot be told: the search kept too little."}[found.same_as_search]
    yield Item("Bit-identical to the search's own trial?", found.same_as_search is True, beside)


def _people(results: PaperResults) -> Iterator[Item]:
    notes = licence_notes(results.experiment)
    yield Item(
        "Backbone named?",
        True,
        f"{backbone_name(results.experiment)}, SHA-256 {results.hashes.get('backbone', 'not recorded')[:16]}.",
    )
    yield Item("Licences of weights and data?", all("not recorded" not in note for note in notes), " ".join(notes))
    demo = results.experiment.data.source.kind == "demo"
    yield Item("Consent of the speakers?", False, "No people were recorded: the voices are synthetic." if demo else f"{OPEN}.")
    yield Item("Broader impact discussed?", False, f"{OPEN}.")
