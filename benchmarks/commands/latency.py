"""`vitq latency`: one stored quantized model, timed on every runtime that has a form of it, beside FP32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vitq.benchmarks.commands.printing import Printer
from vitq.benchmarks.commands.stored_model import stored_model
from vitq.benchmarks.plan.limits import within_cores
from vitq.benchmarks.runtimes.registry import RUNTIMES, load

RIGHT = ("batch", "threads", "median ms", "p90 ms", "x best fp32", "x eager fp32")
if TYPE_CHECKING:
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
    from vitq.benchmarks.measure.on_runtimes import around_text, stored, table_rows
    from vitq.benchmarks.run.provenance import cpu_name

    pair = stored(path, device)
    torch.set_num_threads(threads)
    printer.note(f"{cpu_name()}; {' '.join(instruction_sets()) or 'instruction sets unknown'}; {threads} threads")
    printer.note("FP32 is the same architecture with random weights; its time does not depend on them.")
    every: list[dict[str, str]] = []
    for batch in batches:
        for title, timed in pair.timed(runtimes, batch, threads=threads, runs=runs):
            rows = table_rows(timed)
            every += [{"what": title or "model", "batch": str(batch), "threads": str(threads), **row} for row in rows]
            _print_table(title, rows, printer)
            printer.note(around_text(timed.around))
    if printer.for_machines:
        printer.table(every)


def _print_table(title: str, rows: Sequence[dict[str, str]], printer: Printer) -> None:
    if not printer.for_machines:
        printer.note(f"\n{title}" if title else "")
        printer.table(rows, RIGHT)
