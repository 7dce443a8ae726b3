"""Reading a report's page without a browser: its elements, its text, and what is packed in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any, NamedTuple

from vitq.reports.html.packed import unpacked

VOID = {"meta", "link", "input", "img", "br", "hr"}


class Element(NamedTuple):
    """An element with its attributes and the names of those around it."""

    name: str
    attributes: dict[str, str]
    inside: tuple[str, ...]


class Page(HTMLParser):
    """The page's elements in order, the text of each kind of element, and its packed data by id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.texts: dict[str, list[str]] = {}
        self.packed: dict[str, str] = {}
        self._open: list[str] = []
        self._script = ""
        self.feed(text)
        self.close()
        assert self._open == [], f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.elements.append(Element(tag, attributes, tuple(self._open)))
        if tag not in VOID:
            self._open.append(tag)
        self._script = attributes.get("id", "") if tag == "script" else ""

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1:] == [tag], f"</{tag}> closes {self._open[-1:]}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.setdefault(self._open[-1], []).append(data)
        if self._script and self._open[-1] == "script":
            self.packed[self._script] = self.packed.get(self._script, "") + data

    def of(self, name: str) -> list[dict[str, str]]:
        """The attributes of every element of a name."""
        return [element.attributes for element in self.elements if element.name == name]

    @property
    def ids(self) -> list[str]:
        return [e.attributes["id"] for e in self.elements if "id" in e.attributes]

    @property
    def words(self) -> str:
        """All text that a reader can see."""
        hidden = ("style", "script", "title")
        return " ".join(t for name, texts in self.texts.items() if name not in hidden for t in texts)

    def data(self, id: str) -> Any:
        """What is packed under an id, as a value."""
        return json.loads(unpacked(self.packed[id]))

    def table(self, id: str) -> list[list[Any]]:
        """The rows of a table that the page's script makes."""
        return list(self.data(f"data-{id}")["rows"])

    @property
    def records(self) -> list[dict[str, Any]]:
        """The records, in the order that the page lists them."""
        names = [name for name in self.packed if name.startswith("part-")]
        return [record for name in names for record in self.data(name)]


def shown(cell: Any) -> str:
    """The text of a table's cell."""
    return cell if isinstance(cell, str) else cell["t"]


def links(value: Any) -> Iterator[str]:
    """Every anchor that packed rows lead to."""
    if isinstance(value, dict):
        if value.get("r"):
            yield value["r"]
        for each in value.values():
            yield from links(each)
    elif isinstance(value, list):
        for each in value:
            yield from links(each)
