"""A notebook as a page: executed when the site is built, its cells and what they show as Markdown."""

from __future__ import annotations

import base64
import re
import tempfile

import nbformat
from nbclient import NotebookClient
from nbconvert import MarkdownExporter
from repository import ROOT

NOTEBOOKS = ROOT / "docs" / "notebooks"
_PICTURE = re.compile(r"!\[png\]\(([\w.]+)\)")


def executed(name: str) -> nbformat.NotebookNode:
    """A notebook with its outputs, run in an empty folder; CellExecutionError names the cell that fails."""
    notebook: nbformat.NotebookNode = nbformat.reads(  # type: ignore[no-untyped-call]
        (NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"), as_version=4
    )
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": folder}}).execute()
    return notebook


def notebook(name: str) -> str:
    """Its text, code and outputs, with pictures in the page itself."""
    exporter = MarkdownExporter()  # type: ignore[no-untyped-call]
    text, resources = exporter.from_notebook_node(executed(name))
    files = resources["outputs"]

    def inlined(found: re.Match[str]) -> str:
        return f"![picture](data:image/png;base64,{base64.b64encode(files[found[1]]).decode()})"

    return _PICTURE.sub(inlined, text)
