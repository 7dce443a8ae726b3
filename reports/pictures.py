"""Pictures that one method alone can draw: its module is imported only if a record of that method exists.

A picture module is `vitq.reports.<name>_plots` and offers one function:

    def draw(records: Sequence[Row], results: Path, out: Path) -> list[Picture]

`records` are the finished records of the method (or methods) that the module serves; the values of `record.files` are
paths relative to `results`; `record.details` holds what the method measured of itself. The PNGs are written into
`out`, which exists, under names that begin with the module's name. Where there is nothing to draw the list is empty.
A module may also offer words of its own for the report, `section(records) -> tuple[str, str]`: a title and Markdown,
empty where there is nothing to say.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vitq.escape import markdown
from vitq.rows import Row


class Picture(NamedTuple):
    """A picture of a report: the PNG, a short title, and a caption that says what is seen and from which records.

    `rows` are what was drawn, as words, for who cannot see the picture: a table where it has numbers to tell.
    """

    file: Path
    title: str
    caption: str
    rows: tuple[dict[str, str], ...] = ()


MODULES: dict[str, str] = {
    "psaq_vit": "psaq_plots",
    "psaq_vit_v2": "psaq_plots",
    "pmq": "pmq_plots",
    "i_vit": "i_vit_plots",
    "binary_vit": "binary_vit_plots",
}


def draw_method_pictures(
    records: Sequence[Row], results: Path, out: Path, modules: dict[str, str] | None = None
) -> tuple[list[Picture], list[str]]:
    """Draw every method's own pictures; return them with one line for each module that could not draw.

    A picture that fails (a file of the record is gone, say) costs that module's pictures and is named in the report;
    tables and verdicts do not depend on it.
    """
    by_module = _by_module(records, MODULES if modules is None else modules)
    pictures: list[Picture] = []
    problems: list[str] = []
    out.mkdir(parents=True, exist_ok=True)
    for name, of_method in sorted(by_module.items()):
        try:
            module = importlib.import_module(f"vitq.reports.{name}")
            pictures.extend(module.draw(of_method, results, out))
        except Exception as error:  # whatever a drawing raises, the report is still worth having
            problems.append(f"{name}: no pictures, {type(error).__name__}: {error}")
    return pictures, problems


def method_sections(records: Sequence[Row]) -> dict[str, str]:
    """What the methods' modules have to say in words, by title; one that fails is named with its reason."""
    sections: dict[str, str] = {}
    for name, of_method in sorted(_by_module(records, MODULES).items()):
        say = getattr(importlib.import_module(f"vitq.reports.{name}"), "section", None)
        try:
            title, text = say(of_method) if say else ("", "")
        except Exception as error:  # records from elsewhere may hold anything under details
            title, text = f"Words of {name}", f"None could be written: {markdown(f'{type(error).__name__}: {error}')}"
        if text:
            sections[title] = text
    return sections


def _by_module(records: Sequence[Row], table: dict[str, str]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for record in records:
        if record.status == "done" and record.cell.method in table:
            found.setdefault(table[record.cell.method], []).append(record)
    return found
