"""Where two rows were made, and which parts of their identity differ."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from vitq.record import Identity, Name, Provenance
from vitq.rows import Row

INPUTS = frozenset(("weights", "validation", "subset", "calibration", "training"))
"""Parts of an identity that are given to a method: with others, accuracy answers another question."""
_SHORT = 40


def moved(old: Provenance, new: Provenance) -> str:
    """What differs of machine, device, versions, threads and settings; empty where all bits should agree."""
    found = [] if old.machine == new.machine and old.machine else ["machine"]
    found += _changes(
        {"device": old.device.partition(":")[0], "Python": old.python, "threads": str(old.threads)},
        {"device": new.device.partition(":")[0], "Python": new.python, "threads": str(new.threads)},
    )
    found += _changes(old.packages, new.packages) + _changes(old.settings, new.settings)
    return f"other {', '.join(found)}" if found else ""


def describe_origins(pairs: Iterable[tuple[Provenance, Provenance]]) -> list[str]:
    """One line for all cells that were made elsewhere in the same way."""
    counts = Counter(origin for old, new in pairs if (origin := moved(old, new)))
    return [f"made elsewhere: {origin} ({_cells(count)})" for origin, count in counts.items()]


def _cells(count: int) -> str:
    return f"{count} cell{'s' if count > 1 else ''}"


def _changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    return [f"{name} ({old.get(name, 'none')} -> {new.get(name, 'none')})" for name in names]


def identity_changes(old: Row, new: Row) -> dict[Name, Identity]:
    """Parts that differ or that one lacks, by kind of measurement that both have: the part and how it changed."""
    found = {}
    for kind, before in old.identity.items():
        after = new.identity.get(kind, before)
        parts = [name for name in {**after, **before} if before.get(name) != after.get(name)]
        if parts:
            found[kind] = {name: _change(before.get(name), after.get(name)) for name in parts}
    return found


def _change(before: str | None, after: str | None) -> str:
    texts = [text or "none" for text in (before, after)]
    # A digest, or a text of a page, says no more than that it is another one.
    return " -> ".join(texts) if all(len(text) <= _SHORT for text in texts) else ""


def other_inputs(old: Row, new: Row) -> list[str]:
    """What was asked for differently, or given to the method differently; a cell's labels are left out."""
    before, after = (row.cell.model_dump(exclude={"id", "variant"}) for row in (old, new))
    asked = [name for name in before if before[name] != after[name]]
    parts = identity_changes(old, new).get("accuracy", {})
    return list(dict.fromkeys([*asked, *(part for part in parts if part in INPUTS)]))


def describe_changes(changes: Iterable[dict[Name, Identity]]) -> list[str]:
    """One line a change of identity, with the number of cells where it is the same for many."""
    counts: dict[tuple[str, str], dict[Name, int]] = defaultdict(dict)
    for cell in changes:
        for kind, parts in cell.items():
            for part in parts.items():
                counts[part][kind] = counts[part].get(kind, 0) + 1
    return [
        f"identity changed: {part}{f' ({how})' if how else ''}, decides {', '.join(kinds)} of "
        f"{_cells(max(kinds.values()))}"
        for (part, how), kinds in counts.items()
    ]
