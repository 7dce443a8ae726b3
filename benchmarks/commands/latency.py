"""`vitq latency`: one stored quantized model, timed on every runtime that has a form of it, beside FP32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vitq.benchmarks.commands.printing import Printer
from vitq.benchmarks.commands.stored_model import stored_model
from vitq.benchmarks.plan.limits import within_cores
from vitq.benchmarks.runtimes.registry import RUNTIMES, load

if TYPE_CHECKING:
    from vitq.benchmarks.measure.on_runtimes import Timed
    from vitq.benchmarks.runtimes.base import Runtime

RIGHT = ("batch", "threads", "median ms", "p90 ms", "x best fp32", "x eager fp32")


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
    printer: Printer,
) -> int:
    """`vitq latency`: 0 when the table was printed; BadInputError for a file or cell that is not there."""
    within_cores("--threads", threads)
    chosen = {name: load(name) for name in runtimes or RUNTIMES.names()}
    _print_tables(stored_model(wanted, suite, results, site), chosen, batches, threads, runs, device, printer)
    return 0


def _print_tables(
    path: Path,
    runtimes: dict[str, Runtime],
    batches: Sequence[int],
    threads: int,
    runs: int,
    device: str,
    printer: Printer,
) -> None:
    """A table a batch as it is measured; one of all batches where a program reads it."""
    import torch

    from vitq.benchmarks.measure.around import instruction_sets
    from vitq.benchmarks.measure.on_runtimes import stored
    from vitq.benchmarks.run.provenance import cpu_name

    pair = stored(path, device)
    torch.set_num_threads(threads)
    printer.note(f"{cpu_name()}; {' '.join(instruction_sets()) or 'instruction sets unknown'}; {threads} threads")
    printer.note("FP32 is the same architecture with random weights; its time does not depend on them.")
    every: list[dict[str, str]] = []
    for batch in batches:
        for title, timed in pair.timed(runtimes, batch, threads=threads, runs=runs):
            every += _print_table(printer, title, timed, {"batch": str(batch), "threads": str(threads)})
    if printer.for_machines:
        printer.table(every)


def _print_table(printer: Printer, title: str, timed: Timed, about: dict[str, str]) -> list[dict[str, str]]:
    """Print one table where a person reads it; its rows, which say what they are of."""
    from vitq.benchmarks.measure import on_runtimes

    rows = on_runtimes.table_rows(timed)
    if not printer.for_machines:
        printer.note(f"\n{title}" if title else "")
        printer.table(rows, RIGHT)
    printer.note(on_runtimes.around_text(timed.around))
    return [about | ({"part": title} if title else {}) | row for row in rows]
