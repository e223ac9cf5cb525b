"""A page of sections, once as HTML that needs nothing beside it and once as Markdown.

The HTML holds its pictures as data URIs, has no script and asks for no other resource (its content security policy forbids both); whatever
it is given is text, and is escaped. The Markdown names the pictures as files that lie beside it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from tune_accent.base.errors import visible
from tune_accent.reporting.figures import Picture
from tune_accent.reporting.tables import Table, escape_markdown
from tune_accent.reporting.tables import to_markdown as table_markdown

if TYPE_CHECKING:
    from jinja2 import Template

Tone = Literal["note", "warning", "good", "bad"]
TEMPLATES = Path(__file__).parent / "templates"
_ADDRESS = re.compile(r"(https://)?[\w.@~%-][\w.@~/%=?&+-]*")  # no scheme but this, and no other host


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str
    kind: ClassVar[str] = "paragraph"


@dataclass(frozen=True)
class Note:
    """Text that a reader must not miss."""

    text: str
    tone: Tone = "note"
    kind: ClassVar[str] = "note"


@dataclass(frozen=True)
class Items:
    """A list of short texts."""

    items: tuple[str, ...]
    kind: ClassVar[str] = "items"


@dataclass(frozen=True)
class Code:
    """Lines to copy."""

    text: str
    kind: ClassVar[str] = "code"


@dataclass(frozen=True)
class Grid:
    """A table."""

    table: Table
    kind: ClassVar[str] = "grid"


@dataclass(frozen=True)
class Plate:
    """A picture with its caption."""

    picture: Picture
    caption: str = ""
    kind: ClassVar[str] = "plate"

    @property
    def source(self) -> str:
        """The picture as a data URI."""
        return f"data:image/png;base64,{base64.b64encode(self.picture.png).decode('ascii')}"


@dataclass(frozen=True)
class Links:
    """Places to go to: (text, address). An address is relative to the page, or begins with https://.

    Raises:
        ValueError: an address is anything else.
    """

    links: tuple[tuple[str, str], ...]
    kind: ClassVar[str] = "links"

    def __post_init__(self) -> None:
        odd = [address for _, address in self.links if not _ADDRESS.fullmatch(address)]
        if odd:
            raise ValueError(f"{odd[0]!r} is no address of a page")


Block = Paragraph | Note | Items | Code | Grid | Plate | Links


@dataclass(frozen=True)
class Section:
    """Blocks under a heading."""

    heading: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """A report: title, a line below it, sections, a last line."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    footer: str = ""


def to_html(page: Page) -> str:
    """One file that any browser shows, on paper too."""
    return _template().render(page=page)


def to_markdown(page: Page) -> str:
    """The same page as Markdown; pictures are links to `<name>.png`."""
    parts = [f"# {escape_markdown(page.title)}", escape_markdown(page.subtitle)]
    for section in page.sections:
        parts += [f"## {escape_markdown(section.heading)}", *(_block_markdown(block).rstrip("\n") for block in section.blocks)]
    parts.append(escape_markdown(page.footer))
    return "\n\n".join(part for part in parts if part) + "\n"


def _block_markdown(block: Block) -> str:
    match block:
        case Paragraph(text):
            return escape_markdown(text)
        case Note(text):
            return f"> {escape_markdown(text)}"
        case Items(items):
            return "\n".join(f"- {escape_markdown(item)}" for item in items)
        case Code(text):
            return "\n".join(f"    {visible(line)}" for line in text.splitlines())
        case Grid(table):
            return table_markdown(table)
        case Plate(picture, caption):
            shown = f"![{escape_markdown(picture.alt)}]({picture.name}.png)"
            return f"{shown}\n\n{escape_markdown(caption)}" if caption else shown
        case Links(links):
            return "\n".join(f"- [{escape_markdown(text)}]({address})" for text, address in links)


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["visible"] = visible
    return environment.get_template("page.html")
