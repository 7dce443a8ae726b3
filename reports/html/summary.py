"""The first screen: what was run, and on what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vitq.escape import line
from vitq.record import Provenance, Status
from vitq.reports.html.names import counted, data_name, listed
from vitq.reports.verdicts import VERDICTS, Comparison
from vitq.rows import Row

STATUSES: tuple[Status, ...] = ("done", "failed", "oom", "unsupported")


class Fact(NamedTuple):
    """A line of the first screen: what it is, and what is said of it, one text a line."""

    name: str
    texts: list[str]


def lead(records: Sequence[Row]) -> str:
    """The page in one sentence: cells, how many images, on what, and when."""
    if not records:
        return "Nothing was run."
    done = sum(record.status == "done" for record in records)
    images = [metric.n for record in records for metric in record.metrics.values()]
    seen = f", on {min(images):,} to {max(images):,} images" if images else ""
    seen = f", on {images[0]:,} images" if images and min(images) == max(images) else seen
    machines = _each((_machine(record.provenance) for record in records), most=1)
    where = machines[0] if len(machines) == 1 else f"{len({r.provenance.machine for r in records})} machines or devices"
    span = _span([record.provenance.finished for record in records if record.provenance.finished])
    return f"{counted(len(records), 'cell')}, {done:,} done{seen}; {where}{f'; {span[0]}' if span else ''}."


def what_was_run(records: Sequence[Row]) -> list[Fact]:
    """Cells by status, and for each task its data, images, models and methods."""
    statuses = Counter(record.status for record in records)
    cells = ", ".join(f"{statuses[status]:,} {status}" for status in STATUSES if statuses[status])
    facts = [Fact("Cells", [f"{len(records):,}: {cells}" if records else "none: nothing was run"])]
    for task in sorted({record.cell.task for record in records}):
        of_task = [record for record in records if record.cell.task == task]
        facts.append(Fact(line(task).capitalize(), _of_task(of_task)))
    return facts


def _of_task(records: Sequence[Row]) -> list[str]:
    texts = []
    for data in sorted({data_name(record) for record in records}):
        here = [record for record in records if data_name(record) == data]
        images = sorted({metric.n for record in here for metric in record.metrics.values()})
        seen = f"n = {' or '.join(f'{n:,}' for n in images)} images" if images else "nothing was evaluated"
        models = sorted({record.cell.model for record in here})
        methods = sorted({record.cell.method for record in here} - {"fp32"})
        texts.append(f"{data}, {seen}; {listed(models)}; methods: {listed(methods, 10) if methods else 'FP32 alone'}")
    return texts


def on_what(records: Sequence[Row]) -> list[Fact]:
    """Machines and versions; several of any are listed with the number of cells each."""
    origins = [record.provenance for record in records]
    facts = [
        Fact("Machine", _each(_machine(origin) for origin in origins)),
        Fact("vitq", _each(_code(origin) for origin in origins)),
        Fact("Versions", _each(_versions(origin) for origin in origins)),
    ]
    return [fact for fact in facts if fact.texts]


def commands(records: Sequence[Row]) -> list[str]:
    """The command lines that cells were run by, the most frequent first."""
    return _each((r.provenance.command for r in records if r.provenance.command), most=20)


def _each(texts: Iterable[str], most: int = 4) -> list[str]:
    found = Counter(line(text) for text in texts if text)
    if len(found) == 1:
        return list(found)
    shown = [f"{text} ({counted(number, 'cell')})" for text, number in found.most_common(most)]
    return shown + ([f"and {len(found) - most} more, in the records"] if len(found) > most else [])


def _machine(origin: Provenance) -> str:
    device = origin.gpu if origin.device.startswith("cuda") and origin.gpu else origin.cpu
    named = ", ".join(part for part in (origin.machine, device) if part) or "a machine without a name"
    threads = "" if origin.threads is None else f", {counted(origin.threads, 'thread')}"
    return f"{named}; {origin.device}{threads}"


def _code(origin: Provenance) -> str:
    commit = f", commit {origin.git_commit[:10]}" if origin.git_commit else ""
    return f"{origin.vitq}{commit}{' with local changes' if origin.git_dirty else ''}"


def _versions(origin: Provenance) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in sorted(origin.packages.items()))
    return ", ".join(part for part in (f"Python {origin.python}" if origin.python else "", packages) if part)


def _span(times: Sequence[str]) -> list[str]:
    if not times:
        return []
    first, last = (line(text)[:16].replace("T", " ") for text in (min(times), max(times)))
    return [f"{last} UTC" if first == last else f"{first} to {last} UTC"]


def verdict_counts(comparisons: Sequence[Comparison]) -> list[tuple[str, int]]:
    """How often each verdict was given, those that were."""
    found = Counter(c.verdict for c in comparisons)
    return [(verdict, found[verdict]) for verdict in VERDICTS if found[verdict]]
