"""The tables of time: every execution form of every cell, and of those under the machine's roofs."""

from __future__ import annotations

from collections.abc import Sequence

from vitq.escape import line
from vitq.peaks import Peaks
from vitq.record import LatencyRow
from vitq.reports.html.cells import Cell, Column, Table, number
from vitq.reports.html.names import anchor, method_name
from vitq.reports.latency_table import checked, disturbed, eager, operators, ratio, strongest
from vitq.reports.roofline import points
from vitq.rows import Row


def latency(records: Sequence[Row]) -> Table | None:
    """A row an execution form of every cell that was timed, and one where a runtime has none; None without any."""
    columns = [
        Column("Method", filter=True),
        Column("Bits"),
        Column("Model", filter=True),
        Column("Form", filter=True, about="How it was computed, and by what"),
        Column("Median ms", True, about="A batch"),
        Column("p90 ms", True),
        Column("× best FP32", True, about="As fast as the fastest FP32 form of the same rounds"),
        Column("× eager FP32", True),
        Column("Checked", about="What its numbers were held to before it was timed", wide=True),
        Column("Batch", True),
        Column("Threads", True),
        Column("Device"),
        Column("Disturbed", filter=True),
        Column("Operators", wide=True),
    ]
    rows = [line_ for record in records for line_ in _timed(record)]
    note = "A fake-quant time says what evaluating costs; it is no latency of the quantized model and gets no ratio."
    caption = "Milliseconds a batch, measured in turn with FP32. No number stands where no kernel ran."
    return Table("latency", caption, columns, rows, "latency.csv", note) if rows else None


def _timed(record: Row) -> list[list[Cell]]:
    cell, to = record.cell, anchor(record)
    variant = f"[{cell.variant}]" if cell.variant else ""
    head: list[Cell] = [{"t": line(method_name(record) + variant), "r": to}, line(cell.bits), line(cell.model)]
    rows = [[*head, *_form(record, row, to)] for row in record.latency]
    for name, reason in sorted(record.no_runtime.items()):
        rows.append([*head, line(f"none on {name}"), *[""] * 4, line(f"no number: {reason}"), *[""] * 5])
    return rows


def _form(record: Row, row: LatencyRow, to: str) -> list[Cell]:
    together = [other for other in record.latency if other.place == row.place]
    best, plain = ratio(strongest(together), row), ratio(eager(together), row)
    return [
        line(row.exec),
        number(row.median_ms, f"{row.median_ms:.2f}", r=to),
        number(row.p90_ms, f"{row.p90_ms:.2f}", r=to),
        number(best, f"{best:.2f}" if best else ""),
        number(plain, f"{plain:.2f}" if plain else ""),
        line(checked(row)),
        number(row.batch, str(row.batch)),
        number(row.threads, str(row.threads)),
        line(row.device),
        disturbed(record.latency_around.get(row.session)).partition(":")[0],
        line(operators(row)),
    ]


def roofline(records: Sequence[Row], peaks: Peaks) -> Table | None:
    """A row a timed form: MACs a byte, MACs a second, and the share of its roof; None without any."""
    columns = [
        Column("Model", filter=True),
        Column("Batch", True),
        Column("Form"),
        Column("Computed by"),
        Column("MAC/byte", True),
        Column("GMAC/s", True),
        Column("Roof"),
        Column("% of its roof", True),
    ]
    rows: list[list[Cell]] = [
        [
            line(panel.model),
            number(panel.batch, str(panel.batch)),
            line(point.name),
            line(point.exec),
            number(point.intensity, f"{point.intensity:.1f}"),
            number(point.rate, f"{point.rate / 1e9:.1f}"),
            point.roof or "",
            number(point.share, f"{100 * (point.share or 0):.1f}"),
        ]
        for panel, forms in points(records, peaks).items()
        for point in forms
    ]
    return Table("roofline-table", "Every timed form under the machine's roofs.", columns, rows) if rows else None
