"""A page as JSON beside its pictures, so that another page can hold its sections without knowing what made them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tune_accent.base.errors import DataError
from tune_accent.base.files import inside, read_json
from tune_accent.base.storage import explained
from tune_accent.reporting.figures import Picture
from tune_accent.reporting.page import Block, Code, Grid, Items, Links, Note, Page, Paragraph, Plate, Section
from tune_accent.reporting.tables import Table


def page_record(page: Page) -> dict[str, Any]:
    """`page` as JSON values; pictures by name, as the files `<name>.png` beside the record. Links are left out: they lead from one place only."""
    sections = [
        {"heading": section.heading, "blocks": [_record(block) for block in section.blocks if not isinstance(block, Links)]}
        for section in page.sections
    ]
    return {"title": page.title, "subtitle": page.subtitle, "sections": sections, "footer": page.footer}


def stored_page(path: Path) -> Page:
    """The inverse of `page_record`, with the pictures that lie beside `path`.

    Raises:
        DataError: it is no such record, or a picture is missing. FileNotFoundError: it is not there.
    """
    record = read_json(path)
    try:
        sections = [
            Section(_text(one["heading"]), [_block(block, path.parent) for block in one["blocks"]]) for one in record["sections"]
        ]
        return Page(_text(record["title"]), _text(record["subtitle"]), sections, _text(record["footer"]))
    except (KeyError, TypeError, ValueError, FileNotFoundError) as error:
        raise DataError(f"not a page: {error}", str(path), "the command that made it makes it anew") from error


def _record(block: Block) -> dict[str, Any]:
    match block:
        case Paragraph(text) | Code(text):
            return {"kind": block.kind, "text": text}
        case Note(text, tone):
            return {"kind": block.kind, "text": text, "tone": tone}
        case Items(items):
            return {"kind": block.kind, "items": list(items)}
        case Grid(table):
            return {"kind": block.kind, **vars(table), "marked": sorted(table.marked)}
        case Plate(picture, caption):
            return {"kind": block.kind, "picture": picture.name, "alt": picture.alt, "caption": caption}
    raise TypeError(f"a {block.kind} cannot be stored")


def _block(record: Any, folder: Path) -> Block:
    kind = record["kind"]
    if kind in ("paragraph", "code"):
        return (Paragraph if kind == "paragraph" else Code)(_text(record["text"]))
    if kind == "note":
        return Note(_text(record["text"]), record["tone"] if record["tone"] in ("note", "warning", "good", "bad") else "note")
    if kind == "items":
        return Items(tuple(map(_text, record["items"])))
    if kind == "grid":
        rows = tuple(tuple(map(_text, row)) for row in record["rows"])
        return Grid(Table(tuple(map(_text, record["columns"])), rows, _text(record["caption"]), frozenset(record["marked"])))
    if kind == "plate":
        file = inside(folder, f"{_text(record['picture'])}.png")
        with explained(file):
            png = file.read_bytes()
        return Plate(Picture(record["picture"], _text(record["alt"]), png, b""), _text(record["caption"]))
    raise ValueError(f"{kind!r} is no part of a page")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def under(section: Section, words: str) -> Section:
    """The section as a part of another page: `words: heading`."""
    return replace(section, heading=f"{words}: {section.heading[:1].lower()}{section.heading[1:]}")
