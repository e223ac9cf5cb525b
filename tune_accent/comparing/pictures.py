"""The figures of a comparison: equal campaigns give equal bytes. Every figure says what was ignored."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from tune_accent.comparing.curves import AXES
from tune_accent.comparing.measures import final_points
from tune_accent.comparing.results import Band, Comparison
from tune_accent.reporting.figures import Picture
from tune_accent.reporting.plots import BLACK, COLOURS, DASHES, GREY, MARKERS, draw, say_instead

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

LINES = ("-", *DASHES)


def pictures(found: Comparison) -> tuple[Picture, ...]:
    """All figures, in the order of the report."""
    return (
        draw(
            "best_score",
            "Best feasible score so far against trials, epochs, worker-seconds and wall clock",
            (9.6, 7.0),
            partial(_best, found),
        ),
        draw("fronts", "Accent F1 against speaker leakage of full-length trials, by engine", (6.8, 4.8), partial(_fronts, found)),
        draw("differences", "Differences of paired repeats with 95 % intervals", (6.8, 3.4), partial(_differences, found)),
    )


def _best(found: Comparison, canvas: Canvas) -> None:
    grid = canvas.subplots(2, 2)
    sign, metric = found.campaigns[0].sign, found.campaigns[0].metric
    for axes, (axis, words) in zip(grid.flat, AXES.items(), strict=True):
        axes.set_xlabel(words)
        axes.set_ylabel(f"best {metric} so far")
        for band in found.bands[axis]:
            _band(axes, band, found.engines.index(band.engine), sign)
        if not found.bands[axis]:
            axes.text(0.5, 0.5, "times are not known", ha="center", va="center", transform=axes.transAxes, color=GREY)
    handles, labels = next(((a.get_legend_handles_labels()) for a in grid.flat if a.get_legend_handles_labels()[0]), ([], []))
    canvas.legend(handles, labels, loc="outside lower center", ncols=min(3, max(1, len(labels))))
    canvas.suptitle(_titled("Median and quartiles over repeats", found), x=0.01, ha="left")


def _band(axes: Axes, band: Band, place: int, sign: int) -> None:
    known = [(cost, values) for cost, values in zip(band.costs, band.values, strict=True) if values[1] is not None]
    costs, colour = [cost for cost, _ in known], COLOURS[place % len(COLOURS)]
    label = f"{band.engine} (n = {band.repeats})"
    middle = [sign * (values[1] or 0.0) for _, values in known]
    axes.step(costs, middle, where="post", color=colour, linestyle=LINES[place % len(LINES)], label=label)
    both = [(cost, sign * low, sign * high) for cost, (low, _, high) in known if low is not None and high is not None]
    if band.repeats > 1 and both:
        at, low_edge, high_edge = (list(column) for column in zip(*both, strict=True))
        axes.fill_between(at, low_edge, high_edge, step="post", color=colour, alpha=0.15, linewidth=0)


def _fronts(found: Comparison, canvas: Canvas) -> None:
    title = _titled("Full-length trials, last epoch", found)
    points = {
        engine: [p for one in found.campaigns if one.engine == engine for p in final_points(one)] for engine in found.engines
    }
    if not any(points.values()):
        say_instead(canvas, title, "no trial measures accent F1 and speaker leakage")
        return
    axes = canvas.add_subplot()
    for place, (engine, own) in enumerate(points.items()):
        style: dict[str, Any] = {"marker": MARKERS[place % len(MARKERS)], "color": COLOURS[place % len(COLOURS)]}
        axes.scatter(
            [leakage for _, leakage in own], [f1 for f1, _ in own], s=26, edgecolors="none", alpha=0.8, label=engine, **style
        )
    axes.set(title=title, xlabel="Speaker leakage given accent (0 = none)", ylabel="Accent macro-F1")
    axes.legend()


def _differences(found: Comparison, canvas: Canvas) -> None:
    title, known = (
        _titled(f"{found.engines[0]} less another, at equal epochs", found),
        [one for one in found.differences if one.mean is not None],
    )
    if not known:
        say_instead(canvas, title, "no two engines have repeats of the same seed")
        return
    axes = canvas.add_subplot()
    for place, one in enumerate(known):
        mean = one.mean or 0.0
        bars = None if one.low is None or one.high is None else [[mean - one.low], [one.high - mean]]
        axes.errorbar([mean], [place], xerr=bars, fmt="o", color=COLOURS[0], ecolor=BLACK, capsize=4)
    axes.axvline(0, color=BLACK, linewidth=1)
    axes.set_yticks(range(len(known)), [f"{one.other} (n = {one.pairs})" for one in known])
    axes.set_ylim(-0.7, len(known) - 0.3)
    axes.set(
        title=title, xlabel=f"Difference in {found.campaigns[0].metric}, more is better (mean of pairs, 95 % bootstrap interval)"
    )


def _titled(title: str, found: Comparison) -> str:
    return title if not found.caveats else f"{title}\n(not the same search: see the notes)"
