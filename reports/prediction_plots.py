"""What models find in a few images, before and after quantization, as the task drew it: one picture a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib import image as pixels
from matplotlib import pyplot as plt

from vitq.metrics import label, main_metrics
from vitq.reports import style
from vitq.reports.files import inside
from vitq.reports.pictures import Picture
from vitq.reports.tables import marked, with_error
from vitq.rows import Row

BEFORE, AFTER = "predictions before", "predictions after"
"""What files of a record are called: the name, a space and the number of the image, from 1."""
MOST_COLUMNS = 8


def draw(records: Sequence[Row], results: Path, out: Path) -> list[Picture]:
    """A picture for every data set and model whose records keep predictions; empty where none does."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for record in records:
        if record.status == "done" and f"{AFTER} 1" in record.files:
            groups.setdefault((record.cell.dataset, record.cell.model), []).append(record)
    return [_picture(rows, results, out) for _, rows in sorted(groups.items())]


def _picture(rows: Sequence[Row], results: Path, out: Path) -> Picture:
    cell, chosen = rows[0].cell, _chosen(rows)
    images = sum(name.startswith(AFTER) for name in chosen[0].files)
    canvas, panels = plt.subplots(
        images, len(chosen) + 1, figsize=(1.9 * (len(chosen) + 1), 1.9 * images + 0.6), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    columns = [("FP32\n" + _metrics(rows[0], fp32=True), BEFORE, rows[0])]
    columns += [(f"{_short(row)}\n{_metrics(row)}", AFTER, row) for row in chosen]
    for x, (title, what, row) in enumerate(columns):
        panels[0][x].set_title(title, fontsize=6)
        for y in range(images):
            panels[y][x].set_axis_off()
            name = row.files.get(f"{what} {y + 1}")
            if name is not None:
                panels[y][x].imshow(pixels.imread(inside(results, name)), interpolation="none")
    file = style.save(canvas, out / f"predictions_{style.file_name(cell.dataset, cell.model)}.png")
    caption = (
        f"The first {images} validation images of {cell.dataset}, {cell.task} by {cell.model}: FP32 beside each method "
        "at its fewest bits. A picture of a few images proves nothing; the metrics are of all."
    )
    told = [("FP32", _metrics(rows[0], fp32=True)), *((_short(row), _metrics(row)) for row in chosen)]
    words = tuple({"run": run, "metrics of all images, %": text.replace("\n", ", ")} for run, text in told)
    return Picture(file, f"Predictions before and after, {cell.model}", caption, words)


def _chosen(rows: Sequence[Row]) -> list[Row]:
    """Each method's row at its fewest bits, variants left out where there is a row without."""
    best: dict[str, Row] = {}
    for row in sorted(rows, key=lambda r: (r.cell.variant != "", _width(r.cell.bits), r.cell.seed)):
        best.setdefault(row.cell.method, row)
    return sorted(
        best.values(), key=lambda r: list(style.COLOURS).index(r.cell.method) if r.cell.method in style.COLOURS else 99
    )[:MOST_COLUMNS]


def _width(bits: str) -> list[int]:
    return [int(part) for part in bits.removeprefix("W").split("A") if part.isdigit()]


def _short(row: Row) -> str:
    variant = f"[{row.cell.variant}]" if row.cell.variant else ""
    return f"{marked(row)}{variant} {row.cell.bits}"


def _metrics(row: Row, *, fp32: bool = False) -> str:
    found = row.fp32 if fp32 else row.metrics
    return "\n".join(f"{label(n)} {with_error(found[n])}" for n in main_metrics(row.cell.task) if n in found)
