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


def draw(name: str, alt: str, size: tuple[float, float], paint: Callable[[Canvas], None]) -> Picture:
    """A picture of what `paint` draws.

    Args:
        name: file name without ending.
        alt: what the picture says, in words.
        size: width and height in inches.
        paint: draws on an empty canvas.
    """
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    with matplotlib.rc_context(dict(STYLE)):
        canvas = Canvas(figsize=size, dpi=DPI, layout="constrained")
        paint(canvas)
        return as_picture(canvas, name, alt)


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


def limit_line(axes: Axes, value: float, label: str, *, upright: bool, strong: bool) -> None:
    """A limit of the gate across the axes, named at its end."""
    how: dict[str, Any] = {
        "color": BLACK if strong else GREY,
        "linewidth": 1.1,
        "linestyle": "-" if strong else (0, (4, 2)),
        "zorder": 1,
    }
    where: dict[str, Any]
    if upright:
        axes.axvline(value, **how)
        where = {
            "xy": (value, 0.0),
            "xycoords": axes.get_xaxis_transform(),
            "xytext": (3, 4),
            "va": "bottom",
            "ha": "left",
            "rotation": 90,
        }
    else:
        axes.axhline(value, **how)
        where = {"xy": (1.0, value), "xycoords": axes.get_yaxis_transform(), "xytext": (-2, 3), "va": "bottom", "ha": "right"}
    paper = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
    axes.annotate(
        label, textcoords="offset points", fontsize=8, color=BLACK if strong else "#555555", bbox=paper, zorder=1.5, **where
    )
