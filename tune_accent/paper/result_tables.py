"""Tables of test figures. Each of them says so when the test split was opened more than once, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tune_accent.evaluation import Figure
from tune_accent.evaluation.comparison import hierarchical_interval, of_accent
from tune_accent.paper.arms import NO_SEED, REPRESENTATIONS, ArmFigures, Measured, OverSeeds, difference, resampling
from tune_accent.paper.results import PaperResults
from tune_accent.reporting.tables import Sheet, Table, interval, number

Record = dict[str, Any]
EXACT = ("low", "high", "chance", "n", "p")
MAIN = ("accent_f1", "accent_balanced_accuracy", "leakage_unseen", "leakage_seen", "leakage", "leakage_auc", "text_drop")
COMPARED = {
    "accent_f1": "accent F1",
    "leakage_unseen": "leakage unseen",
    "leakage_seen": "leakage seen",
    "leakage_auc": "AUC",
    "text_drop": "text drop",
}
SPREAD = "Mean ± standard deviation over seeds [95 % interval over seeds and speakers]"


def main_table(measured: Measured) -> Sheet:
    """The winner and the baselines."""
    arms = [one for one in measured.arms.values() if one.arm.kind != "ablation"]
    head = ("arm", "accent F1", "chance", "corrected", "p", "leakage unseen", "leakage seen", "AUC", "text drop", "loss / base")
    rows = tuple((*_main_cells(one), *_size_cells(one)) for one in arms)
    caption = f"Main results on test speakers. {SPREAD}."
    table = Table((*head, "seeds", "speakers", "verdict"), rows, caption, frozenset({0}))
    notes = (
        "Accent F1: macro-F1 of test speakers. Chance: permutation null, accents permuted across speakers; corrected: (F1 − chance) / (1 − chance); "
        "p: of that null, the largest over seeds.",
        "Leakage: balanced accuracy of speaker within accent less 1/M, 0 is none; unseen: test speakers, seen: train speakers. AUC: same or different "
        "speaker within accent, chance .5. Text drop: F1 lost without the scored texts in training. Loss: cross-entropy on test rows, relative to the base model's.",
        *_failure_notes(arms),
        *reopening_notes(measured.results),
    )
    return Sheet("main", table, tuple(_main_record(one, measured.results) for one in arms), notes)


def representation_table(measured: Measured) -> Sheet:
    """z as it is reported, z with the speaker's own S given, and raw h, of every arm; raw leakage beside its ceiling."""
    every = [(one, which) for one in measured.arms.values() for which in REPRESENTATIONS if one.runs]
    head = ("arm", "representation", "accent F1", "leakage unseen", "leakage seen", "AUC", "raw leakage", "accent-only ceiling")
    shown = ("accent_f1", "leakage_unseen", "leakage_seen", "leakage_auc", "leakage_raw")
    rows = tuple(
        (
            one.arm.name,
            REPRESENTATIONS[which],
            *(seeds_cell(one.figures[which][name], name) for name in shown),
            number(_ceiling(one, which), signed=True),
        )
        for one, which in every
    )
    notes = (
        "The first row of an arm is the reported one. With the speaker's own S given, speaker can be read off the prefix; raw h is not fitted with labels.",
        "Raw leakage is speaker accuracy over all speakers less 1/N; it is not conditional on accent. A code of accent alone, with no speaker in it, reaches the "
        "accent-only ceiling (K − 1)/N.",
        *reopening_notes(measured.results),
    )
    records = tuple(
        {"arm": one.arm.name, "representation": which, **_figures_record(one, which), **_reopened(measured.results)}
        for one, which in every
    )
    return Sheet("representations", Table(head, rows, f"Representations on test speakers. {SPREAD}."), records, notes)


def seed_table(measured: Measured) -> Sheet:
    """Every seed of every arm, with its own interval over speakers."""
    every = [(one, run) for one in measured.arms.values() for run in one.runs]
    head = ("arm", "seed", "accent F1", "p", "leakage unseen", "leakage seen", "text drop", "loss / base")
    rows, records = [], []
    for one, run in every:
        found = run.neutral.figures
        figures = [interval(found["accent_f1"]), number(found["accent_f1"].p)]
        figures += [interval(found[name], signed=True) for name in ("leakage_unseen", "leakage_seen", "text_drop")]
        rows.append((one.arm.name, str(run.repeat), *figures, number(run.loss / run.base_loss, digits=4)))
        for which in REPRESENTATIONS:
            exact = {name: figure for name, figure in getattr(run, which).figures.items()}
            flat = {key: value for name, figure in exact.items() for key, value in _exact(name, figure).items()}
            own = {"arm": run.arm, "repeat": run.repeat, "representation": which, "key": run.key}
            records.append(own | flat | {"loss": run.loss, "base_loss": run.base_loss} | _reopened(measured.results))
    caption = "Every seed on test speakers [95 % interval over speakers]."
    return Sheet("seeds", Table(head, tuple(rows), caption), tuple(records), reopening_notes(measured.results))


