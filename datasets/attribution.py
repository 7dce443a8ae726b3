"""ATTRIBUTION.csv, the list of files that comes with a data set's folder; read without torch."""

from __future__ import annotations

import csv
import io
import stat
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from vitq.datasets.calibration import check_names
from vitq.errors import BadInputError

ATTRIBUTION = "ATTRIBUTION.csv"


def rows(root: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Its rows, each with these columns; BadInputError where it is missing, no CSV, or lacks one."""
    path = root / ATTRIBUTION
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadInputError(f"{path} is not a regular file; replace it, or use list: seeded")
        table = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""))
        found = list(table)
    except FileNotFoundError:
        raise BadInputError(f"{path} is not there; use list: seeded") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise BadInputError(f"{path} cannot be read as CSV in UTF-8: {reason}") from None
    absent = [column for column in columns if column not in (table.fieldnames or [])]
    if absent:
        raise BadInputError(f"{path} has no column {' and no column '.join(absent)}")
    for number, row in enumerate(found, start=2):
        if any(row[column] is None for column in columns):
            raise BadInputError(f"{path}: row {number} lacks a value of {', '.join(columns)}")
    return found


def ordered(root: Path) -> list[str]:
    """The files it lists, by the column `order`; BadInputError as `rows`, or where an order is no number."""
    path = root / ATTRIBUTION
    try:
        listed = sorted((int(row["order"]), row["file"]) for row in rows(root, ("file", "order")))
    except ValueError:
        raise BadInputError(f"{path}: an order is no whole number; correct the column") from None
    orders = [order for order, _ in listed]
    twice = next((left for left, right in pairwise(orders) if left == right), None)
    if twice is not None:
        raise BadInputError(f"{path}: order {twice} is given twice; correct the column")
    names = [name for _, name in listed]
    check_names(names, str(path))
    return names
