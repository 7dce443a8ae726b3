"""`vitq list`: methods, models, suites and cells by name; needs no torch."""

from __future__ import annotations

from collections.abc import Callable

from tabulate import tabulate

from vitq import escape
from vitq.benchmarks.plan.cells import expand
from vitq.benchmarks.plan.picking import picker
from vitq.benchmarks.plan.suite import load_suite, shipped_suites
from vitq.errors import BadInputError
from vitq.methods.cards import all_cards
from vitq.tasks.names import model_entries
from vitq.words import nearest


def names(what: str, suite: str, k: str | None) -> str:
    """A table of methods, models, suites or cells; BadInputError for anything else."""
    tables: dict[str, Callable[[], str]] = {
        "methods": _methods,
        "models": _models,
        "suites": _suites,
        "cells": lambda: _cells(suite, k),
    }
    if what not in tables:
        raise BadInputError(f"cannot list {what!r}; {nearest(what, tables)}")
    return tables[what]()


def _methods() -> str:
    rows = [
        (c.name, c.title, c.regime, c.fidelity, f"arXiv {c.arxiv}" if c.arxiv else "", c.summary)
        for c in all_cards().values()
    ]
    return tabulate(rows, ["method", "title", "regime", "fidelity", "paper", "what"], maxcolwidths=[None] * 5 + [60])


def _models() -> str:
    rows = []
    for entry in model_entries().values():
        expected = ", ".join(f"{v:.2f} on {d}" for d, m in entry.expected.items() for v in [m.get("top1")] if v)
        weights = "ships with vitq" if entry.packaged else "hub or file" if entry.hub else "file"
        rows.append((entry.name, entry.task, entry.paper_name or "", weights, expected))
    return tabulate(rows, ["model", "task", "name in papers", "weights", "FP32 top1"])


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
