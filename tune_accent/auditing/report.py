"""`report.md` and `report.html`, `metrics.csv` and the heat maps of an audit: what `run_audit` found, for people and for spreadsheets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tune_accent import __version__
from tune_accent.auditing.decide import layer_score
from tune_accent.auditing.evaluated import SetResult
from tune_accent.auditing.results import IDENTITY
from tune_accent.auditing.run import Audit
from tune_accent.auditing.words import (
    DEPTH,
    FIGURE_NAMES,
    RESULT_HEAD,
    RULE,
    SELECTION,
    config_lines,
    layer_words,
    notes,
    result_cells,
    set_name,
    tie_words,
    verdict_words,
)
from tune_accent.base.files import read_json, write_bytes, write_text
from tune_accent.evaluation import Evaluation, Figure, verdict
from tune_accent.reporting.figures import HeatMap, Picture, draw_heat_map
from tune_accent.reporting.page import (
    Block,
    Code,
    Grid,
    Items,
    Note,
    Page,
    Paragraph,
    Plate,
    Section,
    Tone,
    to_html,
    to_markdown,
)
from tune_accent.reporting.tables import Table, interval, number, to_csv

FIELDS = ("value", "low", "high", "chance", "n", "p")
TONES: Mapping[str, Tone] = {"GO": "good", "CONDITIONAL": "warning", "ADJUST": "warning", "NO-GO": "bad"}
MAPS = (
    ("accent_f1", "Accent F1 of unseen speakers", "macro-F1", False, "Higher is better."),
    ("leakage", "Speaker leakage, given accent", "leakage", True, "The larger of unseen and seen; lower is better, 0 is none."),
    ("text_drop", "Text drop", "drop of F1", True, "F1 lost when the scored texts are removed from training; 0 is none."),
)


def write_report(audit: Audit) -> None:
    """Write everything that is derived from the records into the audit's folder."""
    root = audit.request.root
    write_text(root / "metrics.csv", to_csv(metric_rows(audit)))
    pictures = heat_maps(audit)
    for picture in pictures.values():
        write_bytes(root / f"{picture.name}.png", picture.png)
        write_bytes(root / f"{picture.name}.pdf", picture.pdf)
    page = audit_page(audit, pictures)
    write_text(root / "report.md", to_markdown(page))
    write_text(root / "report.html", to_html(page))


def metric_rows(audit: Audit) -> list[dict[str, Any]]:
    """A row per feature set: what it is, and value, interval, chance, n and p of every figure."""
    names = next((list(one.evaluation.figures) for one in audit.results if one.evaluation is not None), [])
    return [_metric_row(one, names, audit) for one in audit.results]


def _metric_row(one: SetResult, names: Sequence[str], audit: Audit) -> dict[str, Any]:
    spec, found = audit.request.experiment, one.evaluation
    row: dict[str, Any] = {field: getattr(one, field) for field in ("name", "family", "depth", "pooling", "speaker", "layer")}
    row["score"] = None if found is None else layer_score(found, spec.score)
    row["verdict"] = None if found is None else found.gate(spec.gate).name
    for name in names:
        figure = Figure(None) if found is None else found.figures[name]
        row |= {name if field == "value" else f"{name}_{field}": getattr(figure, field) for field in FIELDS}
    return {**row, "failed": one.failed}


def heat_maps(audit: Audit) -> dict[str, Picture]:
    """Layer × figure over pooling and S, by name of the figure; none where no layer was audited."""
    layers = {(one.name, (one.pooling, one.speaker)): one for one in audit.results if one.family == "backbone"}
    rows = {name: set_name(one) for (name, _), one in layers.items()}
    columns = list(dict.fromkeys(column for _, column in layers))
    if not rows:
        return {}
    marked, chosen = None, audit.chosen
    if chosen is not None:
        marked = list(rows).index(chosen.name), columns.index((chosen.pooling, chosen.speaker))
    found = {}
    for name, title, label, signed, _ in MAPS:
        cells = [[_value(layers.get((row, column)), name) for column in columns] for row in rows]
        heads = tuple(f"{pooling}\nS {speaker}" for pooling, speaker in columns)
        heat = HeatMap(title, tuple(rows.values()), heads, tuple(map(tuple, cells)), label, signed, marked)
        found[name] = draw_heat_map(
            heat, f"figures/layer_{name}", f"{title} by layer, pooling and S; every number is in metrics.csv"
        )
    return found


