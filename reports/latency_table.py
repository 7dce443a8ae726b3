"""Tables of time: every execution form of every cell, what a speed-up is stated against, and a machine's peaks."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from vitq.escape import line, markdown
from vitq.peaks import MEMORY, PRODUCTS, Peaks, Rate
from vitq.record import LatencyAround, LatencyRow
from vitq.reports.layout import FOR_MACHINES, NOTHING, Format, render
from vitq.reports.measured import FAKE_QUANT, FLOATS
from vitq.reports.tables import foreign, marked_id, marks_told, order
from vitq.rows import Row

EAGER = "fp32"
NO_KERNEL = "no kernel"
LONGEST = 48
RIGHT = ("batch", "threads", "median ms", "p90 ms", "x best fp32", "x eager fp32", "call MB")
NOTES = (
    "Milliseconds a batch. Ratios are medians over rounds in which both forms ran in turn: best fp32 is the fastest "
    "FP32 form of the session, eager fp32 is torch's. A fake-quant time says what evaluating costs; it is no latency "
    "of the quantized model and is given no ratio."
)


def short(text: str) -> str:
    """One visible line of at most `LONGEST` characters."""
    shown = line(text)
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 4]} ..."


def kind_of(row: LatencyRow) -> str:
    """`fp32`, `bf16`, `fake-quant`, `int8-kernel`, `integer-only` or `xnor`."""
    return row.exec.partition(":")[0]


def is_kernel(row: LatencyRow) -> bool:
    """Whether the row is a time of the quantized model itself."""
    return kind_of(row) not in FLOATS


def strongest(rows: Iterable[LatencyRow]) -> LatencyRow | None:
    """The fastest FP32 form of some rows, None without one."""
    return min((row for row in rows if kind_of(row) == EAGER), key=lambda row: row.median_ms, default=None)


def eager(rows: Iterable[LatencyRow]) -> LatencyRow | None:
    """Eager torch in FP32 of some rows, None without it."""
    return next((row for row in rows if row.exec == EAGER), None)


def ratio(baseline: LatencyRow | None, row: LatencyRow) -> float | None:
    """How many times as fast as the baseline a row is, the median round by round; None for what is no such thing.

    None: without a baseline, for a fake-quant row, and where the rows were not timed in turn.
    """
    if baseline is None or kind_of(row) == FAKE_QUANT or baseline.place != row.place:
        return None
    if len(baseline.samples_ms) != len(row.samples_ms):
        return baseline.median_ms / row.median_ms
    return statistics.median(b / own for b, own in zip(baseline.samples_ms, row.samples_ms, strict=True))


def latency_table(records: Iterable[Row], fmt: Format = "markdown") -> str:
    """A row an execution form of every cell that was timed; where there is no kernel, the reason and no number."""
    records = order(records)
    rows = [line for record in records for line in _of_cell(record, fmt in FOR_MACHINES)]
    if fmt in FOR_MACHINES or not rows:
        return render(rows, fmt) if rows or fmt == "json" else ("" if fmt == "csv" else NOTHING)
    notes = NOTES if fmt == "plain" else markdown(NOTES)
    return "\n\n".join([render(rows, fmt, right=RIGHT), notes, *marks_told(records, fmt)])


def _of_cell(record: Row, numbers: bool) -> list[dict[str, Any]]:
    lines, cell = [], record.cell.id if numbers else marked_id(record)
    for row in record.latency:
        together = [other for other in record.latency if other.place == row.place]
        lines.append(_line(record, row, together, numbers))
    lines += [_none(cell, f"none on {name}", reason) for name, reason in sorted(record.no_runtime.items())]
    quantized = record.latency and any(kind_of(row) == FAKE_QUANT for row in record.latency)
    if quantized and not any(is_kernel(row) for row in record.latency) and not record.no_runtime:
        lines.append(_none(cell, "none", "no runtime with kernels was asked for: vitq run --runtime NAME"))
    return lines


def _none(cell: str, exec: str, reason: str) -> dict[str, Any]:
    return {"cell": cell, "exec": exec, "median ms": NO_KERNEL, "checked": f"no number: {reason}"}


def _line(record: Row, row: LatencyRow, together: Sequence[LatencyRow], numbers: bool) -> dict[str, Any]:
    runtime = row.runtime + ("" if numbers else foreign(record, f"runtime {row.runtime}"))
    best, plain = ratio(strongest(together), row), ratio(eager(together), row)

    def number(value: float | None, digits: int) -> Any:
        return value if numbers else "" if value is None else f"{value:.{digits}f}"

    return {
        "cell": record.cell.id if numbers else marked_id(record),
        "exec": row.exec,
        "runtime": f"{runtime} {row.version or ''}".strip(),
        "batch": row.batch if numbers else str(row.batch),
        "threads": row.threads if numbers else str(row.threads),
        "device": row.device,
        "median ms": number(row.median_ms, 2),
        "p90 ms": number(row.p90_ms, 2),
        "x best fp32": number(best, 2),
        "x eager fp32": number(plain, 2),
        "call MB": number(row.memory_mb, 1),
        "checked": checked(row),
        "operators": operators(row),
        "disturbed": disturbed(record.latency_around.get(row.session)),
    }


def checked(row: LatencyRow) -> str:
    """What the form's numbers were held to before it was timed, and how near they came."""
    if row.reference is None:
        return "not checked"
    if row.reference == row.exec:
        return "the reference itself"
    if row.difference is None:
        return f"held to {row.reference}, difference not kept"
    near = "bit for bit" if row.difference == 0 else f"to {row.difference:.1e} of the largest output"
    same = "" if row.agreement is None or row.difference == 0 else f", {row.agreement:.4g} % in the same class"
    return f"equals {row.reference} {near}{same}"


