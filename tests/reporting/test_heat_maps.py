"""Heat maps: what stands in the cells, whether it can be read, and that equal numbers give equal bytes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from tune_accent.reporting.figures import MISSING_COLOUR, HeatMap, draw_heat_map, heat_canvas

LOSSES = HeatMap(
    title="Vazamento de locutor",
    rows=("text_encoder_out", "decoder_block_00 (k = 1)", "pre_vocoder (k = 2)"),
    columns=("mean\nS neutral", "mean+std\nS given"),
    values=((0.0, -0.125), (0.5, None), (0.25, 0.0625)),
    label="leakage",
    signed=True,
    marked=(2, 1),
)


def axes_of(heat: HeatMap) -> Any:
    """The axes that hold the cells."""
    return heat_canvas(heat).axes[0]


def cells(heat: HeatMap) -> dict[tuple[float, float], Any]:
    """The text of each cell, by row and column."""
    return {(text.get_position()[1], text.get_position()[0]): text for text in axes_of(heat).texts}


def test_every_cell_carries_its_number() -> None:
    shown = {place: text.get_text() for place, text in cells(LOSSES).items()}
    assert shown == {(0, 0): "+0.000", (0, 1): "−0.125", (1, 0): "+0.500", (1, 1): "n/a", (2, 0): "+0.250", (2, 1): "+0.062"}
    plain = {text.get_text() for text in cells(replace(LOSSES, signed=False)).values()}
    assert plain == {"0.000", "−0.125", "0.500", "n/a", "0.250", "0.062"}


def test_a_cell_without_a_value_is_hatched_and_the_chosen_one_framed() -> None:
    patches = [patch for patch in axes_of(LOSSES).patches if isinstance(patch, Rectangle)]
    hatched = [patch for patch in patches if patch.get_hatch()]
    assert [(patch.get_y() + 0.5, patch.get_x() + 0.5) for patch in hatched] == [(1, 1)]
    assert tuple(hatched[0].get_facecolor()[:3]) == pytest.approx(to_rgb(MISSING_COLOUR))
    assert {round(patch.get_y()) for patch in patches if not patch.get_fill()} == {2}
    assert not [patch for patch in axes_of(replace(LOSSES, marked=None)).patches if not patch.get_fill()]


def luminance(colour: Any) -> float:
    """Relative luminance of WCAG 2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return float(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])


@pytest.mark.parametrize("signed", [True, False])
def test_every_number_can_be_read_on_its_colour(signed: bool) -> None:
    steps = tuple(tuple((column + 10 * row) / 100 - 0.3 for column in range(10)) for row in range(8))
    heat = HeatMap("t", tuple("abcdefgh"), tuple("0123456789"), steps, "F1", signed)
    image = axes_of(heat).images[0]
    for (row, column), text in cells(heat).items():
        light, dark = sorted(
            (luminance(to_rgb(text.get_color())), luminance(image.cmap(image.norm(steps[int(row)][int(column)])))), reverse=True
        )
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_zero_is_the_neutral_colour_of_a_signed_map() -> None:
    image = axes_of(LOSSES).images[0]
    assert image.norm(0.0) == 0.5 and (image.norm.vmin, image.norm.vmax) == (-0.5, 0.5)


@pytest.mark.parametrize("values", [((None, None),), ((0.5, 0.5),), ((0.0, 0.0),)], ids=["nothing known", "all equal", "all 0"])
@pytest.mark.parametrize("signed", [True, False])
def test_odd_values_are_drawn(values: tuple[tuple[float | None, ...], ...], signed: bool) -> None:
    drawn = draw_heat_map(replace(LOSSES, rows=("a",), values=values, signed=signed, marked=None), "map", "a map")
    assert drawn.png.startswith(b"\x89PNG") and drawn.pdf.startswith(b"%PDF")


def test_equal_numbers_give_equal_bytes() -> None:
    first, again = (draw_heat_map(LOSSES, "map", "um mapa") for _ in range(2))
    assert first == again
    assert first.png.startswith(b"\x89PNG") and first.pdf.startswith(b"%PDF") and b"CreationDate" not in first.pdf
    assert draw_heat_map(replace(LOSSES, marked=(0, 0)), "map", "um mapa").png != first.png
