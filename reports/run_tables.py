"""Tables of runs that belong together: over seeds, and variants of a method side by side."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Iterable

from vitq.metrics import main_metrics
from vitq.reports.layout import FOR_MACHINES, Format, render
from vitq.reports.measured import over_seeds
from vitq.reports.tables import foreign, marked, marked_id, with_error
from vitq.reports.verdicts import group_seeds
from vitq.rows import Row

SEEDS_RIGHT = ("seeds", "mean ± se", "std", "lowest", "highest")


def seeds_table(records: Iterable[Row], fmt: Format = "markdown") -> str:
    """Reproducibility: mean, standard deviation and standard error over seeds of every run with at least two."""
    return render(seeds_rows(records), fmt, right=SEEDS_RIGHT)


def seeds_rows(records: Iterable[Row]) -> list[dict[str, str]]:
    """The rows of `seeds_table`."""
    return [
        {
            "run": marked_id(run[0]).rpartition("/")[0],
            "data": run[0].cell.dataset + foreign(run[0], "data set"),
            "metric": name,
            "seeds": str(len(values)),
            "mean ± se": f"{over_seeds(values).value:.2f} ± {over_seeds(values).stderr:.2f}",
            "std": f"{statistics.stdev(values):.2f}",
            "lowest": f"{min(values):.2f}",
            "highest": f"{max(values):.2f}",
        }
        for run in group_seeds(records)
        for name in main_metrics(run[0].cell.task)
        if run[0].status == "done" and len(values := [r.metrics[name].value for r in run if name in r.metrics]) > 1
    ]


def ablation_table(records: Iterable[Row], fmt: Format = "markdown") -> str:
    """Variants side by side: one row a variant, one column a bit width, for methods with several variants.

    A table a method, but a single one as CSV.
    """
    rows = variant_rows(records)
    widths = [key for key in (rows[0] if rows else ()) if key not in _VARIANT_KEYS]
    if fmt in FOR_MACHINES or not rows:
        return render(rows, fmt)
    methods = dict.fromkeys(row["method"] for row in rows)
    return "\n\n".join(render([r for r in rows if r["method"] == m], fmt, right=widths) for m in methods)


_VARIANT_KEYS = ("method", "data", "model", "variant")


def _by_width(bits: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"\d+", bits))


def variant_rows(records: Iterable[Row]) -> list[dict[str, str]]:
    """A row a variant of the methods that have several; every row has all widths as columns, empty where not run."""
    rows = _variants(records)
    widths = sorted({key for row in rows for key in row if key not in _VARIANT_KEYS}, key=_by_width)
    return [{key: row.get(key, "") for key in (*_VARIANT_KEYS, *widths)} for row in rows]


def _variants(records: Iterable[Row]) -> list[dict[str, str]]:
    groups: dict[tuple[str, ...], dict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    for run in group_seeds(records):
        cell = run[0].cell
        name = next(iter(main_metrics(cell.task)), "top1")
        metrics = [r.metrics[name] for r in run if name in r.metrics]
        if run[0].status == "done" and metrics:
            data = cell.dataset + foreign(run[0], "data set") + (f" (limit {cell.limit})" if cell.limit else "")
            mean = over_seeds([m.value for m in metrics])
            seeds = f"{mean.value:.2f} ± {mean.stderr or 0:.2f} ({len(metrics)} seeds)"
            text = with_error(metrics[0]) if len(metrics) == 1 else seeds
            model = cell.model + foreign(run[0], "model")
            groups[marked(run[0]), data, model][cell.variant or "default"][cell.bits] = text
    return [
        dict(zip(_VARIANT_KEYS, (*key, variant), strict=True)) | variants[variant]
        for key, variants in sorted(groups.items())
        if len(variants) > 1
        for variant in sorted(variants, key=lambda v: (v != "default", v))
    ]
