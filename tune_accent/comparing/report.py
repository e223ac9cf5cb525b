"""A comparison as files: CSV of every table, PNG of every figure, one page as HTML and as Markdown; `page.json` is the page for the search's own report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tune_accent.base.files import write_bytes, write_json, write_text
from tune_accent.comparing.measures import WORST
from tune_accent.comparing.pictures import pictures
from tune_accent.comparing.results import Comparison, Standing
from tune_accent.reporting.page import Grid, Items, Note, Page, Paragraph, Plate, Section, to_html, to_markdown
from tune_accent.reporting.stored_page import page_record
from tune_accent.reporting.tables import MISSING, Sheet, Table, number, to_csv

HOW = (
    "A trial counts with its last epoch, once it has its full length and is feasible: so for every engine, also where the engine itself judges a run by its best epoch.",
    f"Hypervolume: area that the full-length trials dominate in (F1, −leakage), down to F1 {WORST[0]:g} and leakage {WORST[1]:g}.",
    "Stopped too late: epochs beyond the grace period of trials that were stopped in the end. A trial that was stopped too early cannot be seen here.",
    "A search without a feasible trial within the common epochs counts as the worst score of all in the differences.",
    "A time that was not reached is censored at the end of its search (Kaplan–Meier median).",
)


def write_report(found: Comparison, folder: Path) -> Page:
    """Write everything below `folder`, and return the page."""
    drawn, page_sheets = pictures(found), sheets(found)
    for sheet in page_sheets:
        write_text(folder / f"{sheet.name}.csv", to_csv(_with_caveats(sheet.records, found)))
    for picture in drawn:
        write_bytes(folder / f"{picture.name}.png", picture.png)
    tables = [
        Section(sheet.table.caption or sheet.name, [Grid(replace(sheet.table, caption="")), *_notes(sheet)])
        for sheet in page_sheets
        if sheet.table.rows
    ]
    caption = " ".join(found.caveats)
    plates = Section("Figures", [Plate(picture, f"{picture.alt}. {caption}".strip()) for picture in drawn])
    page = Page(
        f"Search engines beside {found.name}",
        _subtitle(found),
        [_opening(found), plates, *tables, Section("How it is measured", [Items(HOW)])],
    )
    write_text(folder / "index.html", to_html(page))
    write_text(folder / "comparison.md", to_markdown(page))
    write_json(folder / "page.json", page_record(page))
    write_json(folder / "campaigns.json", [_source(one) for one in found.standings])
    return page


def sheets(found: Comparison) -> tuple[Sheet, ...]:
    """The tables."""
    parts = (_standings(found), _times(found), _waste(found), _differences(found), _curves(found))
    return tuple(Sheet(sheet.name, _said(sheet.table, found), sheet.records, found.caveats) for sheet in parts)


def _subtitle(found: Comparison) -> str:
    return f"{len(found.campaigns)} searches by {len(found.engines)} engines; scores after {found.budget:g} epochs, which every one of them trained"


def _opening(found: Comparison) -> Section:
    notes = [Note(text, "warning") for text in found.caveats]
    own = [f"{one.name} {note}" for one in found.campaigns for note in one.notes]
    words = [Paragraph(text) for text in found.conclusions or ("There is one engine only: nothing is compared.",)]
    return Section("What can be concluded", [*notes, *words, *([Items(tuple(own))] if own else [])])


def _notes(sheet: Sheet) -> list[Note]:
    return [Note(text, "warning") for text in sheet.notes]


def _said(table: Table, found: Comparison) -> Table:
    extra = "" if not found.caveats else " (not the same search: see the notes)"
    return Table(table.columns, table.rows, table.caption + extra, table.marked)


def _with_caveats(records: Sequence[Mapping[str, Any]], found: Comparison) -> list[Mapping[str, Any]]:
    return [{**record, "caveats": " ".join(found.caveats)} for record in records] if found.caveats else list(records)


def _standings(found: Comparison) -> Sheet:
    sign = found.campaigns[0].sign
    records: list[dict[str, Any]] = [
        {
            "engine": one.campaign.engine, "campaign": one.campaign.name, "seed": one.campaign.seed, "trials": len(one.campaign.trials),
            "epochs": one.waste.epochs, "best": _signed(one.best, sign), "best_at_budget": _signed(one.level, sign), "regret": one.regret,
            "hypervolume": one.volume, "ms_per_suggestion": one.overhead.ms_per_suggestion, "idle_share": one.overhead.idle,
            "workers": one.overhead.workers,
        }
        for one in found.standings
    ]  # fmt: skip
    columns = (
        "Engine",
        "Search",
        "Trials",
        "Epochs",
        "Best",
        f"Best at {found.budget:g} epochs",
        "Regret",
        "Hypervolume",
        "ms per suggestion",
        "Idle",
    )
    names = ("best", "best_at_budget", "regret", "hypervolume", "ms_per_suggestion", "idle_share")
    rows = [
        (
            r["engine"],
            r["campaign"],
            str(r["trials"]),
            str(r["epochs"]),
            *(number(r[name], digits=1 if name.startswith("ms") else 3) for name in names),
        )
        for r in records
    ]
    return Sheet(
        "standings", Table(columns, tuple(rows), "Every search, and its regret against the best score of all"), tuple(records)
    )


def _times(found: Comparison) -> Sheet:
    sign = found.campaigns[0].sign
    records: list[dict[str, Any]] = [
        {
            "threshold": sign * one.threshold, "why": one.why, "engine": one.engine, "axis": one.axis, "reached": one.reached,
            "repeats": one.repeats, "median": one.median, "longest": one.longest,
        }
        for one in found.times
    ]  # fmt: skip
    rows = tuple(
        (number(r["threshold"]), r["why"], r["engine"], r["axis"], f"{r['reached']} of {r['repeats']}", f"> {r['longest']:g}" if r["median"] is None else f"{r['median']:g}")
        for r in records
    )  # fmt: skip
    columns = ("Threshold", "Which is", "Engine", "Cost in", "Reached", "Median cost")
    return Sheet("times", Table(columns, rows, "Cost until a threshold was reached"), tuple(records))


def _waste(found: Comparison) -> Sheet:
    records: list[dict[str, Any]] = [
        {"engine": one.campaign.engine, "campaign": one.campaign.name, **vars(one.waste), "share": one.waste.share}
        for one in found.standings
    ]
    names = ("failed_trials", "failed_epochs", "duplicates", "duplicate_epochs", "repeated", "late")
    rows = tuple((r["engine"], r["campaign"], *(str(r[name]) for name in names), number(r["share"])) for r in records)
    columns = (
        "Engine",
        "Search",
        "Failed trials",
        "their epochs",
        "Duplicates",
        "their epochs",
        "Repeated epochs",
        "Stopped too late",
        "Share of all epochs",
    )
    return Sheet("waste", Table(columns, rows, "Wasted work"), tuple(records))


def _differences(found: Comparison) -> Sheet:
    records = tuple(dict(vars(one)) for one in found.differences)
    rows = tuple(
        (one.engine, one.other, str(one.pairs), number(one.mean, signed=True), number(one.low, signed=True), number(one.high, signed=True), number(one.p), number(one.p_holm))
        for one in found.differences
    )  # fmt: skip
    columns = ("Engine", "less", "Pairs", "Mean", "95 % from", "to", "p", "p (Holm)")
    return Sheet(
        "differences", Table(columns, rows, "Paired repeats at equal epochs: bootstrap over pairs, sign-flip test"), records
    )


def _curves(found: Comparison) -> Sheet:
    """The curves as records only: the figure shows them."""
    return Sheet("curves", Table(("Engine",), ()), tuple(_curve_rows(found)))


def _curve_rows(found: Comparison) -> Iterator[dict[str, Any]]:
    sign = found.campaigns[0].sign
    for axis, bands in found.bands.items():
        for band in bands:
            for cost, values in zip(band.costs, band.values, strict=True):
                low, middle, high = values if sign > 0 else reversed(values)
                yield {
                    "engine": band.engine, "repeats": band.repeats, "axis": axis, "cost": cost,
                    "q25": _signed(low, sign), "median": _signed(middle, sign), "q75": _signed(high, sign),
                }  # fmt: skip


def _source(one: Standing) -> dict[str, Any]:
    campaign = one.campaign
    return {
        "campaign": campaign.name,
        "engine": campaign.engine,
        "seed": campaign.seed,
        "metric": campaign.metric,
        "goal": campaign.goal,
        "hashes": campaign.identity.hashes(),
        "notes": list(campaign.notes),
    }


def _signed(value: float | None, sign: int) -> float | None:
    return None if value is None else sign * value


def summary(found: Comparison, folder: Path) -> str:
    """What a person reads at the end of the command."""
    sign, lines = found.campaigns[0].sign, []
    for engine in found.engines:
        own = [one for one in found.standings if one.campaign.engine == engine]
        best = [number(_signed(one.level, sign)) if one.level is not None else MISSING for one in own]
        lines.append(f"  {engine}: best after {found.budget:g} epochs {', '.join(best)}")
    return "\n".join([*lines, *found.caveats, *found.conclusions, f"Tables and figures: {folder / 'index.html'}"]) + "\n"
