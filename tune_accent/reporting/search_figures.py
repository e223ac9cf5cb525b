"""The figures of a search: equal records give equal bytes. Every figure says how many trials it is made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from tune_accent.config.schema import Gate
from tune_accent.reporting.figures import Picture
from tune_accent.reporting.plots import BLACK, COLOURS, GREY, draw, limit_lines, say_instead, whole_ticks
from tune_accent.reporting.search_view import FAILED, SearchView
from tune_accent.tracking.tracker import TrackedTrial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

Point = tuple[float, float]  # (leakage, F1)
F1, LEAKAGE, BEST_COLOUR = "Accent macro-F1", "Speaker leakage given accent (0 = none)", COLOURS[1]
CAPTIONS = {
    "pareto": "Last epoch of every trial, on validation speakers, among which the search chooses. Lines are the limits of the gate.",
    "history": "The value of a stopped trial is that of the epoch at which it was stopped.",
    "learning": "Every trial by epoch; the best one stands out. A trial is ranked by its last epoch.",
}


def search_figures(view: SearchView) -> dict[str, Picture]:
    """Every figure by name, in the order of the report; as PNG only."""
    best = None if view.best is None else int(view.best["trial"])
    paints: Mapping[str, tuple[str, tuple[float, float], Callable[[Canvas], None]]] = {
        "pareto": (
            "Accent F1 against speaker leakage of every trial, with the Pareto front and the limits of the gate",
            (6.8, 5.0),
            partial(_pareto, view.trials, view.experiment.gate),
        ),
        "history": (
            f"{view.metric} by trial, and the best feasible one so far",
            (6.8, 3.9),
            partial(paint_history, view.trials, view.metric, view.goal),
        ),
        "learning": ("Figures of every trial by epoch", (9.2, 3.6), partial(_learning, view.trials, view.metric, best)),
    }
    return {name: draw(name, alt, size, paint, pdf=False) for name, (alt, size, paint) in paints.items()}


def front(points: Sequence[Point]) -> list[Point]:
    """The (leakage, F1) that no other point beats in both, by leakage."""
    best: list[Point] = []
    for leakage, f1 in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or f1 > best[-1][1]:
            best.append((leakage, f1))
    return best


def best_so_far(trials: Sequence[TrackedTrial], metric: str = "score", goal: str = "maximize") -> list[Point]:
    """(number of the trial, best metric of a feasible full-length trial up to it), from the first such trial on."""
    better = max if goal == "maximize" else min
    line: list[Point] = []
    for trial in trials:
        if trial.state == "COMPLETE" and trial.reports[-1].get("feasible", True):
            value = float(trial.reports[-1][metric])
            line.append((trial.number, better(value, line[-1][1]) if line else value))
    return line


def last_points(trials: Sequence[TrackedTrial], state: str) -> list[Point]:
    """(leakage, F1) of the last epoch of the trials in `state` that measure both."""
    last = [trial.reports[-1] for trial in trials if trial.state == state and trial.reports]
    known = [report for report in last if report.get("speaker_leakage") is not None and report.get("accent_f1") is not None]
    return [(report["speaker_leakage"], report["accent_f1"]) for report in known]


def scatter(axes: Axes, points: Sequence[tuple[Any, Any]], marker: str, face: str, label: str, edge: str) -> None:
    """Points in the style of all figures; nothing, also in the legend, where there are none."""
    if points:
        x, y = zip(*points, strict=True)
        axes.scatter(x, y, s=42, marker=marker, facecolors=face, edgecolors=edge, linewidths=1.1, label=label, zorder=3)


def paint_points(axes: Axes, trials: Sequence[TrackedTrial]) -> None:
    """Leakage and F1 of full-length and of stopped trials, and the front of the former."""
    for state, filled in (("COMPLETE", True), ("STOPPED", False)):
        points = last_points(trials, state)
        label = f"search, {'full length' if filled else 'stopped early'} (validation, n = {len(points)})"
        scatter(axes, points, "o", COLOURS[0] if filled else "none", label, COLOURS[0])
    line = front(last_points(trials, "COMPLETE"))
    if len(line) > 1:
        how: Mapping[str, Any] = {"color": COLOURS[0], "linewidth": 1.2, "linestyle": ":"}
        axes.step(*zip(*line, strict=True), where="post", label="Pareto front of full-length trials", **how)


def paint_gate(axes: Axes, gate: Gate) -> None:
    """The limits of GO and CONDITIONAL as lines, and the labels of both axes."""
    axes.set(xlabel=f"{LEAKAGE}: larger of unseen and seen", ylabel=F1, title="Accent against leakage")
    for limits, name in ((gate.go, "GO"), (gate.conditional, "CONDITIONAL")):
        label = f"limits of {name}: F1 ≥ {limits.accent_f1:g}, leakage ≤ {limits.leakage:g}"
        limit_lines(axes, limits.leakage, limits.accent_f1, label, strong=name == "GO")
    axes.margins(0.08)


def paint_history(trials: Sequence[TrackedTrial], metric: str, goal: str, canvas: Canvas) -> None:
    """The metric by trial, and the best so far."""
    if not any(t.state in FAILED or (t.state in ("COMPLETE", "STOPPED") and t.reports) for t in trials):
        say_instead(canvas, "Optimisation history", "No trial has ended.")
        return
    axes = canvas.add_subplot()
    ended = {state: [t for t in trials if t.state == state and t.reports] for state in ("COMPLETE", "STOPPED")}
    feasible = [t for t in ended["COMPLETE"] if t.reports[-1].get("feasible", True)]
    others = [t for t in ended["COMPLETE"] if t not in feasible]
    for shown, marker, face, words in (
        (feasible, "o", COLOURS[0], "full length, feasible"),
        (others, "X", COLOURS[4], "full length, over a limit"),
        (ended["STOPPED"], "o", "none", "stopped early (last value)"),
    ):
        scatter(axes, [(t.number, t.reports[-1][metric]) for t in shown], marker, face, f"{words} (n = {len(shown)})", BLACK)
    line = best_so_far(trials, metric, goal)
    if line:
        line.append((max(t.number for t in trials), line[-1][1]))
        axes.step(*zip(*line, strict=True), where="post", color=BEST_COLOUR, label="best feasible so far")
    failed = [t.number for t in trials if t.state in FAILED]
    for number in failed:
        label = f"failed (n = {len(failed)})" if number == failed[0] else None
        axes.axvline(number, color=GREY, linewidth=1.0, linestyle=":", label=label)
    title = "Optimisation history" if line else "Optimisation history: no full-length trial kept every limit"
    axes.set(xlabel="Trial", ylabel=f"Search's {metric} (validation speakers)", title=title)
    whole_ticks(axes.xaxis)
    axes.margins(0.05, 0.1)
    canvas.legend(loc="outside lower left", ncols=2)


def _pareto(trials: Sequence[TrackedTrial], gate: Gate, canvas: Canvas) -> None:
    axes = canvas.add_subplot()
    paint_points(axes, trials)
    paint_gate(axes, gate)
    canvas.legend(loc="outside lower left", ncols=1)


def _learning(trials: Sequence[TrackedTrial], metric: str, best: int | None, canvas: Canvas) -> None:
    own = [trial for trial in trials if trial.state != "DUPLICATE" and trial.reports]
    if not own:
        say_instead(canvas, "Learning curves", "No trial has finished an epoch.")
        return
    panels = {metric: f"Search's {metric}", "accent_f1": F1, "speaker_leakage": "Speaker leakage given accent"}
    for axes, (name, words) in zip(canvas.subplots(1, len(panels)), panels.items(), strict=True):
        for trial in own:
            _curve(axes, trial, name, trial.number == best)
        axes.set(xlabel="Epoch", title=words)
        whole_ticks(axes.xaxis)
    handles, labels = canvas.axes[0].get_legend_handles_labels()
    known = dict(zip(labels, handles, strict=True))
    canvas.legend(list(known.values()), list(known), loc="outside lower left", ncols=4)


def _curve(axes: Axes, trial: TrackedTrial, name: str, best: bool) -> None:
    values = [float("nan") if report.get(name) is None else report[name] for report in trial.reports]
    how: dict[str, Any] = {"color": COLOURS[0], "linewidth": 0.9, "alpha": 0.7, "marker": ".", "label": "full length"}
    if trial.state != "COMPLETE":
        how |= {"color": GREY, "linestyle": "--", "label": "stopped, failed or not ended"}
    if best:
        how |= {
            "color": BEST_COLOUR,
            "linewidth": 2.4,
            "alpha": 1.0,
            "marker": "D",
            "markersize": 4,
            "zorder": 5,
            "label": f"trial {trial.number}, the best",
        }
    axes.plot(range(1, len(values) + 1), values, **how)
