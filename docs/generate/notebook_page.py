"""A notebook as a page: run when the site is built, its cells and what they show as Markdown."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable

import nbformat
from nbclient import NotebookClient
from repository import ROOT

NOTEBOOKS = ROOT / "docs" / "notebooks"


def notebook(name: str) -> str:
    """A notebook's text, code and outputs, once it was run; its title is the page's own."""
    _, _, text = page_of(run(name)).partition("\n")
    return text


def run(name: str) -> nbformat.NotebookNode:
    """A notebook with its outputs, run in an empty folder; CellExecutionError names the cell that fails."""
    made: nbformat.NotebookNode = nbformat.reads(  # type: ignore[no-untyped-call]
        (NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"), as_version=4
    )
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore:IProgress not found"}  # tqdm's word for missing widgets
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(made, timeout=300, resources={"metadata": {"path": folder}}).execute(env=quiet)
    return made


def page_of(made: nbformat.NotebookNode) -> str:
    """A notebook with its outputs as Markdown, pictures in the page itself."""
    return "\n\n".join(part for cell in made.cells for part in _cell(cell))


def _cell(cell: nbformat.NotebookNode) -> Iterable[str]:
    if cell.cell_type == "markdown":
        yield str(cell.source)
        return
    yield _fenced("python", cell.source)
    for output in cell.outputs:
        yield _shown(output)


def _shown(output: nbformat.NotebookNode) -> str:
    """The richest form of an output that a page has: a table, a picture, then text."""
    if output.output_type == "stream":
        return _fenced("output", output.text)
    data = output.data
    if "text/markdown" in data:
        return str(data["text/markdown"])
    if "image/png" in data:
        return f"![picture](data:image/png;base64,{''.join(data['image/png'].split())})"
    return _fenced("output", data["text/plain"])


def _fenced(language: str, text: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"
