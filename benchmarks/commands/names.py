"""`vitq list`: methods, models, data sets, suites, runtimes and cells by name. Only runtimes need torch.

What another package offers and cannot be read is a line below the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from vitq import escape
from vitq.benchmarks.commands.printing import Printer
from vitq.benchmarks.plan.cells import expand
from vitq.benchmarks.plan.picking import picker
from vitq.benchmarks.plan.suite import load_suite, shipped_suites
from vitq.benchmarks.runtimes.registry import RUNTIMES
from vitq.datasets.registry import DATASETS
from vitq.errors import BadInputError
from vitq.globs import fits, is_glob
from vitq.methods.cards import all_cards
from vitq.metrics import main_metrics
from vitq.record import CellKey
from vitq.tasks.names import model_entry, model_names
from vitq.words import nearest

WHATS = ("methods", "models", "datasets", "suites", "runtimes", "cells")
TIMMS = "timm's, not among ours"


@dataclass
class Listing:
    """Rows by column, and a line for each thing that cannot be shown."""

    rows: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def print_names(what: str, words: Sequence[str], k: str | None, everything: bool, printer: Printer) -> int:
    """`vitq list WHAT [GLOB]`, `vitq list cells [SUITE] [GLOB]`: 0; BadInputError where nothing is called so."""
    if what not in WHATS:
        raise BadInputError(f"cannot list {what!r}; {nearest(what, WHATS)}")
    if what == "cells":
        return _print_cells(*_suite_and_glob(words), k, printer)
    if k is not None:
        raise BadInputError(f"-k picks cells: of {what} give a pattern, as `vitq list {what} '*vit*'`")
    if len(words) > 1:
        raise BadInputError(f"vitq list {what} takes one pattern, and there are {len(words)} words: quote the pattern")
    if everything and what != "models":
        raise BadInputError(f"--all adds the models that timm knows: there are no other {what}")
    found = _listing(what, words[0] if words else "*", everything)
    printer.table(found.rows)
    for line in found.notes:
        printer.note(line)
    return 0


def _listing(what: str, pattern: str, everything: bool) -> Listing:
    """What is called so; of models timm's names too by `everything`, or where none of ours is."""
    tables: dict[str, Callable[[str], Listing]] = {
        "methods": _methods,
        "models": _models,
        "datasets": _datasets,
        "suites": _suites,
        "runtimes": _runtimes,
    }
    found = tables[what](pattern)
    if what == "models" and (everything or not (found.rows or found.notes)):
        ours = {row["model"] for row in found.rows}
        found.rows += [_of_timm(name) for name in _timm_names(pattern) if name not in ours]
    if not found.rows and not found.notes:
        known = _known(what)
        near = nearest(pattern.replace("*", "").replace("?", ""), known)
        raise BadInputError(f"no name among the {what} fits {escape.line(pattern)[:80]!r}; {near}")
    return found


def _fitting(names: Iterable[str], word: str) -> list[str]:
    return [name for name in names if fits(name, word)]


def _known(what: str) -> list[str]:
    known: dict[str, Callable[[], Iterable[str]]] = {
        "methods": all_cards,
        "models": model_names,
        "datasets": DATASETS.names,
        "suites": shipped_suites,
        "runtimes": RUNTIMES.names,
    }
    return list(known[what]())


def _timm_names(pattern: str) -> list[str]:
    """Architectures and tags that timm knows."""
    from vitq.tasks.own_models import timm_names

    return _fitting(timm_names(), pattern)


def _of_timm(name: str) -> dict[str, str]:
    tagged = "." in name
    return {"model": name, "task": "classification", "weights": "hub or file" if tagged else "file", "FP32": TIMMS}


def _methods(pattern: str) -> Listing:
    cards = all_cards()

    def row(name: str) -> dict[str, str]:
        card = cards[name]
        return {
            "method": card.name,
            "title": card.title,
            "regime": card.regime,
            "fidelity": card.fidelity,
            "paper": f"arXiv {card.arxiv}" if card.arxiv else "",
            "what": card.summary,
        }

    return _listed(_fitting(cards, pattern), row)


