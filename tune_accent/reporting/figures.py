"""Pictures as bytes, drawn with matplotlib's Agg and PDF canvases: no display, no global state, equal bytes for equal numbers.

Colour maps are those that colour-blind readers can tell apart (cividis; PuOr where a sign matters), and every cell carries its number.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

DPI = 150
CELL_W, CELL_H, LEFT, RIGHT, ABOVE, BELOW = 1.25, 0.42, 2.05, 1.0, 0.45, 0.55  # inches
MISSING_COLOUR, MISSING_HATCH = "#dddddd", "///"


@dataclass(frozen=True)
class Picture:
    """A drawn figure.

    Attributes:
        name: file name without ending.
        alt: what it shows, for those who cannot see it.
        png, pdf: the two forms; without PDF that is empty.
    """

    name: str
    alt: str
    png: bytes
    pdf: bytes


@dataclass(frozen=True)
class HeatMap:
    """Values by row and column.

    Attributes:
        title: above the map.
        rows, columns: labels; a line feed breaks a label.
        values: rows × columns; None where there is no value.
        label: of the colour bar.
        signed: colours diverge from 0, and numbers carry their sign.
        marked: (row, column) of a cell that is framed.
    """

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    label: str
    signed: bool = False
    marked: tuple[int, int] | None = None


def draw_heat_map(heat: HeatMap, name: str, alt: str) -> Picture:
    """Draw `heat`.

    Args:
        heat: what to draw; at least one row and one column.
        name: file name without ending.
        alt: what the picture says, in words.
    """
    return as_picture(heat_canvas(heat), name, alt)


def as_picture(canvas: Canvas, name: str, alt: str, pdf: bool = True) -> Picture:
    """Both forms of a drawn canvas (the PDF takes most of the time), without date or program name: equal drawings give equal bytes."""
    return Picture(name, alt, _bytes(canvas, "png"), _bytes(canvas, "pdf") if pdf else b"")


def heat_canvas(heat: HeatMap) -> Canvas:
    """The drawn map as a figure of matplotlib."""
    from matplotlib.figure import Figure as Canvas

    size = (LEFT + CELL_W * len(heat.columns) + RIGHT, ABOVE + CELL_H * len(heat.rows) + BELOW)
    canvas = Canvas(figsize=size, dpi=DPI)
    box = (LEFT / size[0], BELOW / size[1], CELL_W * len(heat.columns) / size[0], CELL_H * len(heat.rows) / size[1])
    axes = canvas.add_axes(box)
    _draw_cells(canvas, axes, heat)
    _label(axes, heat)
    return canvas


def _draw_cells(canvas: Canvas, axes: Axes, heat: HeatMap) -> None:
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    values = np.array([[np.nan if value is None else value for value in row] for row in heat.values], dtype=np.float64)
    low, high = _limits(values[np.isfinite(values)].tolist(), heat)
    colours = colormaps["PuOr_r" if heat.signed else "cividis"]
    image = axes.imshow(values, cmap=colours, vmin=low, vmax=high, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if not np.isfinite(value):
            corner = (column - 0.5, row - 0.5)
            axes.add_patch(Rectangle(corner, 1, 1, facecolor=MISSING_COLOUR, edgecolor="white", hatch=MISSING_HATCH, linewidth=0))
        text = ("n/a" if not np.isfinite(value) else f"{value:+.3f}" if heat.signed else f"{value:.3f}").replace("-", "−")
        shade = colours((value - low) / (high - low)) if np.isfinite(value) else None
        axes.text(column, row, text, ha="center", va="center", fontsize=10, color=_readable(shade))
    if heat.marked is not None:
        row, column = heat.marked
        axes.add_patch(Rectangle((column - 0.48, row - 0.47), 0.96, 0.94, fill=False, edgecolor="black", linewidth=2.4))
        axes.add_patch(Rectangle((column - 0.48, row - 0.47), 0.96, 0.94, fill=False, edgecolor="white", linewidth=0.8))
    box = axes.get_position()
    bar_axes = canvas.add_axes((box.x1 + 0.015, box.y0, 0.14 / canvas.get_figwidth(), box.height))
    canvas.colorbar(image, cax=bar_axes).set_label(heat.label, fontsize=10)
    if heat.signed:
        bar_axes.set_ylim(np.nanmin([*values.flat, 0.0]), np.nanmax([*values.flat, 0.0]) or high)


def _label(axes: Axes, heat: HeatMap) -> None:
    axes.set_xticks(range(len(heat.columns)), heat.columns, fontsize=10)
    axes.set_yticks(range(len(heat.rows)), heat.rows, fontsize=10)
    axes.tick_params(length=0)
    axes.set_title(heat.title, fontsize=12, pad=10, loc="left")
    for edge in axes.spines.values():
        edge.set_visible(False)


def _limits(known: Sequence[float], heat: HeatMap) -> tuple[float, float]:
    """Ends of the colour scale: around 0 where the sign matters, else from the smallest value to the largest."""
    if heat.signed:
        reach = max((abs(value) for value in known), default=0.0) or 1.0
        return -reach, reach
    low, high = min(known, default=0.0), max(known, default=1.0)
    return (low, high) if high > low else (low, low + 1.0)


def _readable(shade: tuple[float, ...] | None) -> str:
    """Black or white, whichever is easier to read on the colour (relative luminance of WCAG 2)."""
    if shade is None:
        return "black"
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shade[:3]]
    return "black" if 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.179 else "white"


def _bytes(canvas: Canvas, kind: str) -> bytes:
    """The drawn canvas in one form, without date or program name: equal numbers give equal bytes."""
    metadata: dict[str, Any] = {"Software": None} if kind == "png" else {"CreationDate": None, "Creator": None, "Producer": None}
    out = io.BytesIO()
    canvas.savefig(out, format=kind, metadata=metadata)
    return out.getvalue()
