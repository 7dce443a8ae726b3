"""Pictures of I-ViT: each integer operator's error against the real function, from the records' details."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from vitq.details import read_details
from vitq.details.i_vit import Curve, Details
from vitq.reports.pictures import Picture
from vitq.reports.style import clean, file_name, plain_log, save
from vitq.rows import Row

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
X_LABELS = {
    "softmax": "logit below the row's maximum",
    "gelu": "input",
    "layernorm": "log2 of the row's standard deviation in codes",
    "requantization": "exact result, output codes",
}


def draw(records: Sequence[Row], results: Path, out: Path) -> list[Picture]:  # noqa: ARG001
    """Per model, from its first record that holds curves: the curves, and the table of errors as labelled bars."""
    pictures = []
    for model in dict.fromkeys(record.cell.model for record in records):
        held = ((record, operators(record)) for record in records if record.cell.model == model)
        for record, curves in [(record, curves) for record, curves in held if curves][:1]:
            pictures += [_curves(record, curves, out), _table(record, curves, out)]
    return pictures


def operators(record: Row) -> list[Curve]:
    """The curves that a record of I-ViT holds; none where it did not finish."""
    if not record.details:
        return []
    details = read_details("i_vit", record.details)
    assert isinstance(details, Details)
    return details.operators


def difference_table(rows: Sequence[Curve]) -> list[tuple[str, str, str, float, float]]:
    """(operator, variant, unit, largest error, mean error), operators together, the best variant of each first."""
    order = {name: i for i, name in enumerate(dict.fromkeys(row.operator for row in rows))}
    keyed = sorted(rows, key=lambda row: (order[row.operator], row.mean_error, row.variant))
    return [(r.operator, r.variant, r.unit, r.max_error, r.mean_error) for r in keyed]


def _file(out: Path, model: str, kind: str) -> Path:
    return out / f"i_vit_plots_{file_name(model, kind)}.png"


def _lines(axes: Axes, operator: str, rows: Sequence[Curve]) -> None:
    for row, colour in zip(rows, COLOURS * (1 + len(rows) // len(COLOURS)), strict=False):
        style = "--" if "release" in row.variant else "-"
        axes.plot(row.x, row.error, style, color=colour, linewidth=1.1, label=row.variant)
    axes.set_title(operator)
    axes.set_xlabel(X_LABELS.get(operator, "input"))
    axes.set_ylabel(f"error, {rows[0].unit}")
    if operator == "layernorm":
        axes.set_yscale("log")
        plain_log(axes.yaxis)
    clean(axes)
    axes.legend(fontsize=6)


def _curves(record: Row, rows: Sequence[Curve], out: Path) -> Picture:
    names = list(dict.fromkeys(row.operator for row in rows))
    columns = 2
    canvas, grid = plt.subplots(
        -(-len(names) // columns), columns, figsize=(11, 7.5), squeeze=False, layout="constrained"
    )
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    for axes, operator in zip(grid.flat, names, strict=False):
        _lines(axes, operator, [row for row in rows if row.operator == operator])
    caption = (
        f"{record.cell.model}: each integer operator less the real function over its input range, at the median scale "
        "that the model's own softmax and GELU inputs have. Dashed: the released code's arithmetic. Softmax: one logit "
        "runs over the INT8 range below the maximum of a row of 197, the others lie at its bottom. LayerNorm: the "
        f"largest error in a row of normal values. From {record.cell.id}."
    )
    return Picture(
        save(canvas, _file(out, record.cell.model, "operators")), f"I-ViT, operators, {record.cell.model}", caption
    )


def _table(record: Row, rows: Sequence[Curve], out: Path) -> Picture:
    table = difference_table(rows)
    canvas, axes = plt.subplots(figsize=(9, 0.8 + 0.27 * len(table)), layout="constrained")
    lines = range(len(table))
    axes.barh(list(lines), [row[3] for row in table], color="#C9DDEB", label="largest error")
    axes.barh(list(lines), [row[4] for row in table], color="#0072B2", height=0.4, label="mean error")
    for line, (_, _, unit, largest, mean) in zip(lines, table, strict=True):
        axes.text(max(largest, 1e-9), line, f"  {mean:.3g} / {largest:.3g} {unit}", va="center", fontsize=7)
    axes.set_yticks(list(lines), [f"{row[0]}: {row[1]}" for row in table], fontsize=7)
    axes.invert_yaxis()
    axes.set_xscale("log")
    plain_log(axes.xaxis)
    axes.set_xlim(right=50 * max(max(row[3] for row in table), 1e-9))
    axes.set_xlabel("absolute error against the real function (mean / largest)")
    clean(axes)
    axes.legend(fontsize=7, loc="lower right")
    caption = (
        f"{record.cell.model}: mean and largest absolute error of every form of every operator, paper and release side "
        f"by side, over the ranges of the curves. From {record.cell.id}."
    )
    title = f"I-ViT, operators' errors, {record.cell.model}"
    words = [
        {"operator": op, "form": form, "mean error": f"{mean:.3g} {unit}", "largest error": f"{most:.3g} {unit}"}
        for op, form, unit, most, mean in table
    ]
    return Picture(save(canvas, _file(out, record.cell.model, "errors")), title, caption, tuple(words))