def _value(one: SetResult | None, name: str) -> float | None:
    return None if one is None or one.evaluation is None else one.evaluation.figures[name].value


def audit_page(audit: Audit, pictures: Mapping[str, Picture]) -> Page:
    """The report."""
    spec = audit.request.experiment
    sections = [
        Section("Verdict", list(_verdict(audit))),
        Section("What limits these numbers", [Items(notes(audit))]),
        Section("Layers that a search can read", list(_layers(audit))),
        Section("Over the depth", [Plate(pictures[name], caption) for name, _, _, _, caption in MAPS if name in pictures]),
        Section("The recommended layer", list(_recommended(audit))),
        Section("Controls and baselines", list(_controls(audit))),
        Section("Every feature set", [Grid(_table(audit.results, audit))]),
        Section("How it was measured", [Items(tuple(_method(audit)))]),
    ]
    subtitle = f"Backbone {spec.model.backbone}, frozen; data {spec.data.root}; seed {spec.seed}"
    footer = f"tune_accent {__version__}. All figures: metrics.csv. Settings: spec.yaml. Versions and machine: environment.json."
    return Page(f"Audit of {spec.name}", subtitle, [section for section in sections if section.blocks], footer)


def _verdict(audit: Audit) -> Iterator[Block]:
    if audit.verdict is not None:
        yield Note(verdict_words(audit.verdict), TONES[audit.verdict.name] if audit.verdict.decidable else "warning")
        if audit.verdict.reasons:
            yield Items(audit.verdict.reasons)
    yield Paragraph(layer_words(audit))
    if audit.recommendation is not None:
        yield Code(config_lines(audit.recommendation))


def _layers(audit: Audit) -> Iterator[Block]:
    readable = [one for one in audit.results if one.is_candidate]
    if not readable:
        return
    yield Grid(_table(readable, audit, readable=True))
    yield Paragraph(DEPTH)
    yield Paragraph(RULE)
    if audit.recommendation is not None:
        first, *tied = tie_words(audit.recommendation)
        yield Paragraph(first)
        if tied:
            yield Items(tuple(tied))
    yield Note(SELECTION.format(layers=len(readable)), "warning")


def _recommended(audit: Audit) -> Iterator[Block]:
    if audit.chosen is None or audit.chosen.evaluation is None:
        return
    found = audit.chosen.evaluation
    yield Grid(_figures({label: found.figures[name] for name, label in FIGURE_NAMES.items()}, "figure"))
    yield Grid(_per_accent(found))
    rows = zip(found.gate_accents, found.confusion, found.confusion_shares, strict=True)
    cells = [
        (true, *(f"{count} ({share:.0%})" for count, share in zip(counts, shares, strict=True))) for true, counts, shares in rows
    ]
    head = ("true accent ↓, predicted →", *found.gate_accents)
    yield Grid(Table(head, tuple(cells), "Utterances of unseen speakers, and their share of the true accent"))
    if found.degenerate:
        yield Items(tuple(f"{name} is {why}" for name, why in found.degenerate.items()))
    if found.secondary_accents:
        yield Paragraph(f"Secondary accents, with too few speakers for the gate: {', '.join(found.secondary_accents)}.")


def _per_accent(found: Evaluation) -> Table:
    rows = [
        (
            name,
            interval(one.recall),
            interval(one.leakage_unseen, signed=True),
            interval(one.leakage_seen, signed=True),
            str(one.train_speakers),
            str(one.scored_speakers),
        )
        for name, one in found.per_accent.items()
    ]
    return Table(("accent", "recall", "leakage unseen", "leakage seen", "train speakers", "validation speakers"), tuple(rows))


