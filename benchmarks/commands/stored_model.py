"""The stored quantized model that a command is about: a file, or that of a finished cell."""

from __future__ import annotations

from pathlib import Path

from vitq.benchmarks.commands.results import rows_of
from vitq.errors import BadInputError
from vitq.words import nearest


def stored_model(wanted: str, suite: str, results: Path | None, site: Path | None) -> Path:
    """The path of a file, or of a finished cell's model; BadInputError for one that is not there."""
    path = Path(wanted)
    return path if path.is_file() else _of_cell(wanted, suite, results, site)


def _of_cell(wanted: str, suite: str, results: Path | None, site: Path | None) -> Path:
    """The stored model of a finished cell."""
    folder, rows = rows_of(suite, results, site)
    row = next((row for row in rows if row.cell.id == wanted), None)
    if row is None:
        raise BadInputError(
            f"{wanted!r} is neither a file nor a cell of {folder}; {nearest(wanted, [r.cell.id for r in rows])}"
        )
    if row.model_file is None or not (folder / row.model_file.path).is_file():
        raise BadInputError(f"{wanted} has no stored model in {folder}: run the suite again to make it")
    return folder / row.model_file.path
