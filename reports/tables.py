"""Tables of records and comparisons by tabulate: Markdown, CSV or plain text. Never imports matplotlib."""

from __future__ import annotations

import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from vitq.paired import against_fp32
from vitq.record import Metric
from vitq import escape
from vitq.reports.layout import Format, render
from vitq.reports.measured import FAKE_QUANT, over_seeds
from vitq.reports.verdicts import VERDICTS, Comparison, group_seeds, latest
from vitq.rows import Row

MARKS = {"reconstruction": "†"}
RECONSTRUCTION = (
    "† reconstruction: no code was released and the paper's full text could not be read; "
    "what no source gives is the suite's own choice, listed on the method card."
)
PRIMARY = {"classification": ("top1",), "detection": ("box_ap", "mask_ap"), "segmentation": ("miou",)}


def marked(record: Row) -> str:
    """The method's name with the mark of its fidelity."""
    return record.cell.method + MARKS.get(record.fidelity, "")


def order(records: Iterable[Row]) -> list[Row]:
    """Last record of each cell, by task, data set, model, method, variant, widths and seed; FP32 first."""
    return sorted(
        latest(records),
        key=lambda r: (
            *(r.cell.task, r.cell.dataset, r.cell.model, r.cell.method != "fp32", r.cell.method, r.cell.variant),
            *(r.cell.bits, r.cell.limit or 0, r.cell.seed, r.cell.id),
        ),
    )


def results_table(records: Iterable[Row], fmt: Format = "markdown") -> str:
    """One row a cell: accuracy with its standard error and drop, size, operations, latency by execution form, status.

    CSV holds plain numbers in columns of their own; the others are for reading. Empty cells were not measured.
    """
    rows = order(records)
    if fmt == "csv":
        return render([_flat(r) for r in rows], fmt)
    table = render(
        [_readable(r) for r in rows], fmt, right=("n", "FP32", "drop", "packed MB", "disk MB", "BitOPs G", "OPs G")
    )
    return _with_footnotes(table, rows)


def _with_footnotes(table: str, records: Sequence[Row]) -> str:
    notes = [RECONSTRUCTION] if any(r.fidelity == "reconstruction" for r in records) else []
    if any(row.exec == FAKE_QUANT for r in records for row in r.latency):
        notes.append("A fake-quant time says what evaluating costs; it is no latency of the quantized model.")
    return "\n\n".join([table, *notes])


