"""`vitq list`: methods, models, data sets, suites, runtimes and cells by name; only runtimes need torch.

What another package offers and cannot be read is a line below the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tabulate import tabulate

from vitq import escape
from vitq.benchmarks.plan.cells import expand
from vitq.benchmarks.plan.picking import picker
from vitq.benchmarks.plan.suite import load_suite, shipped_suites
from vitq.benchmarks.runtimes.registry import RUNTIMES
from vitq.datasets.registry import DATASETS
from vitq.errors import BadInputError
from vitq.methods.cards import all_cards
from vitq.methods.registry import METHODS
from vitq.metrics import main_metrics
from vitq.registry import Registry
from vitq.tasks.names import model_entry, model_names, models
from vitq.words import nearest


def names(what: str, suite: str, k: str | None) -> str:
    """A table of methods, models, data sets, suites, runtimes or cells; BadInputError for anything else."""
    tables: dict[str, Callable[[], str]] = {
        "methods": _methods,
        "models": _models,
        "datasets": _datasets,
        "suites": _suites,
        "runtimes": _runtimes,
        "cells": lambda: _cells(suite, k),
    }
    if what not in tables:
        raise BadInputError(f"cannot list {what!r}; {nearest(what, tables)}")
    return tables[what]()


def _methods() -> str:
    cards = all_cards()

    def row(name: str) -> tuple[str, ...]:
        card = cards[name]
        return (
            card.name,
            card.title,
            card.regime,
            card.fidelity,
            f"arXiv {card.arxiv}" if card.arxiv else "",
            card.summary,
        )

    return _table(METHODS, cards, row, ["method", "title", "regime", "fidelity", "paper", "what"], [None] * 5 + [60])


def _models() -> str:
    def row(name: str) -> tuple[str, ...]:
        entry = model_entry(name)
        told = [(d, n, m[n]) for d, m in entry.expected.items() for n in main_metrics(entry.task) if m.get(n)]
        expected = ", ".join(f"{n} {value:.2f} on {data}" for data, n, value in told)
        weights = "ships with vitq" if entry.packaged else "hub or file" if entry.hub else "file"
        return entry.name, entry.task, entry.paper_name or "", weights, expected

    return _table(models(), model_names(), row, ["model", "task", "name in papers", "weights", "FP32"])


def _runtimes() -> str:
    def row(name: str) -> tuple[str, ...]:
        runtime = RUNTIMES.load(name)
        why = runtime.missing()
        promise = "bit for bit" if runtime.exact else "within rounding"
        return name, "" if why else runtime.version(), promise, why or ""

    return _table(RUNTIMES, RUNTIMES.names(), row, ["runtime", "version", "its numbers are torch's", "missing"])


def _datasets() -> str:
    def row(name: str) -> tuple[str, ...]:
        data = DATASETS.load(name)
        images = "" if data.full_size is None else str(data.full_size)
        return name, data.task, str(data.classes), images, "site file" if data.needs_folder else "ships with vitq"

    return _table(DATASETS, DATASETS.names(), row, ["data set", "task", "classes", "images", "folder"])


def _table(
    offered: Registry[Any],
    names: Iterable[str],
    row: Callable[[str], Sequence[str]],
    heads: list[str],
    widths: list[int | None] | None = None,
) -> str:
    """A row a name, and below them a line for each of another package that cannot be read.

    Where another package adds any, a column says which it is.
    """
    rows, problems = [], []
    packages = any(offered.origin(name) for name in names)
    heads, widths = ([*heads, "package"], widths and [*widths, None]) if packages else (heads, widths)
    for name in names:
        try:
            rows.append([*row(name), *([offered.origin(name)] if packages else [])])
        except BadInputError as error:
            problems.append(escape.line(str(error)))
    return "\n".join([tabulate(rows, heads, maxcolwidths=widths), *problems])


def _suites() -> str:
    suites = [load_suite(name) for name in shipped_suites()]
    rows = [(s.name, ", ".join(s.measure), len(expand(s)[0]), s.description) for s in suites]
    return tabulate(rows, ["suite", "measures", "cells", "what"], maxcolwidths=[None, None, None, 80])


def _cells(suite: str, k: str | None) -> str:
    cells, refused = expand(load_suite(suite))
    pick: Callable[[str], bool] = (lambda _: True) if k is None else picker(k)
    lines = [c.id for c in cells if pick(c.id)]
    lines += [f"{r.id}  left out: {r.reason}" for r in refused if pick(r.id)]
    if not lines:
        raise BadInputError(f"no cell of suite {suite} matches -k {k!r}: see `vitq list cells {suite}`")
    return escape.lines("\n".join(lines))
