"""How a command prints: its table in the format asked for, and what it says beside it where it spoils no table."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection
from dataclasses import dataclass

from vitq.reports.layout import FOR_MACHINES, Format, Rows, render


@dataclass(frozen=True)
class Printer:
    """Standard output in one format. A format that machines read has it to itself: the rest goes to standard error."""

    fmt: Format = "plain"

    @property
    def for_machines(self) -> bool:
        """Whether what is printed is to be parsed."""
        return self.fmt in FOR_MACHINES

    @property
    def width(self) -> int | None:
        """Columns of the terminal; None where nobody looks at one."""
        return shutil.get_terminal_size().columns if sys.stdout.isatty() else None

    def table(self, rows: Rows, right: Collection[str] = ()) -> None:
        """Print rows."""
        self.text(render(rows, self.fmt, right, self.width))

    def text(self, text: str) -> None:
        """Print a table that is made already."""
        print(text.rstrip("\n"))

    def note(self, text: str = "") -> None:
        """A line beside the table."""
        print(text, file=sys.stderr if self.for_machines else sys.stdout)
