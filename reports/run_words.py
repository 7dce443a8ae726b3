"""What a report says of a run in words: what was run on what, what went wrong, and what was timed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from vitq.escape import code, markdown
from vitq.peaks import Peaks
from vitq.reports import tables
from vitq.reports.latency_table import latency_table, peaks_table
from vitq.reports.layout import NOTHING
from vitq.reports.roofline import roofline_table
from vitq.rows import Row


def what_was_run(records: Sequence[Row]) -> str:
    """Cells by status, then each machine and set of versions that records come from; several are listed one by one."""
    if not records:
        return "No records: nothing was run."
    statuses = Counter(record.status for record in records)
    lines = [
        f"{len(records)} cells: " + ", ".join(f"{count} {status}" for status, count in sorted(statuses.items())) + "."
    ]
    origins = Counter(_origin(record) for record in records)
    lines += [f"- {count} on {markdown(origin)}" for origin, count in sorted(origins.items())]
    commands = sorted({r.provenance.command for r in records if r.provenance.command})
    lines += [f"- command: {code(command)}" for command in commands]
    for told in tables.marks_told(records, "markdown"):
        lines += ["", told]
    return "\n".join([lines[0], "", *lines[1:]])


def _origin(record: Row) -> str:
    origin = record.provenance
    commit = (
        f", commit {origin.git_commit[:10]}{' with local changes' if origin.git_dirty else ''}"
        if origin.git_commit
        else ""
    )
    versions = ", ".join(f"{name} {version}" for name, version in sorted(origin.packages.items()))
    device = ", ".join(part for part in (origin.machine, origin.cpu, origin.gpu) if part) or "a machine without a name"
    return (
        f"{device}; vitq {origin.vitq}{commit}"
        + (f"; Python {origin.python}" if origin.python else "")
        + (f"; {versions}" if versions else "")
    )


def troubles(records: Sequence[Row], problems: Sequence[str] = ()) -> str:
    """Every cell that has no result and why, every warning, and what could not be drawn; `None.` without any."""
    lines = []
    for record in records:
        name = code(record.cell.id)
        if record.status != "done":
            first = next(iter((record.error or "no reason given").splitlines()), "")
            lines.append(f"- {record.status}: {name}: {markdown(first)}")
        lines += [f"- warning: {name}: {markdown(text)}" for text in record.warnings]
    lines += [f"- picture: {markdown(problem)}" for problem in problems]
    return "\n".join(lines) or "None."


def latency_sections(records: Sequence[Row], peaks: Peaks | None) -> dict[str, str]:
    """What was timed, and the machine's peaks; nothing where neither was measured."""
    timed = latency_table(records)
    sections = {} if timed == NOTHING else {"Latency": timed}
    if peaks is None:
        return sections
    under = roofline_table(records, peaks)
    return sections | {"Peaks of the machine": peaks_table(peaks) + ("" if under == NOTHING else f"\n\n{under}")}
