"""Line and point plots in one style: readable in print and in grey, told apart by shape and dash as well as by colour (Okabe & Ito 2008)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tune_accent.reporting.figures import Picture, as_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure as Canvas

DPI = 150
BLACK, GREY = "#000000", "#767676"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES: tuple[Any, ...] = ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1)))
MARKERS = ("s", "^", "v", "P", "X", "*")
STYLE: Mapping[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "axes.titlesize": 11.0,
    "axes.titlelocation": "left",
    "axes.labelsize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.7,
    "legend.fontsize": 9.0,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "pdf.fonttype": 42,
    "hatch.linewidth": 0.8,
}


def draw(name: str, alt: str, size: tuple[float, float], paint: Callable[[Canvas], None], pdf: bool = True) -> Picture:
    """A picture of what `paint` draws.

    Args:
        name: file name without ending.
        alt: what the picture says, in words.
        size: width and height in inches.
        paint: draws on an empty canvas.
        pdf: whether it is wanted as PDF, too.
    """
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    with matplotlib.rc_context(dict(STYLE)):
        canvas = Canvas(figsize=size, dpi=DPI, layout="constrained")
        paint(canvas)
        return as_picture(canvas, name, alt, pdf)


def say_instead(canvas: Canvas, title: str, words: str) -> None:
    """A canvas that says why there is nothing to be seen."""
    axes = canvas.add_subplot()
    axes.set_title(title)
    axes.set_axis_off()
    axes.text(0.5, 0.5, words, ha="center", va="center", wrap=True, transform=axes.transAxes, color=BLACK)


def whole_ticks(axis: Axis) -> None:
    """Ticks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))


def limit_lines(axes: Axes, x: float, y: float, label: str, *, strong: bool) -> None:
    """A limit in either direction, named once in the legend: names beside the lines would lie on points."""
    how: dict[str, Any] = {"linewidth": 1.1, "linestyle": "-" if strong else (0, (4, 2)), "zorder": 1}
    axes.axhline(y, color=BLACK if strong else GREY, label=label, **how)
    axes.axvline(x, color=BLACK if strong else GREY, **how)


def marker_with_bars(axes: Axes, at: tuple[float, float], bars: tuple[Any, Any], marker: str, colour: str, label: str) -> None:
    """One point that stands out, with error bars: (in x, in y), as `Axes.errorbar` takes them; None for no bar."""
    axes.errorbar(
        [at[0]], [at[1]], xerr=bars[0], yerr=bars[1], fmt=marker, color=colour, markeredgecolor=BLACK, markersize=9,
        ecolor=BLACK, elinewidth=1.4, capsize=4, label=label, zorder=5,
    )  # fmt: skip
