"""Progress on a terminal: one bar for the matrix, one for the running cell's phase; plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as TimeLeft

import vitq.subject
from vitq.benchmarks.run.messages import Order
from vitq.benchmarks.run.runner import Listener
from vitq.escape import line
from vitq.record import Record


def plain_console(quiet: bool = False) -> Console:
    """Standard error, on which text is shown as it is: `[red]` and `:x:` mean nothing here; nothing where `quiet`."""
    return Console(stderr=True, markup=False, emoji=False, highlight=False, quiet=quiet)


@contextmanager
def listener(console: Console) -> Iterator[Listener]:
    """Bars on a terminal, a line a cell elsewhere; on a quiet console, cells that failed alone."""
    if console.quiet:
        yield Failures(plain_console())
        return
    if not console.is_terminal:
        yield Lines(console)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeLeft(), console=console, transient=True) as progress:
        yield Bars(progress)


@contextmanager
def phases(console: Console) -> Iterator[vitq.subject.Progress]:
    """One bar for the phases of a task in this process; silent where there is no terminal."""
    if console.quiet or not console.is_terminal:
        yield vitq.subject.silent
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeLeft())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("")
        yield lambda phase, done, total: progress.update(bar, description=phase, completed=done, total=total or None)


def outcome(order: Order, records: Sequence[Record]) -> str:
    """One line on how a cell ended: its accuracy and size, or what went wrong."""
    bad = next(iter(_wrong(order, records)), None)
    seconds = sum(sum(r.seconds.values()) for r in records)
    formless = sum(r.key in _of_runtimes(order) and r.status == "unsupported" for r in records)
    parts = [_measured(r) for r in records if r.cell == order.cell]
    parts += [f"{formless} runtime{'s' * (formless > 1)} without a form of it"] if formless else []
    said = line(bad.error or "") if bad else ", ".join(filter(None, parts)) or "nothing to do"
    return f"{bad.status if bad else 'done':<11} {line(order.cell.id)}  {said}  ({seconds:.1f} s)"


def _wrong(order: Order, records: Sequence[Record]) -> list[Record]:
    """Records without a result. A runtime that has no form of the model is none of them, as in the cell's row."""
    bad = [record for record in records if record.status != "done"]
    return [record for record in bad if record.status != "unsupported" or record.key not in _of_runtimes(order)]


def _of_runtimes(order: Order) -> set[str]:
    return {key for name, key in order.asked.keys.items() if name.startswith("latency:")}


def _measured(record: Record) -> str:
    if record.kind == "accuracy":
        return ", ".join(f"{name} {m.value:.2f} %" for name, m in list(record.metrics.items())[:1])
    if record.kind == "counts" and record.size is not None:
        return f"{record.size.packed_mb:.3f} MB"
    return ", ".join(f"{row.exec} {row.median_ms:.1f} ms" for row in record.latency)


def _print(console: Console, text: str) -> None:
    console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)


class Lines:
    """A line when a cell ends."""

    def __init__(self, console: Console) -> None:
        self.console, self.count = console, ""

    def matrix(self, done: int, total: int) -> None:
        """Remember how far the matrix is."""
        self.count = f"[{done}/{total}]"

    def phase(self, cell_id: str, phase: str, done: int, total: int) -> None:
        """Say nothing: a log has no use for steps."""

    def ended(self, order: Order, records: Sequence[Record]) -> None:
        """Print how the cell ended."""
        _print(self.console, f"{self.count} {outcome(order, records)}")


class Failures:
    """A line when a cell ends without its result."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def matrix(self, done: int, total: int) -> None:
        """Say nothing."""

    def phase(self, cell_id: str, phase: str, done: int, total: int) -> None:
        """Say nothing."""

    def ended(self, order: Order, records: Sequence[Record]) -> None:
        """Print what went wrong."""
        if any(r.status in ("failed", "oom") for r in records):
            _print(self.console, outcome(order, records))


class Bars:
    """Two bars, with the time left of each."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.cells = progress.add_task("cells", total=None)
        self.step = progress.add_task("", total=None, visible=False)
        self.shown = ""

    def matrix(self, done: int, total: int) -> None:
        """Move the matrix's bar."""
        self.progress.update(self.cells, completed=done, total=total)

    def phase(self, cell_id: str, phase: str, done: int, total: int) -> None:
        """Move the phase's bar; a new phase starts a new bar, so that the time left is its own."""
        label = f"{cell_id} · {phase}"
        if label != self.shown:
            self.progress.remove_task(self.step)
            self.step = self.progress.add_task(label, total=total or None)
            self.shown = label
        self.progress.update(self.step, completed=done, total=total or None)

    def ended(self, order: Order, records: Sequence[Record]) -> None:
        """Print failures above the bars."""
        if _wrong(order, records):
            _print(self.progress.console, outcome(order, records))
