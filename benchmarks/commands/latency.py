"""`vitq latency`: one stored quantized model, timed on every runtime that has a form of it, beside FP32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vitq.benchmarks.commands.results import rows_of
from vitq.benchmarks.plan.limits import within_cores
from vitq.benchmarks.runtimes.registry import RUNTIMES, load
from vitq.errors import BadInputError
from vitq.words import nearest

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
) -> int:
    """`vitq latency`: 0 when the table was printed; BadInputError for a file or cell that is not there."""
    within_cores("--threads", threads)
    chosen = {name: load(name) for name in runtimes or RUNTIMES.names()}
    path = Path(wanted)
    if not path.is_file():
        path = _of_cell(wanted, suite, results, site)
    _print_tables(path, chosen, batches, threads, runs, device)
    return 0


def _of_cell(wanted: str, suite: str, results: Path | None, site: Path | None) -> Path:
    """The stored model of a finished cell."""
    folder, rows = rows_of(suite, results, site)
    row = next((row for row in rows if row.cell.id == wanted), None)
    if row is None:
        raise BadInputError(
            f"{wanted!r} is neither a file nor a cell of {folder}; {nearest(wanted, [r.cell.id for r in rows])}"
        )
    if row.model_file is None or not (folder / row.model_file.path).is_file():
        raise BadInputError(f"{wanted} has no stored model in {folder}: run the suite again to make it")
    return folder / row.model_file.path


def _print_tables(
    path: Path, runtimes: dict[str, Runtime], batches: Sequence[int], threads: int, runs: int, device: str
) -> None:
    import torch

    from vitq.benchmarks.measure import on_runtimes
    from vitq.benchmarks.measure.around import instruction_sets
    from vitq.benchmarks.run.provenance import cpu_name
    from vitq.reports.layout import render
    from vitq.saved import load_quantized
    from vitq.tasks.names import ModelEntry
    from vitq.tasks.registry import load as load_task

    loaded = load_quantized(path, device)
    architecture = loaded.header["architecture"]
    if architecture["task"] != "classification":
        raise BadInputError(f"{path} is of {architecture['task']}: runtimes are measured on classifiers")
    entry = ModelEntry.model_validate(architecture["model"])
    fp32 = load_task(architecture["task"]).build_entry(entry).to(device).eval()
    torch.set_num_threads(threads)
    print(f"{cpu_name()}; {' '.join(instruction_sets()) or 'instruction sets unknown'}; {threads} threads")
    print("FP32 is the same architecture with random weights; its time does not depend on them.")
    for batch in batches:
        example = torch.randn(batch, *entry.preprocessing.size, generator=torch.Generator().manual_seed(0)).to(device)
        found = on_runtimes.forms_of(fp32, loaded.model, loaded.exec, example, runtimes, threads, device)
        timed = on_runtimes.measure(*found, example, threads=threads, runs=runs, warmup=3, device=device)
        right = ("batch", "threads", "median ms", "p90 ms", "x best fp32", "x eager fp32")
        print(f"\n{render(on_runtimes.table_rows(timed), 'plain', right=right)}")
        print(on_runtimes.around_text(timed.around))
