"""Tables of what the test split was not opened for: selection, search space, trials, compute, openings, reproduction; and of the control experiment."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tune_accent.config.parameters import Categorical, Constant, Integer, Parameter
from tune_accent.paper.result_tables import reopening_notes
from tune_accent.paper.results import Candidate, PaperResults
from tune_accent.reporting.tables import MISSING, Sheet, Table, interval, number
from tune_accent.tuning.results import FIGURES, RESOLVED, resolved_values

STATES = {
    "COMPLETE": "ran its full length",
    "STOPPED": "stopped early at a rung",
    "DIVERGED": "a loss or figure was not finite",
    "OOM": "out of memory, alone on the device as well",
    "CRASHED": "its worker was lost for good",
    "TIMEOUT": "an epoch took too long",
    "DUPLICATE": "same settings as an earlier trial, not trained again",
    "RUNNING": "not ended",
}


def selection_table(results: PaperResults) -> Sheet:
    """The search's ranking beside that on new seeds: the winner's curse, visible."""
    rows, records = [], []
    for one in results.selection:
        mean, sd = mean_sd(one.scores)
        leakage, _ = mean_sd(one.leakages)
        change = None if mean is None else mean - one.search_score
        spread = number(mean) if sd is None else f"{number(mean)} ± {number(sd)}"
        moved = "new" if not one.scores else f"{one.search_rank} → {one.rank}"
        cells = (str(one.trial), str(one.search_rank), number(one.search_score), spread, number(change, signed=True))
        rows.append((*cells, number(leakage, signed=True), str(len(one.scores)), moved if one.scores else "no seed finished"))
        records.append(
            {
                "trial": one.trial,
                "arm": one.arm,
                "search_rank": one.search_rank,
                "search_score": one.search_score,
                "rank": one.rank,
                "score": mean,
                "score_sd": sd,
                "score_change": change,
                "leakage_unseen": leakage,
                "seeds": len(one.scores),
                "scores": " ".join(map(repr, one.scores)),
                "leakages": " ".join(map(repr, one.leakages)),
                "chosen": one.chosen,
            }
        )
    head = (
        "trial",
        "rank in search",
        "score in search",
        "score on new seeds",
        "change",
        "leakage unseen",
        "seeds",
        "rank before → after",
    )
    caption = "Selection on validation speakers: the search's own score, and mean ± standard deviation over new seeds."
    chosen = frozenset(place for place, one in enumerate(results.selection) if one.chosen)
    return Sheet("selection", Table(head, tuple(rows), caption, chosen), tuple(records), selection_notes(results.selection))


def selection_notes(selection: Sequence[Candidate]) -> tuple[str, ...]:
    """What changed against the search's own ranking."""
    measured = [one for one in selection if one.scores]
    if not measured:
        return ("No candidate has finished on a new seed.",)
    chosen = next(one for one in selection if one.chosen)
    first = min(selection, key=lambda one: one.search_rank)
    same = (
        "the search's own best, too"
        if chosen is first
        else f"rank {chosen.search_rank} in the search, whose best was trial {first.trial}"
    )
    changes = [statistics.fmean(one.scores) - one.search_score for one in measured]
    return (
        f"Chosen by mean score over new seeds: trial {chosen.trial}, {same}.",
        f"From search to new seeds the score of {len(measured)} candidates changed by {statistics.fmean(changes):+.3f} on average. A fall is what the best of "
        "many trials owe to the luck of their seeds (winner's curse). Speakers are the same in both.",
    )


def space_table(results: PaperResults) -> Sheet:
    """What was searched, and the winner's values."""
    chosen = next((one for one in results.arms if one.name == "winner"), None)
    rows, records = [], []
    for parameter in results.space.parameters:
        kind, domain = _domain(parameter)
        value = None if chosen is None else chosen.params.get(parameter.name)
        rows.append((parameter.name, kind, domain, MISSING if value is None else plain(value)))
        records.append({"parameter": parameter.name, "kind": kind, "domain": domain, "winner": value})
    full = [trial for trial in results.search if trial.state == "COMPLETE"]
    caption = f"Search space ({results.method}): {len(results.search)} of {results.run_cap} trials, {len(full)} of them at full length ({results.experiment.training.epochs} epochs)."
    return Sheet("search_space", Table(("parameter", "kind", "values", "winner"), tuple(rows), caption), tuple(records))


