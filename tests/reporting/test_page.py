"""Pages: whatever they are given is text, and the HTML needs nothing beside it."""

from __future__ import annotations

import base64
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tune_accent.reporting.figures import HeatMap, Picture, draw_heat_map
from tune_accent.reporting.page import (
    TEMPLATES,
    Block,
    Code,
    Grid,
    Items,
    Note,
    Page,
    Paragraph,
    Plate,
    Section,
    to_html,
    to_markdown,
)
from tune_accent.reporting.tables import Table

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><a href='javascript:alert(1)'>região</a>",
    "{{ 7 * 7 }}{% include '/etc/passwd' %}",
    "</style></main></title><iframe src=http://x>",
    "\x1b[31mvermelho\x00",
)
PICTURE = draw_heat_map(HeatMap("t", ("a",), ("b",), ((0.5,),), "F1"), "figures/map", "um mapa")


def page(text: str, picture: Picture = PICTURE) -> Page:
    """A page that holds `text` wherever a page can hold text."""
    blocks: list[Block] = [
        Paragraph(text),
        Note(text, "bad"),
        Items((text, "São Paulo")),
        Code(text),
        Grid(Table((text, "F1"), ((text, "0.500"),), text, frozenset({0}))),
        Plate(Picture(picture.name, text, picture.png, picture.pdf), text),
    ]
    return Page(text, text, [Section(text, blocks)], text)


class Seen(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(html: str) -> Seen:
    seen = Seen()
    seen.feed(html)
    return seen


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_text_stays_text_in_html(text: str) -> None:
    plain, seen = read(to_html(page("x"))), read(to_html(page(text)))
    assert seen.tags == plain.tags
    assert [name for name, _ in seen.attributes] == [name for name, _ in plain.attributes]
    if text.isprintable():
        shown = [part for part in seen.text if part == text]
        assert len(shown) == sum(part == "x" for part in plain.text) > 10
    else:
        assert "\x1b" not in "".join(seen.text) and "\\x1b[31mvermelho\\x00" in seen.text


def test_the_html_needs_nothing_beside_it() -> None:
    html = to_html(page("São Paulo"))
    seen = read(html)
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & set(seen.tags)
    assert not [name for name, _ in seen.attributes if name.startswith("on") or name in ("href", "srcset", "action")]
    sources = [value for name, value in seen.attributes if name == "src"]
    assert sources == [f"data:image/png;base64,{base64.b64encode(PICTURE.png).decode()}"]
    assert "http://" not in html and "https://" not in html and "url(" not in html and "@import" not in html
    assert ("content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in seen.attributes
    assert "{{" not in html and "{%" not in html


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_text_stays_text_in_markdown(text: str) -> None:
    shown = to_markdown(page(text))
    assert shown.count("\n## ") == 1 and shown.startswith("# ")
    outside = "\n".join(line for line in shown.splitlines() if not line.startswith("    "))
    assert "<" not in outside and "\x1b" not in shown and "\x00" not in shown


def test_markdown_of_a_page() -> None:
    shown = to_markdown(
        Page("Título", "abaixo", [Section("Um", [Paragraph("p"), Code("model:\n  layer: 2"), Plate(PICTURE, "legenda")])], "fim")
    )
    assert shown == (
        "# Título\n\nabaixo\n\n## Um\n\np\n\n    model:\n      layer: 2\n\n![um mapa](figures/map.png)\n\nlegenda\n\nfim\n"
    )


def test_templates_are_installed_with_the_package() -> None:
    pyproject = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    patterns = pyproject["tool"]["setuptools"]["package-data"]["tune_accent.reporting"]
    held = {file for pattern in patterns for file in TEMPLATES.parent.glob(pattern)}
    assert held == set(TEMPLATES.iterdir()) and len(held) == 2
