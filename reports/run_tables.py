"""Tables of runs that belong together: over seeds, and variants of a method side by side."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Iterable

from vitq.metrics import main_metrics
from vitq.reports.layout import FOR_MACHINES, Format, render
from vitq.reports.measured import over_seeds
from vitq.reports.tables import marked, with_error
from vitq.reports.verdicts import group_seeds
from vitq.rows import Row


def seeds_table(records: Iterable[Row], fmt: Format = "markdown") -> str:
    """Reproducibility: mean, standard deviation and standard error over seeds of every run with at least two."""
    rows = []
    for run in group_seeds(records):
        for name in main_metrics(run[0].cell.task):
            values = [r.metrics[name].value for r in run if name in r.metrics]
            if run[0].status == "done" and len(values) > 1:
                mean = over_seeds(values)
                rows.append(
                    {
                        "run": run[0].cell.id.rpartition("/")[0].replace(run[0].cell.method, marked(run[0]), 1),
                        "data": run[0].cell.dataset,
                        "metric": name,
                        "seeds": str(len(values)),
                        "mean ± se": f"{mean.value:.2f} ± {mean.stderr:.2f}",
                        "std": f"{statistics.stdev(values):.2f}",
                        "lowest": f"{min(values):.2f}",
                        "highest": f"{max(values):.2f}",
                    }
                )
    return render(rows, fmt, right=("seeds", "mean ± se", "std", "lowest", "highest"))


def ablation_table(records: Iterable[Row], fmt: Format = "markdown") -> str:
    """Variants side by side: one row a variant, one column a bit width, for methods with several variants.

    A table a method, but a single one as CSV.
    """
    rows = _variant_rows(records)
    widths = sorted({key for row in rows for key in row if key not in _VARIANT_KEYS}, key=_by_width)
    rows = [{key: row.get(key, "") for key in (*_VARIANT_KEYS, *widths)} for row in rows]
    if fmt in FOR_MACHINES or not rows:
        return render(rows, fmt)
    methods = dict.fromkeys(row["method"] for row in rows)
    return "\n\n".join(render([r for r in rows if r["method"] == m], fmt, right=widths) for m in methods)


_VARIANT_KEYS = ("method", "data", "model", "variant")


def _by_width(bits: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"\d+", bits))


def _variant_rows(records: Iterable[Row]) -> list[dict[str, str]]:
    groups: dict[tuple[str, ...], dict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    for run in group_seeds(records):
        cell = run[0].cell
        name = next(iter(main_metrics(cell.task)), "top1")
        metrics = [r.metrics[name] for r in run if name in r.metrics]
        if run[0].status == "done" and metrics:
            data = cell.dataset + (f" (limit {cell.limit})" if cell.limit else "")
            mean = over_seeds([m.value for m in metrics])
            seeds = f"{mean.value:.2f} ± {mean.stderr or 0:.2f} ({len(metrics)} seeds)"
            text = with_error(metrics[0]) if len(metrics) == 1 else seeds
            groups[marked(run[0]), data, cell.model][cell.variant or "default"][cell.bits] = text
    return [
        dict(zip(_VARIANT_KEYS, (*key, variant), strict=True)) | variants[variant]
        for key, variants in sorted(groups.items())
        if len(variants) > 1
        for variant in sorted(variants, key=lambda v: (v != "default", v))
    ]
