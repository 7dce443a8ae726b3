"""Tables of what vitq knows by name: methods, models, data sets, suites, runtimes."""

from __future__ import annotations

from collections.abc import Iterable

from vitq.benchmarks.plan.cells import expand
from vitq.benchmarks.plan.suite import load_suite, shipped_suites
from vitq.benchmarks.runtimes.registry import RUNTIMES
from vitq.datasets.registry import DATASETS
from vitq.methods.cards import all_cards
from vitq.methods.registry import METHODS
from vitq.metrics import main_metrics
from vitq.reports.layout import render
from vitq.tasks.names import ModelEntry, model_entries

PAGES = {"fp32": "baselines", "minmax": "baselines"}
"""Methods that share a page; every other one's page has its name."""


def methods() -> str:
    """Ours, each with a link to its page."""
    cards = all_cards()
    lines = ["| method | title | regime | fidelity | paper |", "|:--|:--|:--|:--|:--|"]
    for name in METHODS.ours:
        known = cards[name]
        paper = f"[arXiv {known.arxiv}](https://arxiv.org/abs/{known.arxiv})" if known.arxiv else "none"
        link = f"[`{name}`]({PAGES.get(name, name)}.md)"
        lines.append(f"| {link} | {known.title} | {known.regime} | {known.fidelity} | {paper} |")
    return "\n".join(lines)


def models() -> str:
    """Every entry of ours, where its weights come from, and its FP32 accuracy where a source gives one."""
    rows = [
        {
            "model": entry.name,
            "task": entry.task,
            "name in papers": entry.paper_name or "",
            "weights": "ships with vitq" if entry.packaged else "hub or file" if entry.hub else "file",
            "FP32": _expected(entry),
            "source": entry.expected_source,
        }
        for entry in model_entries().values()
    ]
    return render(rows, "markdown")


def _expected(entry: ModelEntry) -> str:
    told = [
        (data, name, known.get(name)) for data, known in entry.expected.items() for name in main_metrics(entry.task)
    ]
    return ", ".join(f"{name} {value:.2f} on {data}" for data, name, value in told if value is not None)


def datasets() -> str:
    """Ours, with their task, classes and size."""
    return render([_dataset(name) for name in DATASETS.ours], "markdown", right=("classes", "images"))


def _dataset(name: str) -> dict[str, str]:
    data = DATASETS.load(name)
    images = "" if data.full_size is None else f"{data.full_size:,}"
    where = "a folder that the site file names" if data.needs_folder else "ships with vitq"
    return {"data set": name, "task": data.task, "classes": str(data.classes), "images": images, "where": where}


def suites() -> str:
    """Those that ship, what they measure, and how many cells they have."""
    known = [load_suite(name) for name in shipped_suites()]
    rows: Iterable[dict[str, str]] = (
        {"suite": s.name, "measures": ", ".join(s.measure), "cells": str(len(expand(s)[0])), "what": s.description}
        for s in known
    )
    return render(list(rows), "markdown", right=("cells",))


def runtimes() -> str:
    """Ours, and whether their output equals torch's bit for bit."""
    known = [RUNTIMES.load(name) for name in RUNTIMES.ours]
    rows = [
        {"runtime": r.name, "its numbers are torch's": "bit for bit" if r.exact else "within rounding"} for r in known
    ]
    return render(rows, "markdown")
