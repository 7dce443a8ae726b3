"""`vitq latency`: one stored quantized model, timed on every runtime that has a form of it, beside FP32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vitq.benchmarks.commands.stored_model import stored_model
from vitq.benchmarks.plan.limits import within_cores
from vitq.benchmarks.runtimes.registry import RUNTIMES, load

if TYPE_CHECKING:
    from vitq.benchmarks.measure.on_runtimes import Timed
    from vitq.benchmarks.runtimes.base import Runtime


def latency(
    wanted: str,
    suite: str,
    *,
    runtimes: Sequence[str],
    batches: Sequence[int],
    threads: int,
    runs: int,
    device: str = "cpu",
    results: Path | None,
    site: Path | None,
) -> int:
    """`vitq latency`: 0 when the table was printed; BadInputError for a file or cell that is not there."""
    within_cores("--threads", threads)
    chosen = {name: load(name) for name in runtimes or RUNTIMES.names()}
    _print_tables(stored_model(wanted, suite, results, site), chosen, batches, threads, runs, device)
    return 0


def _print_tables(
    path: Path, runtimes: dict[str, Runtime], batches: Sequence[int], threads: int, runs: int, device: str
) -> None:
    import torch

    from vitq.benchmarks.measure.around import instruction_sets
    from vitq.benchmarks.measure.on_runtimes import stored
    from vitq.benchmarks.run.provenance import cpu_name

    pair = stored(path, device)
    torch.set_num_threads(threads)
    print(f"{cpu_name()}; {' '.join(instruction_sets()) or 'instruction sets unknown'}; {threads} threads")
    print("FP32 is the same architecture with random weights; its time does not depend on them.")
    for batch in batches:
        for title, timed in pair.timed(runtimes, batch, threads=threads, runs=runs):
            _print_table(title, timed)


def _print_table(title: str, timed: Timed) -> None:
    from vitq.benchmarks.measure import on_runtimes
    from vitq.reports.layout import render

    right = ("batch", "threads", "median ms", "p90 ms", "x best fp32", "x eager fp32")
    print(f"\n{title}" if title else "")
    print(render(on_runtimes.table_rows(timed), "plain", right=right))
    print(on_runtimes.around_text(timed.around))