def _controls(audit: Audit) -> Iterator[Block]:
    others = [one for one in audit.results if one.family != "backbone"]
    if others:
        yield Grid(_table(others, audit))
    yield Grid(_figures(audit.controls, "control"))
    if audit.chosen is not None and audit.chosen.evaluation is not None and audit.sweep:
        gate, speakers = audit.request.experiment.gate, audit.chosen.evaluation.speakers_per_accent
        rows = [
            (
                f"C = {c:g}",
                interval(found["accent_f1"]),
                interval(found["leakage"], signed=True),
                interval(found["text_drop"], signed=True),
                verdict(found, gate, speakers).name,
            )
            for c, found in audit.sweep.items()
        ]
        caption = "The recommended layer with every probe at one strength: a verdict that hangs on the strength is none"
        yield Grid(Table(("strength", "accent F1", "leakage", "text drop", "verdict"), tuple(rows), caption))


def _table(results: Sequence[SetResult], audit: Audit, readable: bool = False) -> Table:
    """A row per feature set; without pooling and S where all are `readable` and so have the same."""
    kept = [place for place in range(len(RESULT_HEAD)) if not (readable and RESULT_HEAD[place] in ("pooling", "S"))]
    rows = [result_cells(one, audit.request.experiment) for one in results]
    marked = frozenset(place for place, one in enumerate(results) if one is audit.chosen)
    caption = "S neutral, mean and sd over frames; 95 % intervals over speakers" if readable else "95 % intervals over speakers"
    return Table(_at(RESULT_HEAD, kept), tuple(_at(row, kept) for row in rows), caption, marked)


def _at(cells: Sequence[str], places: Sequence[int]) -> tuple[str, ...]:
    return tuple(cells[place] for place in places)


def _figures(figures: Mapping[str, Figure], what: str) -> Table:
    """A row per figure, under its label; those whose chance is 0 carry a sign."""
    rows = [
        (
            label,
            interval(one, signed=one.chance == 0),
            number(one.chance),
            number(one.p),
            "" if one.n is None else str(one.n),
            one.reason or "",
        )
        for label, one in figures.items()
    ]
    head = (what, "value", "chance", "p", "speakers", "remark")
    kept = range(len(head) if any(row[-1] for row in rows) else len(head) - 1)
    return Table(_at(head, kept), tuple(_at(row, kept) for row in rows))


def _method(audit: Audit) -> Iterator[str]:
    protocol = audit.protocol
    found = next((one.evaluation for one in audit.results if one.evaluation is not None), None)
    yield "Features: one teacher-forced pass per utterance of train and validation speakers with A = ∅; test speakers are never read."
    yield (
        f"Probes: standardised, L2 logistic regression, balanced classes, C of {', '.join(map(str, protocol.c_grid))} by cross-validation "
        "(accent: grouped by speaker, fitted on train speakers, scored on validation speakers)."
    )
    if found is not None:
        used = found.used
        most = "" if used.utterances_most == used.utterances else f" to {used.utterances_most}"
        yield (
            f"Leakage: speakers told apart within one accent, M = {used.speakers} speakers, U = {used.utterances}{most} utterances each, "
            f"R = {used.draws} draws; balanced accuracy less 1/M, mean over accents; unseen: validation speakers, seen: train speakers."
        )
    yield (
        f"Intervals: {protocol.bootstrap} resamples of speakers within accents, probe held fixed. Chance of macro-F1: "
        f"{protocol.permutations} permutations of the accents across speakers, predictions fixed."
    )
    hashes = read_json(audit.request.root / IDENTITY)["hashes"]
    yield f"Data, by SHA-256: {', '.join(f'{name} {digest[:16]}' for name, digest in hashes.items() if name != 'request')}."