def _readable(record: Row) -> dict[str, str]:
    cell, size, ops = record.cell, record.size, record.operations
    named = [(n, record.metrics[n]) for n in PRIMARY.get(cell.task, tuple(record.metrics)) if n in record.metrics]
    alone = [n for n, _ in named] == ["top1"]
    return {
        "cell": cell.id.replace(cell.method, marked(record), 1),
        "data": cell.dataset + (f" (limit {cell.limit})" if cell.limit else ""),
        "top-1 % ± se": ", ".join(with_error(m) if alone else f"{n} {with_error(m)}" for n, m in named),
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
    floats = {(r.batch, r.threads, r.device): r.median_ms for r in record.latency if r.exec == "fp32"}
    parts = []
    for row in record.latency:
        fp32 = floats.get((row.batch, row.threads, row.device))
        real = row.exec not in ("fp32", FAKE_QUANT)
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
    named = {"difference": found.difference, "difference_stderr": found.stderr, "mcnemar_p": found.p}
    return {f"{metric}_{name}": value for name, value in named.items()}


def compare_table(comparisons: Sequence[Comparison], fmt: Format = "markdown", everything: bool = False) -> str:
    """One row a comparison, those with a measurement first to last as figures are listed.

    Figures not run and runs without a figure are counted below the table, unless `everything`; CSV always has all.
    """
    if fmt == "csv":
        return render([_compared_flat(c) for c in comparisons], fmt)
    quiet = () if everything else ("not-run", "no-figure")
    shown = [c for c in comparisons if c.verdict not in quiet]
    table = render([_compared_readable(c) for c in shown], fmt, right=("paper", "measured", "diff"))
    marks = [RECONSTRUCTION] if any(r.fidelity == "reconstruction" for c in shown for r in c.records) else []
    return "\n\n".join(
        part for part in [table, summary(comparisons), *([] if everything else _left(comparisons, fmt)), *marks]
    )


def summary(comparisons: Sequence[Comparison]) -> str:
    """Number of each verdict, in one line."""
    counts = Counter(c.verdict for c in comparisons)
    return "Verdicts: " + ", ".join(f"{counts[v]} {v}" for v in VERDICTS if counts[v]) + "."


def _left(comparisons: Sequence[Comparison], fmt: Format) -> list[str]:
    lines, shown = [], escape.markdown if fmt == "markdown" else escape.line
    for verdict, text in (("not-run", "Figures not run"), ("no-figure", "Runs that no figure speaks of")):
        names = Counter(
            c.figure.method if c.figure else c.records[0].cell.method for c in comparisons if c.verdict == verdict
        )
        if names:
            lines.append(
                f"{text}: " + ", ".join(f"{shown(name)} {count}" for name, count in sorted(names.items())) + "."
            )
    return lines


def _compared_readable(c: Comparison) -> dict[str, str]:
    figure, first = c.figure, c.records[0] if c.records else None
    digits = figure.decimals if figure else 2
    error = f" ± {c.stderr:.2f}" if c.stderr is not None else ""
    method = marked(first) if first else ""
    return {
        "verdict": c.verdict + (" (disputed figure)" if figure and figure.disputed and c.verdict != "disputed" else ""),
        "figure": figure.name if figure else "",
        "paper": figure.printed if figure else "",
        "measured": f"{c.measured:.{digits}f}{error}" if c.measured is not None else "",
        "diff": f"{c.difference:+.{digits}f}" if c.difference is not None else "",
        "runs": f"{method} {len(c.records)} seed{'s' if len(c.records) > 1 else ''}" if first else "",
        "reason": c.reason,
        "evidence": f"{figure.evidence}: {figure.source}" if figure else "",
    }


def _compared_flat(c: Comparison) -> dict[str, Any]:
    fields = ("method", "variant", "task", "dataset", "model", "bits", "metric", "value", "fp_value", "table")
    source = ("evidence", "source", "note", "condition", "tolerance", "tolerance_reason", "others", "file")
    return {
        "verdict": c.verdict,
        "reason": c.reason,
        **{name: getattr(c.figure, name) if c.figure else None for name in fields},
        **{"measured": c.measured, "stderr": c.stderr, "difference": c.difference},
        **{"fidelity": c.records[0].fidelity if c.records else None, "seeds": len(c.records)},
        "cells": " ".join(r.cell.id for r in c.records),
        **{name: getattr(c.figure, name) if c.figure else None for name in source},
    }


def seeds_table(records: Iterable[Row], fmt: Format = "markdown") -> str:
    """Reproducibility: mean, standard deviation and standard error over seeds of every run with at least two."""
    rows = []
    for run in group_seeds(records):
        for name in PRIMARY.get(run[0].cell.task, ()):
            values = [r.metrics[name].value for r in run if name in r.metrics]
            if run[0].status == "done" and len(values) > 1:
                mean = over_seeds(values)
                rows.append(
                    {
                        "run": run[0].cell.id.rpartition("/")[0].replace(run[0].cell.method, marked(run[0]), 1),
                        "data": run[0].cell.dataset,
                        "metric": name,
                        "seeds": str(len(values)),
                        "mean ± se": f"{mean.value:.2f} ± {mean.stderr:.2f}",
                        "std": f"{statistics.stdev(values):.2f}",
                        "lowest": f"{min(values):.2f}",
                        "highest": f"{max(values):.2f}",
                    }
                )
    return render(rows, fmt, right=("seeds", "mean ± se", "std", "lowest", "highest"))


def ablation_table(records: Iterable[Row], fmt: Format = "markdown") -> str:
    """Variants side by side: one row a variant, one column a bit width, for methods with several variants.

    A table a method, but a single one as CSV.
    """
    rows = _variant_rows(records)
    widths = sorted({key for row in rows for key in row if key not in _VARIANT_KEYS}, key=_by_width)
    rows = [{key: row.get(key, "") for key in (*_VARIANT_KEYS, *widths)} for row in rows]
    if fmt == "csv" or not rows:
        return render(rows, fmt)
    methods = dict.fromkeys(row["method"] for row in rows)
    return "\n\n".join(render([r for r in rows if r["method"] == m], fmt, right=widths) for m in methods)


_VARIANT_KEYS = ("method", "data", "model", "variant")


def _by_width(bits: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"\d+", bits))


def _variant_rows(records: Iterable[Row]) -> list[dict[str, str]]:
    groups: dict[tuple[str, ...], dict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    for run in group_seeds(records):
        cell = run[0].cell
        name = PRIMARY.get(cell.task, ("top1",))[0]
        metrics = [r.metrics[name] for r in run if name in r.metrics]
        if run[0].status == "done" and metrics:
            data = cell.dataset + (f" (limit {cell.limit})" if cell.limit else "")
            mean = over_seeds([m.value for m in metrics])
            seeds = f"{mean.value:.2f} ± {mean.stderr or 0:.2f} ({len(metrics)} seeds)"
            text = with_error(metrics[0]) if len(metrics) == 1 else seeds
            groups[marked(run[0]), data, cell.model][cell.variant or "default"][cell.bits] = text
    return [
        dict(zip(_VARIANT_KEYS, (*key, variant), strict=True)) | variants[variant]
        for key, variants in sorted(groups.items())
        if len(variants) > 1
        for variant in sorted(variants, key=lambda v: (v != "default", v))
    ]
