"""The notebook runs from its first cell to its last in an empty folder, and is stored without what it shows."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
sys.path.insert(0, str(DOCS / "generate"))

from notebook_page import page_of, run  # noqa: E402


def cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_stored_without_outputs(path: Path) -> None:
    assert all(not cell.outputs and cell.execution_count is None for cell in cells(path))


@pytest.mark.slow
def test_it_quantizes_a_model_and_shows_table_and_picture() -> None:
    shown = page_of(run("quantize"))
    table = "".join(shown.split())
    assert "|metric|value|stderr|n|" in table
    assert "|method|bits|top-1|change|±|packedMB|" in table
    assert "![picture](data:image/png;base64," in shown
    assert "blocks.0" in shown
    assert "Traceback" not in shown