def operators(row: LatencyRow) -> str:
    """`Linear 48 int8 + 2 fp32; MatMul 24 fp32`, as the runtime's own executed graph says."""
    return "; ".join(
        f"{kind} {' + '.join(f'{count} {width}' for width, count in sorted(widths.items()))}"
        for kind, widths in sorted(row.operators.items())
    )


def disturbed(around: LatencyAround | None) -> str:
    """Whether other work was there, and how much; nothing where nobody looked."""
    if around is None:
        return ""
    others = "" if around.other_cores is None else f": other work took {around.other_cores:.2f} cores"
    return f"yes{others}" if around.disturbed else "no"


def peaks_table(peaks: Peaks, fmt: Format = "markdown") -> str:
    """Every rate with its quartiles and what reached it, the best of a kind marked; below it the machine."""
    rows = peaks_rows(peaks)
    if fmt in FOR_MACHINES:
        return render(rows, fmt)
    table, said = render(rows, fmt, right=("median", "quartiles", "rounds")), peaks_words(peaks)
    return f"{table}\n\n{said if fmt == 'plain' else markdown(said)}"


def peaks_rows(peaks: Peaks) -> list[dict[str, str]]:
    """The rows of `peaks_table`."""
    best = {what: peaks.best(what) for what in (*PRODUCTS, *MEMORY)}
    rows = [_rate(rate, rate == best[rate.what]) for what in best for rate in peaks.rates if rate.what == what]
    return rows + [
        {"what": name.partition(" by ")[0], "by": name.partition(" by ")[2], "median": f"not measured: {reason}"}
        for name, reason in sorted(peaks.left_out.items())
    ]


def peaks_words(peaks: Peaks) -> str:
    """The machine that the peaks are of, and how memory is counted."""
    where = peaks.gpu if peaks.device.startswith("cuda") and peaks.gpu else peaks.cpu
    sets = " ".join(peaks.instruction_sets) or "instruction sets unknown"
    told = f"{where}; {sets}; {peaks.threads} threads; {peaks.device}. Disturbed: {disturbed(peaks.around)}."
    return f"{told} {peaks.convention}."


def _rate(rate: Rate, best: bool) -> dict[str, str]:
    unit = "G" + rate.unit
    return {
        "what": rate.what,
        "by": rate.by,
        "of": rate.size,
        "median": f"{rate.median / 1e9:.1f} {unit}",
        "quartiles": f"{rate.lower / 1e9:.1f} to {rate.upper / 1e9:.1f}",
        "rounds": str(rate.rounds),
        "peak": "yes" if best else "",
    }