def state_table(results: PaperResults) -> Sheet:
    """How the trials of the search ended."""
    counts = Counter(trial.state for trial in results.search)
    epochs: Counter[str] = Counter()
    for trial in results.search:
        epochs[trial.state] += 0 if trial.state == "DUPLICATE" else len(trial.reports)
    known = [state for state in STATES if counts[state]]  # type: ignore[index]
    rows = tuple((state, str(counts[state]), str(epochs[state]), STATES[state]) for state in known)  # type: ignore[index]
    records = tuple({"state": state, "trials": counts[state], "epochs": epochs[state]} for state in known)  # type: ignore[index]
    table = Table(("state", "trials", "epochs", "meaning"), rows, "How the trials of the search ended.")
    return Sheet("trial_states", table, records)


def trial_table(results: PaperResults) -> Sheet:
    """Every trial of the search: resolved values, and figures of its last epoch on validation speakers."""
    own = [parameter.name for parameter in results.space.searched if parameter.name not in RESOLVED]
    names = ("accent_f1", "speaker_leakage", "val_loss", "score")
    rows, records = [], []
    for trial in results.search:
        last = trial.reports[-1] if trial.reports else {}
        values = resolved_values(results.experiment, trial.params)
        cells = (*(plain(trial.params[name]) for name in own), *map(plain, values))
        rows.append(
            (str(trial.number), trial.state, str(len(trial.reports)), *cells, *(number(last.get(name)) for name in names))
        )
        record = {"trial": trial.number, "state": trial.state, "epochs": len(trial.reports)}
        record |= {name: trial.params[name] for name in own} | dict(zip(RESOLVED, values, strict=True))
        records.append({**record, **{name: last.get(name) for name in FIGURES}, "key": trial.key})
    head = ("trial", "state", "epochs", *own, *RESOLVED, "accent F1", "leakage", "val loss", "score")
    caption = "Every trial of the search: figures of its last epoch, on validation speakers."
    marked = frozenset(place for place, trial in enumerate(results.search) if trial.number == results.search_best)
    return Sheet("trials", Table(head, tuple(rows), caption, marked), tuple(records))


def compute_table(results: PaperResults) -> Sheet:
    """What was spent, failed and stopped runs included."""
    rows = results.compute.rows
    keys = tuple(dict.fromkeys(key for row in rows for key in row))
    cells = tuple(tuple(number(row[key]) if isinstance(row[key], float) else plain(row[key]) for key in keys) for row in rows)
    peak = results.compute.peak_mb
    notes = ["Hours are of training and evaluation, added up over workers; epochs that failed before their end are not in them."]
    notes += [] if peak is None else [f"Peak memory of a worker: {peak:,.0f} MB."]
    return Sheet(
        "compute",
        Table(keys or ("part",), cells, "Compute used, failed and stopped runs included."),
        tuple(map(dict, rows)),
        tuple(notes),
    )


def opening_table(results: PaperResults) -> Sheet:
    """Every opening of the test split."""
    rows = tuple((one.time, one.reason, one.identity[:16]) for one in results.openings)
    records = tuple({"time": one.time, "reason": one.reason, "identity": one.identity} for one in results.openings)
    caption = f"Openings of the test split: {len(rows)}."
    return Sheet("openings", Table(("time (UTC)", "reason", "identity"), rows, caption), records, reopening_notes(results))


def failure_table(results: PaperResults) -> Sheet | None:
    """Runs of the paper run that did not finish; None where all did."""
    failed = [run for run in results.runs if run.state != "COMPLETE"]
    if not failed:
        return None
    rows = tuple((run.arm, str(run.repeat), run.state, str(len(run.reports)), run.failure or "") for run in failed)
    records = tuple(
        {
            "arm": run.arm,
            "repeat": run.repeat,
            "state": run.state,
            "epochs": len(run.reports),
            "failure": run.failure,
            "key": run.key,
        }
        for run in failed
    )
    head = ("arm", "seed", "state", "epochs", "why")
    return Sheet("failures", Table(head, rows, f"{len(rows)} of {len(results.runs)} runs did not finish."), records)


