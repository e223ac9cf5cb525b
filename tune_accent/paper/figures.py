"""The figures of a paper run: equal results give equal bytes. Every figure says how many trials, seeds and speakers it is made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from tune_accent.paper.arms import Measured
from tune_accent.paper.importances import SETTLED, Importances, importances
from tune_accent.paper.results import PaperResults, TrainedRun
from tune_accent.paper.search_tables import mean_sd
from tune_accent.reporting.figures import Picture
from tune_accent.reporting.plots import (
    BLACK,
    COLOURS,
    DASHES,
    GREY,
    MARKERS,
    draw,
    marker_with_bars,
    say_instead,
    whole_ticks,
)
from tune_accent.reporting.search_figures import BEST_COLOUR, F1, LEAKAGE, paint_gate, paint_history, paint_points, scatter
from tune_accent.reporting.search_view import FAILED
from tune_accent.tuning.core import Trial
from tune_accent.tuning.results import resolved_values

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas


def paper_figures(measured: Measured) -> dict[str, Picture]:
    """Every figure by name, in the order of the report."""
    results = measured.results
    found = importances(results.space, results.search, results.experiment.seed, results.metric, results.goal)
    paints: Mapping[str, tuple[str, tuple[float, float], Callable[[Canvas], None]]] = {
        "pareto": (
            "Accent F1 against speaker leakage: trials, gate, and the winner on test speakers",
            (6.8, 5.4),
            partial(_pareto, measured),
        ),
        "leakage_weight": ("Accent F1 and speaker leakage by leakage weight", (7.6, 3.9), partial(_sweep, results)),
        "importances": ("Importance of the searched parameters", (7.6, 3.2), partial(_importances, found)),
        "history": (
            "Score by trial, and the best feasible one so far",
            (6.8, 3.9),
            partial(paint_history, results.search, results.metric, results.goal),
        ),
        "survival": ("Trials that are still trained after each epoch", (6.8, 3.6), partial(_survival, results)),
        "learning": ("Validation figures by epoch, of the winner and the baselines", (9.2, 3.9), partial(_learning, results)),
    }
    return {name: draw(name, alt, size, paint) for name, (alt, size, paint) in paints.items()}


def survivors(trials: Sequence[Trial], epochs: int) -> list[dict[str, int]]:
    """For each epoch the trials that finished it: {"on": went on, "stopped", "failed": ended after it}."""
    own = [trial for trial in trials if trial.state != "DUPLICATE"]
    found = []
    for epoch in range(1, epochs + 1):
        last = [trial for trial in own if len(trial.reports) == epoch]
        stopped, failed = (sum(trial.state in states for trial in last) for states in (("STOPPED",), FAILED))
        reached = sum(len(trial.reports) >= epoch for trial in own)
        found.append({"on": reached - stopped - failed, "stopped": stopped, "failed": failed})
    return found


def _pareto(measured: Measured, canvas: Canvas) -> None:
    results, axes = measured.results, canvas.add_subplot()
    paint_points(axes, results.search)
    _test_point(measured, axes)
    paint_gate(axes, results.experiment.gate)
    canvas.legend(loc="outside lower left", ncols=1)


def _test_point(measured: Measured, axes: Axes) -> None:
    found = measured.winner.figures["neutral"]
    f1, leakage = found["accent_f1"].figure, found["leakage"].figure
    if f1.value is None or leakage.value is None:
        return
    what = "seeds and speakers" if len(measured.winner.runs) > 1 else "speakers (one seed)"
    label = f"winner on test speakers ({len(measured.winner.runs)} seeds, {f1.n} speakers; bars: 95 % over {what})"
    reach = [
        None if low is None or high is None else [[max(0.0, value - low)], [max(0.0, high - value)]]
        for value, low, high in ((leakage.value, leakage.low, leakage.high), (f1.value, f1.low, f1.high))
    ]
    marker_with_bars(axes, (leakage.value, f1.value), (reach[0], reach[1]), "D", BEST_COLOUR, label)


def _sweep(results: PaperResults, canvas: Canvas) -> None:
    full = [trial for trial in results.search if trial.state == "COMPLETE"]
    weights = [resolved_values(results.experiment, trial.params)[3] for trial in full]
    base = [run for run in results.runs if run.arm == "no_leakage" and run.state == "COMPLETE"]
    if not full and not base:
        say_instead(canvas, "Leakage weight", "No trial ran its full length.")
        return
    positive = [weight for weight in weights if weight > 0]
    zero = min(positive) / 10 if positive else 0.1
    panels = canvas.subplots(1, 2)
    for axes, key, words in zip(panels, ("accent_f1", "speaker_leakage"), (F1, LEAKAGE), strict=True):
        known = [
            (weight or zero, trial.reports[-1][key])
            for weight, trial in zip(weights, full, strict=True)
            if trial.reports[-1].get(key) is not None
        ]
        scatter(axes, known, "o", COLOURS[0], f"search, full-length trials (n = {len(known)})", COLOURS[0])
        mean, sd = mean_sd([run.reports[-1][key] for run in base if run.reports[-1].get(key) is not None])
        if mean is not None:
            label = f"winner's settings with λ = 0 ({len(base)} new seeds; bar: ± sd)"
            marker_with_bars(axes, (zero, mean), (None, sd), "s", BEST_COLOUR, label)
        axes.set_xscale("log")
        ticks = sorted({zero, *positive}) if len(set(positive)) <= 8 else [zero, min(positive), max(positive)]
        axes.set_xticks(ticks, ["0" if tick == zero else f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set(xlabel="Leakage weight λ (log scale; 0 set apart)", title=words.partition(" (")[0])
        axes.set_xlim(zero / 2, max([zero, *positive]) * 2)
        axes.margins(y=0.12)
    handles, labels = panels[0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside lower left", ncols=2, title="Validation speakers, last epoch", alignment="left")


def _importances(found: Importances, canvas: Canvas) -> None:
    title = f"Importance for the score ({found.trials} full-length trials)"
    if found.reason is not None:
        say_instead(canvas, title, found.reason)
        return
    order = sorted(found.shares["fANOVA"], key=lambda name: found.shares["fANOVA"][name])
    for place, (axes, (method, shares)) in enumerate(zip(canvas.subplots(1, 2, sharey=True), found.shares.items(), strict=True)):
        bars = axes.barh(
            order, [shares[name] for name in order], color=COLOURS[place], edgecolor=BLACK, hatch=("", "//")[place], height=0.6
        )
        axes.bar_label(bars, fmt="%.2f", padding=3)
        axes.set(xlabel="Share of importance (sums to 1)", title=method, xlim=(0, 1.12))
        axes.grid(visible=False, axis="y")
    few = "" if found.trials >= SETTLED else "\nFew trials: PED-ANOVA sets the best tenth apart, fewer than 5 trials of these"
    canvas.suptitle(title + few, x=0.01, ha="left", fontsize=11)


def _survival(results: PaperResults, canvas: Canvas) -> None:
    axes, epochs = canvas.add_subplot(), results.experiment.training.epochs
    counts = survivors(results.search, epochs)
    bottom = [0] * epochs
    for key, face, hatch, words in (
        ("on", COLOURS[0], "", "goes on, or is complete"),
        ("stopped", "white", "///", "stopped at this rung"),
        ("failed", GREY, "xx", "failed afterwards"),
    ):
        heights = [row[key] for row in counts]
        if any(heights):
            bars = axes.bar(
                range(1, epochs + 1), heights, bottom=bottom, color=face, edgecolor=BLACK, hatch=hatch, label=words, width=0.7
            )
            paper = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
            axes.bar_label(bars, [str(height) if height else "" for height in heights], label_type="center", bbox=paper)
        bottom = [below + height for below, height in zip(bottom, heights, strict=True)]
    own = sum(trial.state != "DUPLICATE" for trial in results.search)
    axes.set(xlabel="Epoch", ylabel="Trials that finished it", title=f"Survival over the rungs ({own} trials)")
    axes.set_xticks(range(1, epochs + 1))
    whole_ticks(axes.yaxis)
    axes.grid(visible=False, axis="x")
    canvas.legend(loc="outside lower left", ncols=3)


def _learning(results: PaperResults, canvas: Canvas) -> None:
    shown = [arm for arm in results.arms if arm.name == "winner" or arm.kind == "baseline"]
    if not any(run.reports for run in results.runs):
        say_instead(canvas, "Learning curves", "No run has finished an epoch.")
        return
    panels = canvas.subplots(1, 3)
    curves: Mapping[str, Callable[[Mapping[str, Any]], float | None]] = {
        F1: lambda report: report.get("accent_f1"),
        "Speaker leakage given accent": lambda report: report.get("speaker_leakage"),
        "Validation loss / base model's": lambda report: report["val_loss"] / report["base_val_loss"],
    }
    for axes, (words, value) in zip(panels, curves.items(), strict=True):
        for place, arm in enumerate(shown):
            runs = [run for run in results.runs if run.arm == arm.name and run.reports]
            _learning_curves(axes, runs, value, arm.name, place)
        axes.set(xlabel="Epoch", title=words)
        whole_ticks(axes.xaxis)
    handles, labels = panels[0].get_legend_handles_labels()
    title = "Validation speakers; thick: mean over seeds, thin: each seed"
    canvas.legend(handles, labels, loc="outside lower left", ncols=3, title=title, alignment="left")


def _learning_curves(
    axes: Axes, runs: Sequence[TrainedRun], value: Callable[[Mapping[str, Any]], float | None], name: str, place: int
) -> None:
    if not runs:
        return
    colour, dash, marker = (BEST_COLOUR, "-", "D") if place == 0 else _look(place)
    series = [[value(report) for report in run.reports] for run in runs]
    for one in series:
        axes.plot(range(1, len(one) + 1), [float("nan") if v is None else v for v in one], color=colour, linewidth=0.6, alpha=0.6)
    shared = min(map(len, series))
    columns = [[one[epoch] for one in series] for epoch in range(shared)]
    means = [float("nan") if None in column else sum(v for v in column if v is not None) / len(column) for column in columns]
    label = f"{name} ({len(runs)} seeds)"
    axes.plot(range(1, shared + 1), means, color=colour, linestyle=dash, marker=marker, markersize=4, label=label)


def _look(place: int) -> tuple[str, Any, str]:
    colours = [colour for colour in COLOURS if colour != BEST_COLOUR]
    return colours[(place - 1) % len(colours)], DASHES[(place - 1) % len(DASHES)], MARKERS[(place - 1) % len(MARKERS)]
