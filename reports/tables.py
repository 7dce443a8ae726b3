"""The table of results, a row a cell, as Markdown, CSV or plain text; and the words that every table shares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from vitq.metrics import main_metrics
from vitq.paired import against_fp32
from vitq.record import Metric
from vitq.reports.layout import FOR_MACHINES, Format, render
from vitq.reports.measured import FAKE_QUANT, FLOATS
from vitq.rows import Row, by_cell

MARKS = {"reconstruction": "†", "elsewhere": "‡"}
MADE_ELSEWHERE = (
    "‡ made elsewhere, by what stands in brackets: only measured here; of how it was made nothing is known but what "
    "its file says."
)
RECONSTRUCTION = (
    "† reconstruction: no code was released and the paper's full text could not be read; "
    "what no source gives is the suite's own choice, listed on the method card."
)


def marked(record: Row) -> str:
    """The method's name with the mark of its fidelity."""
    return record.cell.method + MARKS.get(record.fidelity, "")


def marks_told(records: Iterable[Row]) -> list[str]:
    """What the marks mean that these rows bear."""
    borne = {record.fidelity for record in records}
    told = {"reconstruction": RECONSTRUCTION, "elsewhere": MADE_ELSEWHERE}
    return [text for fidelity, text in told.items() if fidelity in borne]


def order(records: Iterable[Row]) -> list[Row]:
    """Last record of each cell, by task, data set, model, method, variant, widths and seed; FP32 first."""
    return sorted(
        by_cell(records).values(),
        key=lambda r: (
            *(r.cell.task, r.cell.dataset, r.cell.model, r.cell.method != "fp32", r.cell.method, r.cell.variant),
            *(r.cell.bits, r.cell.limit or 0, r.cell.seed, r.cell.id),
        ),
    )


def results_table(records: Iterable[Row], fmt: Format = "markdown", width: int | None = None) -> str:
    """One row a cell: accuracy with its standard error and drop, size, operations, latency by execution form, status.

    CSV and JSON hold plain numbers in columns of their own; the others are for reading, a plain one within `width`
    characters. Empty cells were not measured.
    """
    rows = order(records)
    if fmt in FOR_MACHINES:
        return render([_flat(r) for r in rows], fmt)
    heading = "top-1 % ± se" if all(r.cell.task == "classification" for r in rows) else "accuracy % ± se"
    table = render(
        [_readable(r, heading) for r in rows],
        fmt,
        right=("n", "FP32", "drop", "packed MB", "disk MB", "BitOPs G", "OPs G"),
        width=width,
    )
    return _with_footnotes(table, rows)


def _with_footnotes(table: str, records: Sequence[Row]) -> str:
    notes = marks_told(records)
    if any(row.exec == FAKE_QUANT for r in records for row in r.latency):
        notes.append("A fake-quant time says what evaluating costs; it is no latency of the quantized model.")
    return "\n\n".join([table, *notes])


def _readable(record: Row, heading: str) -> dict[str, str]:
    cell, size, ops = record.cell, record.size, record.operations
    named = [(n, record.metrics[n]) for n in main_metrics(cell.task) or tuple(record.metrics) if n in record.metrics]
    alone = [n for n, _ in named] == ["top1"] and heading.startswith("top-1")
    return {
        "cell": cell.id.replace(cell.method, marked(record), 1),
        "data": cell.dataset + (f" (limit {cell.limit})" if cell.limit else ""),
        heading: ", ".join(with_error(m) if alone else f"{n} {with_error(m)}" for n, m in named),
        "n": f"{named[0][1].n:,}" if named else "",
        "FP32": ", ".join(f"{record.fp32[n].value:.2f}" for n, _ in named if n in record.fp32),
        "drop ± se": ", ".join(_drop(record, n) for n, _ in named if n in record.fp32),
        "packed MB": f"{size.packed_mb:.2f} ({size.fp32_mb / size.packed_mb:.1f}x)" if size else "",
        "disk MB": f"{record.model_file.bytes / 1e6:.2f}" if record.model_file else "",
        "BitOPs G": f"{ops.bitops / 1e9:.2f}" if ops else "",
        "OPs G": f"{ops.ops / 1e9:.3f}" if ops else "",
        "latency ms": latency_text(record),
        "status": record.status,
    }


def _drop(record: Row, metric: str) -> str:
    """FP32 less this in points, with the paired standard error where every sample's outcome is known in both."""
    drop, found = record.fp32[metric].value - record.metrics[metric].value, against_fp32(record, metric)
    return f"{drop:.2f}" + (f" ± {found.stderr:.2f}" if found else "")


def with_error(metric: Metric) -> str:
    """`26.75 ± 1.62`: percent and standard error in points."""
    return f"{metric.value:.2f}" + (f" ± {metric.stderr:.2f}" if metric.stderr is not None else "")


def latency_text(record: Row) -> str:
    """Median of each execution form at its batch and threads; only a real kernel is given a ratio to FP32."""
    floats = {r.place: r.median_ms for r in record.latency if r.exec == "fp32"}
    parts = []
    for row in record.latency:
        fp32 = floats.get(row.place)
        real = row.exec.partition(":")[0] not in FLOATS
        ratio = f" ({fp32 / row.median_ms:.2f}x)" if real and fp32 else ""
        parts.append(f"{row.exec} {row.median_ms:.1f}{ratio} b{row.batch} t{row.threads} {row.device}")
    return "; ".join(parts)


def _flat(record: Row) -> dict[str, Any]:
    cell, size, ops = record.cell, record.size, record.operations
    row: dict[str, Any] = {
        **{k: getattr(cell, k) for k in ("id", "method", "variant", "task", "dataset", "model", "bits", "seed")},
        **{"limit": cell.limit, "status": record.status, "fidelity": record.fidelity},
    }
    for name, metric in sorted(record.metrics.items()):
        fp32 = record.fp32.get(name)
        row |= {name: metric.value, f"{name}_stderr": metric.stderr, f"{name}_n": metric.n}
        row |= {f"{name}_fp32": fp32.value if fp32 else None} | _paired_flat(record, name)
    if size:
        row |= {"params": size.params, "fp32_mb": size.fp32_mb, "packed_mb": size.packed_mb}
    if record.model_file:
        row |= {"disk_mb": record.model_file.bytes / 1e6, "disk_header_bytes": record.model_file.header_bytes}
    if ops:
        row |= {"macs": ops.macs, "bitops": ops.bitops, "ops": ops.ops}
    for timed in record.latency:
        row[f"median_ms[{timed.exec}]"] = timed.median_ms
    seconds = round(sum(record.seconds.values()), 3) if record.seconds else None
    return row | {"seconds": seconds, "machine": record.provenance.machine, "key": record.key}


def _paired_flat(record: Row, metric: str) -> dict[str, Any]:
    """What quantization changed, sample by sample; empty where that is not known."""
    found = against_fp32(record, metric) if metric in record.fp32 else None
    if found is None:
        return {}
    test = "mcnemar_p" if found.gained is not None else "resampled_p"
    named = {"difference": found.difference, "difference_stderr": found.stderr, test: found.p}
    return {f"{metric}_{name}": value for name, value in named.items()}