def reproduction_table(results: PaperResults) -> Sheet | None:
    """Hashes of the two runs and of the search's own; None where nothing was reproduced."""
    found = results.reproduction
    if found is None:
        return None
    parts = tuple(dict.fromkeys(part for hashes in found.hashes.values() for part in hashes))
    rows = tuple((run, *((hashes.get(part) or MISSING)[:16] for part in parts)) for run, hashes in found.hashes.items())
    records = tuple({"run": run, **{part: hashes.get(part) for part in parts}} for run, hashes in found.hashes.items())
    caption = f"Deterministic re-run of the winner on {found.device}: first 16 digits of SHA-256."
    return Sheet("reproduction", Table(("run", *parts), rows, caption), records, reproduction_notes(results))


def reproduction_notes(results: PaperResults) -> tuple[str, ...]:
    """What the re-run showed, in sentences."""
    found = results.reproduction
    if found is None:
        return ("The winner was not run again: nothing is claimed about bit-identical reproduction.",)
    twice = "equal to the bit" if found.same_twice else "NOT equal"
    search = {True: "equal to the bit", False: "NOT equal", None: "cannot be told: the search kept too little"}[
        found.same_as_search
    ]
    notes = [f"Two runs in fresh processes: {twice}.", f"Beside the search's own trial: {search}."]
    notes += [] if found.difference is None else [f"First difference: {found.difference}."]
    notes += [] if found.cause is None else [f"Likely cause: {found.cause}."]
    return tuple(notes)


def control_tables(results: PaperResults) -> tuple[Sheet, ...]:
    """Figures of the control experiment, and target × heard; none where there was none."""
    control = results.control
    if control is None:
        return ()
    every = [("generated speech", name, figure) for name, figure in control.figures.items()]
    every += [("hidden states", name, figure) for name, figure in control.hidden.items()]
    every += [("real test speech", "macro-F1 of the audio probe", control.probe)]
    signed = ("drop", "lift", "change")
    rows = tuple(
        (
            where,
            name,
            interval(one, signed=any(word in name for word in signed)),
            number(one.chance),
            "" if one.n is None else str(one.n),
        )
        for where, name, one in every
    )
    keys = ("value", "low", "high", "chance", "n", "p", "reason")
    records = tuple({"from": where, "figure": name, **{key: getattr(one, key) for key in keys}} for where, name, one in every)
    caption = "Does A control the accent? Figures with [95 % interval over speakers]."
    notes = (*((control.note,) if control.note else ()), *reopening_notes(results))
    figures = Sheet(
        "control_figures", Table(("heard in", "figure", "value", "chance", "speakers"), rows, caption), records, notes
    )
    shares = tuple((name, *map(number, row)) for name, row in zip(control.accents, control.matrix, strict=True))
    head = ("accent set ↓, heard →", *control.accents)
    exact = tuple(
        {"set": name, "heard": heard, "share": share}
        for name, row in zip(control.accents, control.matrix, strict=True)
        for heard, share in zip(control.accents, row, strict=True)
    )
    caption = "Accent set × accent heard in generated speech: shares of the utterances of a row."
    return figures, Sheet("control_matrix", Table(head, shares, caption), exact, notes)


def plain(value: Any) -> str:
    """A setting as text: six significant digits for floats."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def mean_sd(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean, and standard deviation (n - 1); None where there are too few."""
    return (statistics.fmean(values) if values else None), (statistics.stdev(values) if len(values) > 1 else None)


def _domain(parameter: Parameter) -> tuple[str, str]:
    if isinstance(parameter, Constant):
        return "constant", plain(parameter.value)
    if isinstance(parameter, Categorical):
        return "one of", ", ".join(map(plain, parameter.values))
    bounds = f"{plain(parameter.low)} … {plain(parameter.high)}"
    if isinstance(parameter, Integer):
        return "whole number", bounds
    return ("log-uniform" if parameter.log else "uniform"), bounds + (
        "" if parameter.q is None else f", multiples of {plain(parameter.q)}"
    )
