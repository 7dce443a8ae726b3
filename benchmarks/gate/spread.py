"""How far a cell's accuracy moves for no reason: measured beside the baseline, read by the gate.

Some recipes are chaotic: a last bit that another CPU rounds otherwise sends generation or training elsewhere, and the
accuracy lands points away though the code is the same. `spread.json` beside a baseline's records holds each such cell's
accuracy under changes that another machine amounts to (see `benchmarks.gate.perturb`), by the name of the run.
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vitq.benchmarks.gate.accepted import folder_of_baseline
from vitq.errors import BadInputError
from vitq.record import Share
from vitq.rows import Row

FILE = "spread.json"
BASELINE = "baseline"
FEWEST = 3


class Spread(BaseModel):
    """Accuracy of cells over runs that should agree.

    Attributes:
        runs: how each run was changed, by its name; `baseline` is the baseline itself.
        cells: by cell and metric, the value in percent of each run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    schema_version: Literal[1] = 1
    runs: dict[str, str] = Field(default_factory=dict)
    cells: dict[str, dict[str, dict[str, Share]]] = Field(default_factory=dict)

    def of(self, cell: str, metric: str) -> tuple[float, int] | None:
        """Standard deviation, in points, of the difference between two such runs, and the number of runs; or None.

        A run has the sample deviation s of all runs, two independent ones differ by sqrt(2) s.
        """
        values = list(self.cells.get(cell, {}).get(metric, {}).values())
        if len(values) < FEWEST:
            return None
        return math.sqrt(2) * statistics.stdev(values), len(values)


def joined(before: Spread, now: Spread, rows: Collection[Row]) -> Spread:
    """The spread measured `now` of a baseline's rows, with that of `before` where a cell's accuracy is still the same.

    Runs of one name in both are two runs: the later one gets another name.
    """
    names = {name: name if name == BASELINE else _free(name, before.runs) for name in now.runs}
    own = {(row.cell.id, name): metric.value for row in rows for name, metric in row.metrics.items()}
    cells: dict[str, dict[str, dict[str, float]]] = {}
    for cell, metrics in before.cells.items():
        for metric, runs in metrics.items():
            if math.isclose(runs.get(BASELINE, math.nan), own.get((cell, metric), math.nan), abs_tol=1e-6):
                cells.setdefault(cell, {})[metric] = dict(runs)
    for cell, metrics in now.cells.items():
        for metric, runs in metrics.items():
            cells.setdefault(cell, {}).setdefault(metric, {}).update({names[name]: of for name, of in runs.items()})
    return Spread(runs={**before.runs, **{names[name]: how for name, how in now.runs.items()}}, cells=cells)


def _free(name: str, taken: Collection[str]) -> str:
    later = (f"{name}-{number}" for number in itertools.count(2))
    return next(each for each in itertools.chain([name], later) if each not in taken)


def drop_from_spread(baseline: Path, cells: Collection[str]) -> None:
    """Forget how far these cells move: their accuracy is another one now, and nobody has measured its spread."""
    path = folder_of_baseline(baseline) / FILE
    if not path.exists():
        return
    spread = _read(path)
    left = {name: runs for name, runs in spread.cells.items() if name not in cells}
    path.write_text(spread.model_copy(update={"cells": left}).model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_spread(baseline: Path, rows: list[Row]) -> Spread | None:
    """The spread beside a baseline's records, or None; BadInputError where it is broken or of other records."""
    path = folder_of_baseline(baseline) / FILE
    if not path.exists():
        return None
    spread = _read(path)
    values = {(row.cell.id, name): metric.value for row in rows for name, metric in row.metrics.items()}
    for cell, metrics in spread.cells.items():
        for name, runs in metrics.items():
            if not math.isclose(runs.get(BASELINE, math.nan), values.get((cell, name), math.nan), abs_tol=1e-6):
                raise BadInputError(
                    f"the spread {path} is not that of these records: {cell} {name} differs; make the baseline again"
                )
    return spread


def _read(path: Path) -> Spread:
    try:
        return Spread.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError, ValidationError) as error:
        first = str(error).partition("\n")[0]
        raise BadInputError(f"the spread {path} cannot be read ({first}): make the baseline again") from None
