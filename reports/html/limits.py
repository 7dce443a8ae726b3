"""What must not be concluded from a report's numbers, each with its reason; only what applies to these records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from vitq.metrics import label, main_metrics
from vitq.reports.figure import FULL_SIZE
from vitq.reports.html.names import counted, data_name, listed
from vitq.reports.latency_table import is_kernel
from vitq.reports.verdicts import Comparison, group_seeds
from vitq.rows import Row


class Limit(NamedTuple):
    """Something that these results do not show, and why."""

    claim: str
    why: str


def must_not_be_concluded(records: Sequence[Row], comparisons: Sequence[Comparison]) -> list[Limit]:
    """What a reader might take from these numbers and must not, each with its reason; only what applies here."""
    found = [
        _papers(records, comparisons),
        _unlike_data(records),
        _noise(records),
        _one_seed(records),
        _speed(records),
        _reconstructions(records),
        _machines(records),
        _missing(records),
        _calibration(records),
        _changed_code(records),
    ]
    return [limit for limit in found if limit is not None]


def _papers(records: Sequence[Row], comparisons: Sequence[Comparison]) -> Limit | None:
    held = [c for c in comparisons if c.figure is not None and c.verdict not in ("not-run", "no-figure")]
    compared = [c for c in held if c.verdict != "not-comparable"]
    if not records:
        return None
    if not compared:
        return Limit(
            "That any paper's figure was confirmed or refuted.",
            f"{counted(len(held), 'figure')} could be set beside a run, and none is comparable; the table says why.",
        )
    accuracy = [c for c in compared if c.figure is not None and not c.figure.counted]
    if not accuracy:
        return Limit(
            "That any paper's accuracy was confirmed or refuted.",
            f"All {counted(len(compared), 'figure')} that could be compared are sizes or operations, counted from the "
            "architecture.",
        )
    return None


def _unlike_data(records: Sequence[Row]) -> Limit | None:
    small = sorted(
        {
            data_name(r)
            for r in records
            if r.metrics and (r.cell.dataset not in FULL_SIZE or r.cell.dataset == "imagenet-proxy" or r.cell.limit)
        }
    )
    if not small:
        return None
    return Limit(
        "That methods rank in this order on full-size data.",
        f"{listed(small, 3)}: stand-ins, or parts of a validation set.",
    )


def _noise(records: Sequence[Row]) -> Limit | None:
    errors = [
        (metric.stderr, label(name))
        for record in records
        for name in main_metrics(record.cell.task)
        if (metric := record.metrics.get(name)) is not None and metric.stderr is not None
    ]
    if not errors:
        return None
    widest, name = max(errors)
    return Limit(
        "That a small difference between two rows is real.",
        f"Standard errors reach {widest:.2f} points ({name}); the drop against FP32 has a smaller, paired error.",
    )


def _one_seed(records: Sequence[Row]) -> Limit | None:
    runs = [run for run in group_seeds(records) if run[0].status == "done" and run[0].metrics]
    single = sum(len(run) == 1 for run in runs)
    if not single:
        return None
    return Limit(
        "How far a run lands from itself with another seed.",
        f"{single:,} of {counted(len(runs), 'run')} have one seed; errors are of the images drawn, not of chance in "
        "methods.",
    )


def _speed(records: Sequence[Row]) -> Limit | None:
    timed = [row for record in records for row in record.latency]
    disturbed = any(around.disturbed for record in records for around in record.latency_around.values())
    if any(is_kernel(row) for row in timed):
        return Limit(
            "Speed on another machine, batch or thread count.",
            "A fake-quant time is what an evaluation costs, never a speed."
            + (" Some sessions were disturbed by other work, and say so." if disturbed else ""),
        )
    if records:
        return Limit(
            "That a quantized model is faster.",
            "No integer or binary kernel was timed here; a fake-quant time is what an evaluation costs.",
        )
    return None


def _reconstructions(records: Sequence[Row]) -> Limit | None:
    methods = sorted({record.cell.method for record in records if record.fidelity == "reconstruction"})
    if not methods:
        return None
    return Limit(
        f"That {listed([f'{method}†' for method in methods])} are what their authors ran.",
        "† Reconstructed without code; the method card lists what the suite chose.",
    )


def _machines(records: Sequence[Row]) -> Limit | None:
    places = {(record.provenance.machine, record.provenance.device) for record in records}
    versions = {tuple(sorted(record.provenance.packages.items())) for record in records}
    if len(places) < 2 and len(versions) < 2:
        return None
    return Limit(
        "That two rows differ by their method alone.",
        f"Rows come from {counted(len(places), 'machine or device', 'machines or devices')} and "
        f"{counted(len(versions), 'set')} of package versions.",
    )


def _missing(records: Sequence[Row]) -> Limit | None:
    lost = sum(record.status in ("failed", "oom") for record in records)
    if not lost:
        return None
    return Limit(
        "Anything from a cell that is absent.",
        f"{counted(lost, 'cell')} failed or ran out of memory and are in no front, mean or plot.",
    )


def _calibration(records: Sequence[Row]) -> Limit | None:
    shared = sum(bool(record.calibrated and record.calibrated.evaluated) for record in records)
    if not shared:
        return None
    return Limit(
        "That every cell was evaluated on unseen images.",
        f"{counted(shared, 'cell')} calibrated on images that are evaluated too; their records say how many.",
    )


def _changed_code(records: Sequence[Row]) -> Limit | None:
    dirty = sum(bool(record.provenance.git_dirty) for record in records)
    if not dirty:
        return None
    return Limit(
        "That the named commit gives these numbers.",
        f"{counted(dirty, 'cell')} ran with local changes; a record's identity says which code decided it.",
    )
