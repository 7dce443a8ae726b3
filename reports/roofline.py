"""Where the timed forms of models lie under the roof of their machine (Williams, Waterman, Patterson, 2009).

A form at x = MACs of a batch / bytes moved and y = MACs of a batch / median latency lies under y = min(peak, bandwidth
* x). Bytes moved are the weights alone, as the form stores them (FP32 for floats, half of it for bf16, packed for
kernels), read once a batch: what any schedule has to fetch. Activations may stay in caches, and an engine that sends
them through memory lies to the left of its point, so that x is the most favourable intensity, and the distance to the
roof is not excused by it.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from vitq.escape import markdown
from vitq.peaks import Peaks, What
from vitq.record import LatencyRow
from vitq.reports.latency_table import is_kernel, kind_of, short
from vitq.reports.layout import FOR_MACHINES, NOTHING, Format, render
from vitq.reports.measured import FAKE_QUANT
from vitq.rows import Row, by_cell

ROOF_OF: dict[str, What] = {
    "fp32": "fp32",
    "bf16": "bf16",
    "int8-kernel": "int8",
    "integer-only": "int8",
    "xnor": "binary",
}
"""The products that a kind of execution is made of, mostly; what is left of it runs at another width."""
WORDS = (
    "All MACs of the model count, those at another width than the roof's too; bytes are those of the weights as the "
    "form stores them, read once a batch, activations not counted. Fake-quant times are left out, and times of other "
    "machines, devices or thread counts."
)


class Panel(NamedTuple):
    """What forms are shown together: one model at one batch."""

    model: str
    batch: int


class Point(NamedTuple):
    """A form under its roof: MAC/byte, MAC/s, and the share of the roof at its place (None without that roof)."""

    method: str
    name: str
    exec: str
    intensity: float
    rate: float
    roof: What | None
    share: float | None

    @property
    def label(self) -> str:
        """Its name, how it was computed, and how near it comes to its roof."""
        named = short(self.exec) if self.method == "fp32" else f"{self.name}\n{short(self.exec)}"
        return named if self.share is None else f"{named}: {100 * self.share:.0f} %"


def points(records: Iterable[Row], peaks: Peaks) -> dict[Panel, list[Point]]:
    """Forms timed on the peaks' machine and device with as many threads; FP32 forms once, the median over cells."""
    found: dict[Panel, dict[tuple[str, str, str], list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for record in by_cell(records).values():
        origin = record.latency_provenance or record.provenance
        if origin.machine != peaks.machine or record.operations is None or record.size is None:
            continue
        for row in record.latency:
            if (row.threads, row.device) == (peaks.threads, peaks.device) and kind_of(row) != FAKE_QUANT:
                macs = float(record.operations.macs) * row.batch
                at = macs / _weight_bytes(record, row), macs / (row.median_ms / 1e3)
                found[Panel(record.cell.model, row.batch)][_named(record, row)].append(at)
    return {
        panel: [_point(*named, at, peaks) for named, at in sorted(forms.items())]
        for panel, forms in sorted(found.items())
    }


def _weight_bytes(record: Row, row: LatencyRow) -> float:
    """Bytes of the weights as the form stores them."""
    assert record.size is not None
    if is_kernel(row):
        return record.size.packed_mb * 1e6
    return record.size.fp32_mb * 1e6 / (2 if kind_of(row) == "bf16" else 1)


def _named(record: Row, row: LatencyRow) -> tuple[str, str, str]:
    """Method, words and exec of a form; floating-point forms of all cells of a model are one, and so are seeds."""
    if not is_kernel(row):
        return "fp32", "FP32", row.exec
    cell = record.cell
    words = f"{cell.method} {cell.bits}" + (f" {cell.variant}" if cell.variant else "")
    return cell.method, short(words), row.exec


def _point(method: str, name: str, exec: str, at: list[tuple[float, float]], peaks: Peaks) -> Point:
    intensity, rate = (statistics.median(each) for each in zip(*at, strict=True))
    what = ROOF_OF.get(exec.partition(":")[0])
    roof = roof_at(peaks, what, intensity)
    return Point(method, name, exec, intensity, rate, what, rate / roof if roof else None)


def roof_at(peaks: Peaks, what: What | None, intensity: float) -> float | None:
    """min(peak of the width, read bandwidth * intensity) in MAC/s; None where the peak was not measured."""
    peak = peaks.best(what) if what else None
    if peak is None:
        return None
    read = peaks.best("read")
    return min(peak.median, read.median * intensity) if read else peak.median


def roofline_table(records: Iterable[Row], peaks: Peaks, fmt: Format = "markdown") -> str:
    """A row a form: its intensity, MACs a second, and the share of its roof."""
    rows = [
        {
            "model": panel.model, "batch": str(panel.batch), "form": point.name, "exec": point.exec,
            "MAC/byte": f"{point.intensity:.1f}", "GMAC/s": f"{point.rate / 1e9:.1f}", "roof": point.roof or "",
            "% of its roof": "" if point.share is None else f"{100 * point.share:.1f}",
        }
        for panel, forms in points(records, peaks).items()
        for point in forms
    ]  # fmt: skip
    if not rows:
        return NOTHING
    table = render(rows, fmt, right=("batch", "MAC/byte", "GMAC/s", "% of its roof"))
    return table if fmt in FOR_MACHINES else f"{table}\n\n{WORDS if fmt == 'plain' else markdown(WORDS)}"
