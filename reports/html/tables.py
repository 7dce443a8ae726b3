"""The tables of results and of verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vitq.escape import line
from vitq.metrics import label, main_metrics
from vitq.paired import Paired
from vitq.reports.html.cells import Cell, Column, Table, number, place_of
from vitq.reports.html.names import anchor, data_name, first_metric, method_name
from vitq.reports.html.sources import source_id
from vitq.reports.latency_table import is_kernel
from vitq.reports.tables import foreign, with_error
from vitq.reports.verdicts import Comparison
from vitq.rows import Row

Drops = Mapping[tuple[str, str], "Paired | None"]
"""What quantization changed, by the cell's id and the metric."""


def results(records: Sequence[Row], comparisons: Sequence[Comparison], drops: Drops) -> Table:
    """A row a cell. Every number leads to its record."""
    verdicts: dict[str, set[str]] = {}
    for c in comparisons:
        for record in c.records:
            verdicts.setdefault(record.cell.id, set()).add(c.verdict)
    columns = [
        Column("Method", filter=True, about="† a reconstruction"),
        Column("Variant"),
        Column("Bits"),
        Column("Model", filter=True),
        Column("Accuracy %", True, about="The task's metrics with their standard error; sorted by the first"),
        Column("Drop", True, about="FP32 less this, points, with the paired standard error of the same images"),
        Column("n", True, about="Images evaluated"),
        Column("Packed MB", True, about="The model as it would ship, 10^6 bytes, and how many times smaller than FP32"),
        Column("BitOPs G", True, about="MACs times the bits of both operands, attention products included"),
        Column("Kernel ms", True, about="The fastest integer or binary kernel, median a batch; never fake-quant"),
        Column("Verdict", filter=True, about="Against every figure that the cell measures"),
        Column("Status", filter=True),
        Column("Task", filter=True),
        Column("Data"),
        Column("FP32 %", True, about="The model without quantization on the same images"),
    ]
    rows = [_result(record, sorted(verdicts.get(record.cell.id, ()), key=place_of), drops) for record in records]
    caption = "Every cell that was run. A number or a method's name leads to its record."
    return Table("results", caption, columns, rows, "results.csv")


def _result(record: Row, verdicts: Sequence[str], drops: Drops) -> list[Cell]:
    cell, to = record.cell, anchor(record)
    names = [name for name in main_metrics(cell.task) or tuple(record.metrics) if name in record.metrics]
    first = first_metric(record)
    metric = record.metrics[first] if first else None
    fp32 = [name for name in names if name in record.fp32]
    kernel = min((row for row in record.latency if is_kernel(row)), key=lambda row: row.median_ms, default=None)
    size, ops = record.size, record.operations
    seed = f" · seed {cell.seed}" if cell.seed else ""
    scope = f" · {line(cell.scope)}" if cell.scope != "model" else ""
    return [
        {"t": method_name(record), "r": to},
        line(cell.variant) + scope + seed,
        line(cell.bits),
        line(cell.model + foreign(record, "model")),
        number(metric.value if metric else None, _metrics_text(record, names), r=to),
        _drop(record, fp32, drops) if cell.method != "fp32" else "",
        number(metric.n if metric else None, f"{metric.n:,}" if metric else ""),
        number(size.packed_mb if size else None, _size_text(record), r=to),
        number(ops.bitops / 1e9 if ops else None, f"{ops.bitops / 1e9:.3g}" if ops else "", r=to),
        number(kernel.median_ms, f"{kernel.median_ms:.2f}", r=to) if kernel else "",
        " · ".join(verdicts),
        record.status,
        line(cell.task),
        data_name(record) + foreign(record, "data set"),
        number(record.fp32[fp32[0]].value if fp32 else None, " / ".join(f"{record.fp32[n].value:.2f}" for n in fp32)),
    ]


def _size_text(record: Row) -> str:
    size = record.size
    return f"{size.packed_mb:.3g} ({size.fp32_mb / size.packed_mb:.1f}×)" if size else ""


def _metrics_text(record: Row, names: Sequence[str]) -> str:
    if list(names) == ["top1"]:
        return with_error(record.metrics["top1"])
    short = {"top1": "top-1", "top5": "top-5"}
    return " / ".join(f"{short.get(n, label(n))} {with_error(record.metrics[n])}" for n in names)


def _drop(record: Row, names: Sequence[str], drops: Drops) -> Cell:
    if not names:
        return ""
    texts = []
    for name in names:
        paired = drops.get((record.cell.id, name))
        drop = record.fp32[name].value - record.metrics[name].value
        texts.append(f"{drop:.2f}" + (f" ± {paired.stderr:.2f}" if paired else ""))
    first = record.fp32[names[0]].value - record.metrics[names[0]].value
    return number(first, " / ".join(texts), r=anchor(record))


def compared(comparisons: Sequence[Comparison]) -> Table:
    """A row a comparison: reported beside measured, with the difference, its error, and the reason of the verdict."""
    columns = [
        Column("Verdict", filter=True),
        Column("Method", filter=True),
        Column("Model", filter=True),
        Column("Bits"),
        Column("Metric"),
        Column("Reported", True, about="As printed; leads to its source"),
        Column("Measured", True, about="Mean over seeds with its standard error, or of one run over images"),
        Column("Difference", True, about="Measured less reported at the printed precision, ± the error of measuring"),
        Column("Why", about="What the verdict rests on", wide=True),
        Column("Task", filter=True),
        Column("Seeds", True),
        Column("Evidence"),
    ]
    rows = [_comparison(c) for c in comparisons]
    caption = "Every figure that a paper or another source reports, beside what was measured here."
    return Table("compared", caption, columns, rows, "compare.csv")


def _comparison(c: Comparison) -> list[Cell]:
    figure, first = c.figure, c.records[0] if c.records else None
    digits = figure.decimals if figure else 2
    error = "" if c.stderr is None else f" ± {c.stderr:.2f}"
    to = {"r": anchor(first)} if first else {}
    variant = f"[{figure.variant}]" if figure and figure.variant else ""
    method = figure.method + variant if figure else method_name(first) if first else ""
    named: Cell = line(method) if figure or not first else {"t": line(method), **to}
    return [
        c.verdict,
        named,
        line(figure.model or "any" if figure else first.cell.model if first else ""),
        line(figure.bits if figure else first.cell.bits if first else ""),
        line(figure.metric if figure else ""),
        {"v": figure.value, "t": figure.printed, "r": source_id(figure)} if figure else "",
        number(c.measured, f"{c.measured:.{digits}f}{error}" if c.measured is not None else "", **to),
        number(c.difference, f"{c.difference:+.{digits}f}{error}" if c.difference is not None else "", **to),
        line(c.reason),
        line(figure.task if figure else first.cell.task if first else ""),
        number(len(c.records), str(len(c.records))) if first else "",
        line(figure.evidence if figure else ""),
    ]