def _models(pattern: str) -> Listing:
    def row(name: str) -> dict[str, str]:
        entry = model_entry(name)
        told = [(d, n, m[n]) for d, m in entry.expected.items() for n in main_metrics(entry.task) if m.get(n)]
        return {
            "model": entry.name,
            "task": entry.task,
            "name in papers": entry.paper_name or "",
            "weights": "ships with vitq" if entry.packaged else "hub or file" if entry.hub else "file",
            "FP32": ", ".join(f"{n} {value:.2f} on {data}" for data, n, value in told),
        }

    return _listed(_fitting(model_names(), pattern), row)


def _runtimes(pattern: str) -> Listing:
    def row(name: str) -> dict[str, str]:
        runtime = RUNTIMES.load(name)
        why = runtime.missing()
        promise = "bit for bit" if runtime.exact else "within rounding"
        version = "" if why else runtime.version()
        return {"runtime": name, "version": version, "its numbers are torch's": promise, "missing": why or ""}

    return _listed(_fitting(RUNTIMES.names(), pattern), row)


def _datasets(pattern: str) -> Listing:
    def row(name: str) -> dict[str, str]:
        data = DATASETS.load(name)
        return {
            "data set": name,
            "task": data.task,
            "classes": str(data.classes),
            "images": "" if data.full_size is None else str(data.full_size),
            "folder": "site file" if data.needs_folder else "ships with vitq",
        }

    return _listed(_fitting(DATASETS.names(), pattern), row)


def _suites(pattern: str) -> Listing:
    return Listing([suite_row(name) for name in _fitting(shipped_suites(), pattern)])


def suite_row(name: str) -> dict[str, str]:
    """A suite that ships, with what it measures and how many cells it has."""
    suite = load_suite(name)
    cells = str(len(expand(suite)[0]))
    return {"suite": name, "measures": ", ".join(suite.measure), "cells": cells, "what": suite.description}


def _listed(names: Iterable[str], row: Callable[[str], dict[str, str]]) -> Listing:
    """A row a name, and a note for each of another package that cannot be read."""
    found = Listing()
    for name in names:
        try:
            found.rows.append(row(name))
        except BadInputError as error:
            found.notes.append(escape.line(str(error)))
    return found


def _suite_and_glob(words: Sequence[str]) -> tuple[str, str | None]:
    """`SUITE`, `GLOB` or both, of the words behind `cells`."""
    if len(words) > 2:
        raise BadInputError(f"vitq list cells takes a suite and a pattern, and there are {len(words)} words")
    if len(words) == 2:
        return words[0], words[1]
    only = words[0] if words else "smoke"
    return ("smoke", only) if is_glob(only) else (only, None)


def _print_cells(name: str, pattern: str | None, k: str | None, printer: Printer) -> int:
    """Ids alone, a line each, where no other format is asked for: to be put into other commands."""
    cells, refused = expand(load_suite(name))
    test = picker(k) if k is not None else lambda _: True

    def wanted(cell: str) -> bool:
        return test(cell) and (pattern is None or fits(cell, pattern))

    rows = [_cell_row(cell) for cell in cells if wanted(cell.id)]
    rows += [{"cell": r.id, "left out": r.reason} for r in refused if wanted(r.id)]
    if not rows:
        asked = " and ".join([*([f"-k {k!r}"] if k is not None else []), *([repr(pattern)] if pattern else [])])
        raise BadInputError(f"no cell of suite {name} matches {asked}: see `vitq list cells {name}`")
    if printer.fmt != "plain":
        printer.table(rows)
        return 0
    said = (f"{row['cell']}  left out: {row['left out']}" if "left out" in row else row["cell"] for row in rows)
    printer.text(escape.lines("\n".join(said)))
    return 0


def _cell_row(cell: CellKey) -> dict[str, str]:
    fields = ("method", "variant", "task", "dataset", "model", "bits", "seed", "scope", "limit")
    return {"cell": cell.id, **{name: str(value) for name in fields if (value := getattr(cell, name)) is not None}}
