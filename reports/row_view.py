"""One row in full, and its per-layer table: what `vitq show` prints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitq.errors import BadInputError
from vitq.paired import Paired, against_fp32
from vitq.reports.files import inside
from vitq.reports.layout import FOR_MACHINES, Format, render
from vitq.reports.tables import latency_text, marks_told, with_error
from vitq.rows import Row


def layers_table(record: Row, results: Path, fmt: Format = "markdown", width: int | None = None) -> str:
    """Per-layer MACs, widths, parameters and bytes, read from the record's `layers` file in the results folder."""
    if "layers" not in record.files:
        raise BadInputError(f"{record.cell.id} has no per-layer table in {results}: it was not counted, or was cleaned")
    rows = _layer_rows(inside(results, record.files["layers"]))
    if fmt in FOR_MACHINES:
        return render(rows, fmt)
    shown = [{k: f"{v:g}" if isinstance(v, float) else str(v) for k, v in row.items()} for row in rows]
    return render(shown, fmt, right=("macs", "left_bits", "right_bits", "weight_params", "packed_bytes"), width=width)


def _layer_rows(path: Path) -> list[Mapping[str, Any]]:
    """The rows of a per-layer file; BadInputError where it is no list of mappings."""
    try:
        rows = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        rows = None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadInputError(f"the per-layer table {path} is no list of layers: run the cell again")
    return rows


def row_view(record: Row, fmt: Format = "plain", width: int | None = None) -> str:
    """Everything a record holds but its samples, one row a fact."""
    rows = [{"what": name, "value": value} for name, value in facts(record).items()]
    table = render(rows, fmt, width=width)
    return "\n\n".join([table, *([] if fmt in FOR_MACHINES else marks_told([record], fmt))])


def facts(record: Row, paired: Mapping[str, Paired | None] | None = None) -> dict[str, str]:
    """What a record holds by its words: what was asked, metrics, counts, latency, phases, and where it is from.

    `paired` are comparisons with FP32 by metric that were made already; without it every metric is compared.
    """
    cell, origin = record.cell, record.provenance
    found: dict[str, Any] = {
        **{"cell": cell.id, "status": record.status, "error": record.error, "fidelity": record.fidelity},
        **{"data": cell.dataset, "limit": cell.limit, "scope": cell.scope, "seed": cell.seed},
        **{f"{what} added by": package for what, package in sorted(record.added_by.items())},
        **{f"option {name}": value for name, value in sorted(cell.options.items())},
        **{f"calibration {name}": value for name, value in sorted(cell.calibration.items())},
        **{name: f"{with_error(m)} % of {m.n:,}" for name, m in sorted(record.metrics.items())},
        **{f"FP32 {name}": f"{with_error(m)} % of {m.n:,}" for name, m in sorted(record.fp32.items())},
        **_paired_text(_against_fp32(record) if paired is None else paired),
        **_counts(record),
        **_calibrated(record),
        **_file(record),
        "latency ms": latency_text(record),
        **{f"seconds {name}": f"{seconds:.2f}" for name, seconds in record.seconds.items()},
        "peak memory MB": f"{record.peak_memory_mb:.0f}" if record.peak_memory_mb is not None else None,
        **{f"warning {number}": text for number, text in enumerate(record.warnings, start=1)},
        **{f"file {name}": path for name, path in sorted(record.files.items())},
        **{f"detail {name}": _short(value) for name, value in sorted(_details(record).items())},
        **_decided_by(record),
        **{f"from {name}": _short(value) for name, value in origin.model_dump().items() if value not in (None, "", {})},
    }
    return {name: str(value) for name, value in found.items() if value not in (None, "")}


def _against_fp32(record: Row) -> dict[str, Paired | None]:
    """What quantization changed, sample by sample."""
    return {name: against_fp32(record, name) for name in sorted(record.metrics) if name in record.fp32}


def _paired_text(found: Mapping[str, Paired | None]) -> dict[str, str]:
    return {f"{name} against FP32": str(paired) for name, paired in found.items() if paired is not None}


def _calibrated(record: Row) -> dict[str, str]:
    read = record.calibrated
    if read is None:
        return {}
    also = f", {read.evaluated} of them are evaluated too" if read.evaluated else ""
    return {"calibration images read": f"{read.read} of {read.given}{also}"}


def _file(record: Row) -> dict[str, str]:
    file = record.model_file
    if file is None:
        return {}
    kept = "" if file.kept else ", not kept"
    return {"model file": f"{file.path}, {file.bytes / 1e6:.3f} MB, {file.header_bytes:,} bytes of header{kept}"}


def _decided_by(record: Row) -> dict[str, str]:
    """Every part of the identity, once where it is the same for several measurements; then the keys."""
    found: dict[str, str] = {}
    for kind, identity in record.identity.items():
        for name, value in identity.items():
            known = found.setdefault(f"identity {name}", value)
            if known != value:
                found[f"identity {name} ({kind})"] = value
    return found | {f"key {kind}": key for kind, key in record.keys.items()}


def _counts(record: Row) -> dict[str, str]:
    counts: dict[str, str] = {}
    if record.size:
        size = record.size
        counts |= {
            "parameters": f"{size.params:,}",
            "FP32 MB": f"{size.fp32_mb:.3f}",
            "packed MB": f"{size.packed_mb:.3f}",
        }
        counts |= {f"size by {name}": f"{value:.4g}" for name, value in sorted(size.conventions.items())}
    if record.operations:
        ops = record.operations
        counts |= {"MACs": f"{ops.macs:,}", "BitOPs": f"{ops.bitops:,}", "OPs": f"{ops.ops:,.0f}"}
        counts |= {f"operations by {name}": f"{value:.4g}" for name, value in sorted(ops.conventions.items())}
    return counts


def _details(record: Row) -> dict[str, Any]:
    return record.details.model_dump(mode="json", exclude_unset=True) if record.details is not None else {}


def _short(value: Any, width: int = 160) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= width else f"{text[: width - 4]} ..."