def leakage_table(measured: Measured) -> Sheet:
    """Leakage of the winner by accent, unseen and seen."""
    rows, records = [], []
    runs = measured.winner.runs
    for accent in runs[0].neutral.gate_accents if runs else ():
        cells: list[str] = []
        for name in ("leakage_unseen", "leakage_seen"):
            found = _of_accent(measured, accent, name)
            cells.append(seeds_cell(found, name))
            exact = _over(name, found) | {"accent": accent, "side": name.removeprefix("leakage_")}
            renamed = {key.replace(name, "leakage", 1): value for key, value in exact.items()}
            records.append(
                {key: renamed[key] for key in ("accent", "side", *(k for k in renamed if k not in ("accent", "side")))}
            )
        detail = runs[0].neutral.per_accent[accent]
        rows.append((accent, *cells, str(detail.scored_speakers), str(detail.train_speakers)))
    head = ("accent", "leakage unseen", "leakage seen", "test speakers", "train speakers")
    caption = f"Speaker leakage of the winner by accent. {SPREAD}; the interval of an accent is over its own speakers."
    full = tuple(record | _reopened(measured.results) for record in records)
    return Sheet("leakage", Table(head, tuple(rows), caption), full, reopening_notes(measured.results))


def confusion_table(measured: Measured) -> Sheet:
    """Confusion of the winner, summed over seeds; recall of each accent."""
    runs = measured.winner.runs
    accents = runs[0].neutral.gate_accents if runs else ()
    rows, records = [], []
    for place, accent in enumerate(accents):
        counts = [sum(run.neutral.confusion[place][column] for run in runs) for column in range(len(accents))]
        total = sum(counts) or 1
        recalls = tuple(run.neutral.confusion_shares[place][place] for run in runs)
        recall = OverSeeds(recalls, Figure(sum(recalls) / len(recalls)))
        rows.append((accent, *(f"{count} ({count / total:.1%})" for count in counts), seeds_cell(recall, "recall")))
        for column, count in enumerate(counts):
            records.append({"true": accent, "predicted": accents[column], "utterances": count, "share": count / total})
    head = ("true ↓, predicted →", *accents, "recall")
    caption = f"Confusion of the winner on test speakers: utterances over {len(runs)} seeds (share of the true accent); recall is mean ± standard deviation over seeds."
    full = tuple(record | _reopened(measured.results) for record in records)
    return Sheet("confusion", Table(head, tuple(rows), caption), full, reopening_notes(measured.results))


def difference_table(measured: Measured) -> Sheet:
    """Baselines and ablations less the winner, paired by seed and speaker."""
    rows, records = [], []
    for one in measured.others:
        found = {name: difference(measured.results.experiment, one, measured.winner, name) for name in COMPARED}
        pairs = len(found["accent_f1"].values)
        rows.append((one.arm.name, one.arm.kind, *(seeds_cell(over, "difference") for over in found.values()), str(pairs)))
        exact = {key: value for name, over in found.items() for key, value in _over(f"{name}_difference", over).items()}
        records.append({"arm": one.arm.name, "kind": one.arm.kind, "note": one.arm.note, "pairs": pairs, **exact})
    head = ("arm", "kind", *(f"Δ {label}" for label in COMPARED.values()), "seeds")
    caption = "Baselines and ablations: arm minus winner on test speakers, paired by seed and speaker. " + SPREAD + "."
    notes = tuple(f"{one.arm.name}: {one.arm.note}." for one in measured.others)
    unequal = "An interval that holds 0 does not show that the two are equal."
    full = tuple(record | _reopened(measured.results) for record in records)
    return Sheet("differences", Table(head, tuple(rows), caption), full, (*notes, unequal, *reopening_notes(measured.results)))


def wrong_table(measured: Measured) -> Sheet | None:
    """A given wrongly: what z is heard as; None where it was not asked for."""
    rows, records = [], []
    for one in measured.arms.values():
        for run in one.runs:
            if run.wrong:
                cells = (
                    interval(run.wrong["heard_true"]),
                    interval(run.wrong["heard_set"]),
                    number(run.wrong["heard_true"].chance),
                )
                rows.append((run.arm, str(run.repeat), *cells))
                exact = {key: value for name, figure in run.wrong.items() for key, value in _exact(name, figure).items()}
                records.append({"arm": run.arm, "repeat": run.repeat, **exact, **_reopened(measured.results)})
    if not rows:
        return None
    head = ("arm", "seed", "heard as the speaker's accent", "heard as the accent set", "chance")
    caption = "A given wrongly, on test speakers [95 % interval over speakers]: accents that the probe hears in z."
    note = (
        "z is read off recorded frames of the speaker: this says how far A overrides them, not what A does to generated speech."
    )
    return Sheet("wrong_accent", Table(head, tuple(rows), caption), tuple(records), (note, *reopening_notes(measured.results)))


