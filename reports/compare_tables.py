"""The table of verdicts: every figure beside what was measured, and why two numbers cannot be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from vitq import escape
from vitq.reports.layout import FOR_MACHINES, Format, render
from vitq.reports.tables import marked, marks_told
from vitq.reports.verdicts import VERDICTS, Comparison


def compare_table(
    comparisons: Sequence[Comparison], fmt: Format = "markdown", everything: bool = False, width: int | None = None
) -> str:
    """One row a comparison, those with a measurement first to last as figures are listed.

    Figures not run and runs without a figure are counted below the table, unless `everything`; CSV and JSON always have
    all.
    """
    if fmt in FOR_MACHINES:
        return render([_compared_flat(c) for c in comparisons], fmt)
    quiet = () if everything else ("not-run", "no-figure")
    shown = [c for c in comparisons if c.verdict not in quiet]
    table = render([_compared_readable(c) for c in shown], fmt, right=("paper", "measured", "diff"), width=width)
    marks = marks_told((record for c in shown for record in c.records), fmt)
    return "\n\n".join(
        part for part in [table, summary(comparisons), *([] if everything else _left(comparisons, fmt)), *marks]
    )


MOST_ROWS = 100
"""Figures that a picture of differences has room for."""


def most_different(comparisons: Sequence[Comparison], most: int = MOST_ROWS) -> tuple[list[Comparison], str]:
    """The comparisons that a picture shows, the farthest off of too many, and words on what is left out."""
    kept = sorted(comparisons, key=lambda c: -abs(c.difference or 0.0))[:most]
    left_out = len(comparisons) - len(kept)
    words = f" The {most} that differ most of {len(comparisons):,}; the table has all." if left_out else ""
    return kept, words


def summary(comparisons: Sequence[Comparison]) -> str:
    """Number of each verdict, in one line."""
    counts = Counter(c.verdict for c in comparisons)
    return "Verdicts: " + ", ".join(f"{counts[v]} {v}" for v in VERDICTS if counts[v]) + "."


def _left(comparisons: Sequence[Comparison], fmt: Format) -> list[str]:
    lines, shown = [], escape.line if fmt == "plain" else escape.markdown
    for verdict, text in (("not-run", "Figures not run"), ("no-figure", "Runs that no figure speaks of")):
        names = Counter(
            c.figure.method if c.figure else c.records[0].cell.method for c in comparisons if c.verdict == verdict
        )
        if names:
            lines.append(
                f"{text}: " + ", ".join(f"{shown(name)} {count}" for name, count in sorted(names.items())) + "."
            )
    return lines


def _compared_readable(c: Comparison) -> dict[str, str]:
    figure, first = c.figure, c.records[0] if c.records else None
    digits = figure.decimals if figure else 2
    error = f" ± {c.stderr:.2f}" if c.stderr is not None else ""
    method = marked(first) if first else ""
    return {
        "verdict": c.verdict + (" (disputed figure)" if figure and figure.disputed and c.verdict != "disputed" else ""),
        "figure": figure.name if figure else "",
        "paper": figure.printed if figure else "",
        "measured": f"{c.measured:.{digits}f}{error}" if c.measured is not None else "",
        "diff": f"{c.difference:+.{digits}f}" if c.difference is not None else "",
        "runs": f"{method} {len(c.records)} seed{'s' if len(c.records) > 1 else ''}" if first else "",
        "reason": c.reason,
        "evidence": f"{figure.evidence}: {figure.source}" if figure else "",
    }


def _compared_flat(c: Comparison) -> dict[str, Any]:
    fields = ("method", "variant", "task", "dataset", "model", "bits", "metric", "value", "fp_value", "table")
    source = ("evidence", "source", "note", "condition", "tolerance", "tolerance_reason", "others", "file")
    return {
        "verdict": c.verdict,
        "reason": c.reason,
        **{name: getattr(c.figure, name) if c.figure else None for name in fields},
        **{"measured": c.measured, "stderr": c.stderr, "difference": c.difference},
        **{"fidelity": c.records[0].fidelity if c.records else None, "seeds": len(c.records)},
        "cells": " ".join(r.cell.id for r in c.records),
        **{name: getattr(c.figure, name) if c.figure else None for name in source},
    }
