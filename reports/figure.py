"""Figures that papers report, one a row in `figures/*.csv`; the columns are described in `figures/README.md`."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vitq.errors import BadInputError

if TYPE_CHECKING:
    if sys.version_info >= (3, 11):
        from importlib.resources.abc import Traversable
    else:
        from importlib.abc import Traversable

Evidence = Literal["primary", "restated", "derived", "re-run", "released-code run"]
FULL_SIZE = {"imagenet-1k": 50_000, "imagenet-proxy": 744, "coco-2017": 5_000, "ade20k": 2_000}
"""Images of each data set's whole validation split; fewer is a subset."""
ACCURACY = ("top1", "top5", "box_ap", "mask_ap", "miou")
COUNTED = ("params_m", "macs_g", "model_size_mb", "model_size_ratio", "ops_ratio")
TIMED = ("latency_ms", "speedup")
PACKAGES = {"fq_vit": "vitq-fq-vit", "ptq4vit": "vitq-ptq4vit"}
"""Methods that figures are of and that packages add, which need not be installed; they are in `examples/`."""
GAIN = "top1_gain_over_own_baseline"


class Figure(BaseModel):
    """One figure with where it is printed, what it holds for, and how far a measurement may be from it.

    `method`, `model` and `note` are the source's own words; `cell_method`, `options` and `settings` say which cells of
    the suite measure it. `options` pick the row (another value is another row); `settings` are the recipe it was
    measured with (another value is not comparable; a list holds the values allowed).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    task: Literal["classification", "detection", "segmentation"]
    dataset: str
    model: str
    w_bits: int
    a_bits: int
    metric: str
    value: float
    fp_value: float | None = None
    table: str = ""
    evidence: Evidence
    source: str
    note: str = ""
    variant: str = ""
    cell_method: str
    options: dict[str, Any] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    convention: str = ""
    hardware: str = ""
    tolerance: float = Field(ge=0)
    tolerance_reason: str = Field(min_length=1)
    fp_tolerance: float = 0.1
    disputed_low: float | None = None
    disputed_high: float | None = None
    condition: str = ""
    decimals: int = 0
    file: str = ""

    @field_validator("dataset")
    @classmethod
    def _dataset(cls, word: str) -> str:
        if word not in FULL_SIZE:
            raise ValueError(f"data set {word!r} has no known size; known: {', '.join(FULL_SIZE)}")
        return word

    @field_validator("metric")
    @classmethod
    def _metric(cls, word: str) -> str:
        known = (*ACCURACY, *COUNTED, *TIMED, GAIN)
        if word not in known:
            raise ValueError(f"metric {word!r} cannot be compared; known: {', '.join(known)}")
        return word

    @model_validator(mode="after")
    def _range(self) -> Figure:
        if (self.disputed_low is None) != (self.disputed_high is None):
            raise ValueError("a disputed range needs both ends")
        if self.disputed_low is not None and self.disputed_high is not None and self.disputed_low > self.disputed_high:
            raise ValueError("the disputed range is upside down")
        return self

    @property
    def bits(self) -> str:
        """The widths as a cell names them."""
        return "FP32" if (self.w_bits, self.a_bits) == (32, 32) else f"W{self.w_bits}A{self.a_bits}"

    @property
    def counted(self) -> bool:
        """Whether the figure is counted from the architecture, so that neither data nor weights matter."""
        return self.metric in COUNTED

    @property
    def disputed(self) -> bool:
        """Whether others who ran the released code could not reach it."""
        return self.disputed_low is not None

    @property
    def others(self) -> str:
        """The range that others measured, printed; empty where nobody disputes the figure."""
        if self.disputed_low is None or self.disputed_high is None:
            return ""
        low, high = f"{self.disputed_low:.{self.decimals}f}", f"{self.disputed_high:.{self.decimals}f}"
        return low if low == high else f"{low} to {high}"

    @property
    def name(self) -> str:
        """Readable and unique within a file: method[variant]/model/bits/metric, then the table."""
        variant = f"[{self.variant}]" if self.variant else ""
        table = f" ({self.table})" if self.table else ""
        return f"{self.method}{variant}/{self.model or 'any model'}/{self.bits}/{self.metric}{table}"

    @property
    def printed(self) -> str:
        """The value at the precision it is printed with."""
        return f"{self.value:.{self.decimals}f}"


def load_figures(folder: Path | None = None) -> list[Figure]:
    """All figures of `folder/*.csv` (the shipped ones by default), in the order of files and rows.

    A re-run that prints no FP32 value takes that of the paper's own row for the same method, model and metric.
    Raises BadInputError that names file and line of a row that cannot be read.
    """
    home: Traversable = folder if folder is not None else resources.files("vitq.reports") / "figures"
    files = sorted((f for f in home.iterdir() if f.name.endswith(".csv")), key=lambda f: f.name)
    figures = [figure for file in files for figure in _read(file)]
    if not figures:
        raise BadInputError(f"no figures in {home}: it has no CSV file with a row")
    return _with_fp_values(figures)


def _read(file: Traversable) -> list[Figure]:
    lines = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    figures = []
    rows = list(lines)
    decimals = _printed_decimals(rows)
    for number, row in enumerate(rows, start=2):
        try:
            values = {key: text for key, text in row.items() if text or key in ("model", "table", "note")}
            for key in ("options", "settings"):
                if row.get(key):
                    values[key] = json.loads(row[key])
            column = (row["table"], row["metric"], row["source"])
            figures.append(Figure.model_validate({**values, "decimals": decimals[column], "file": file.name}))
        except (ValidationError, ValueError, KeyError) as error:
            what = error.errors()[0] if isinstance(error, ValidationError) else None
            text = f"{'.'.join(map(str, what['loc']))}: {what['msg']}" if what else str(error)
            raise BadInputError(f"{file.name} line {number} is not a figure: {text}") from None
    return figures


def _printed_decimals(rows: Iterable[dict[str, str]]) -> dict[tuple[str, str, str], int]:
    """Decimals a table prints a metric with: the most of any of its values, as a transcription drops last zeros."""
    most: dict[tuple[str, str, str], int] = {}
    for row in rows:
        column = (row["table"], row["metric"], row["source"])
        most[column] = max(most.get(column, 0), len(row["value"].partition(".")[2]))
    return most


def _with_fp_values(figures: list[Figure]) -> list[Figure]:
    printed = {
        (f.cell_method, f.task, f.dataset, f.model, f.metric): f.fp_value
        for f in figures
        if f.evidence in ("primary", "restated") and f.fp_value is not None and f.method == f.file.removesuffix(".csv")
    }
    return [
        f.model_copy(update={"fp_value": printed.get((f.cell_method, f.task, f.dataset, f.model, f.metric))})
        if f.evidence == "re-run" and f.fp_value is None
        else f
        for f in figures
    ]