def reopening_notes(results: PaperResults) -> tuple[str, ...]:
    """A sentence per opening of the test split after the first one, for every table of test figures."""
    return tuple(f"Test split reopened {opening.time}: {opening.reason}" for opening in results.openings[1:])


def seeds_cell(over: OverSeeds, name: str) -> str:
    """`0.642 ± 0.012 [0.51, 0.75]`; leakages, drops and differences carry their sign."""
    figure, signed = over.figure, (name.startswith("leakage") and name != "leakage_auc") or name in ("text_drop", "difference")
    if figure.value is None or over.sd is None:
        return interval(figure, signed=signed)
    plain, bounds = number(figure.value, signed=signed), interval(figure, signed=signed)
    return bounds.replace(plain, f"{plain} ± {number(over.sd)}", 1)


def _main_cells(one: ArmFigures) -> Iterator[str]:
    found = one.figures["neutral"]
    f1 = found["accent_f1"].figure
    yield one.arm.name
    yield seeds_cell(found["accent_f1"], "accent_f1")
    yield from (number(value) for value in (f1.chance, f1.corrected, f1.p))
    yield from (seeds_cell(found[name], name) for name in ("leakage_unseen", "leakage_seen", "leakage_auc", "text_drop"))
    yield number(one.loss_ratio.figure.value, digits=4)


def _size_cells(one: ArmFigures) -> tuple[str, str, str]:
    speakers = one.figures["neutral"]["accent_f1"].figure.n
    judged = "" if one.verdict is None else one.verdict.name + ("" if one.verdict.decidable else " (not decidable)")
    return str(len(one.runs)), "" if speakers is None else str(speakers), judged


def _main_record(one: ArmFigures, results: PaperResults) -> Record:
    arm, judged = one.arm, one.verdict
    own: Record = {"arm": arm.name, "kind": arm.kind, "trial": arm.trial, "note": arm.note}
    own |= {"seeds": len(one.runs), "failed_seeds": len(one.failed), "speakers_per_accent": one.speakers_per_accent}
    own |= {key: value for name in MAIN for key, value in _over(name, one.figures["neutral"][name]).items()}
    own |= {"accent_f1_corrected": one.figures["neutral"]["accent_f1"].figure.corrected}
    own |= _over("leakage_raw", one.figures["neutral"]["leakage_raw"]) | {"leakage_raw_ceiling": _ceiling(one, "neutral")}
    own |= {"loss_ratio": one.loss_ratio.figure.value, "loss_ratio_sd": one.loss_ratio.sd}
    words = (None, None, None) if judged is None else (judged.name, judged.decidable, judged.deciding)
    return own | dict(zip(("verdict", "decidable", "deciding"), words, strict=True)) | _reopened(results)


def _figures_record(one: ArmFigures, which: str) -> Record:
    exact = {key: value for name, over in one.figures[which].items() for key, value in _over(name, over).items()}
    return exact | {"leakage_raw_ceiling": _ceiling(one, which)}


def _ceiling(one: ArmFigures, which: str) -> float | None:
    return getattr(one.runs[0], which).leakage_raw_ceiling.value if one.runs else None


def _of_accent(measured: Measured, accent: str, name: str) -> OverSeeds:
    evaluations = [of_accent(run.neutral, accent) for run in measured.winner.runs]
    values = tuple(value for one in evaluations if (value := one.figures[name].value) is not None)
    if len(evaluations) == 1:
        return OverSeeds(values, evaluations[0].figures[name])
    return OverSeeds(values, hierarchical_interval(evaluations, name, *resampling(measured.results.experiment)))


def _failure_notes(arms: Sequence[ArmFigures]) -> Iterator[str]:
    for one in arms:
        if one.failed:
            told = ", ".join(f"seed {run.repeat} {run.state}" for run in one.failed)
            yield (
                f"{one.arm.name}: {told}; its figures are over {len(one.runs)} seeds."
                if one.runs
                else f"{one.arm.name}: {told}; {NO_SEED}."
            )
        if len(one.runs) == 1:
            yield f"{one.arm.name} has a single seed: its interval is over speakers alone and leaves the variation between seeds out."


def _reopened(results: PaperResults) -> Record:
    """A cell that is empty unless the test split was opened again; there is no place for a footnote in CSV."""
    return {"test_split_reopened": "; ".join(f"{opening.time}: {opening.reason}" for opening in results.openings[1:])}


def _over(name: str, over: OverSeeds) -> Record:
    exact = _exact(name, over.figure)
    return {name: exact.pop(name), f"{name}_sd": over.sd, f"{name}_seeds": len(over.values), **exact}


def _exact(name: str, figure: Figure) -> Record:
    return {name: figure.value, **{f"{name}_{key}": getattr(figure, key) for key in EXACT}}
