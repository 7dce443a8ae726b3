"""`vitq peaks`: what this machine reaches at most, measured here and now."""

from __future__ import annotations

import os
from pathlib import Path

from vitq.benchmarks.commands.printing import Printer
from vitq.benchmarks.plan.devices import check_device
from vitq.benchmarks.plan.limits import cores, within_cores
from vitq.errors import BadInputError


def peaks(threads: int | None, device: str, out: Path | None, printer: Printer) -> int:
    """`vitq peaks`: 0 when they were printed; BadInputError before anything is measured, also for a bad `out`."""
    within_cores("--threads", threads)
    check_device(device)
    if out is not None:
        _check_file(out)
    from vitq.benchmarks.measure.peaks import measure
    from vitq.reports.latency_table import peaks_table

    found = measure(threads or cores(), device)
    if out is not None:
        out.write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
    printer.text(peaks_table(found, printer.fmt))
    return 0


def _check_file(path: Path) -> None:
    """BadInputError where no file can be written at `path`; nothing is made or changed."""
    try:
        folder = path.parent
        if path.exists() and not path.is_file():
            raise BadInputError(f"--out {path} is no regular file: name another one")
        if not folder.is_dir():
            raise BadInputError(f"--out {path}: there is no folder {folder}")
        if not os.access(path if path.exists() else folder, os.W_OK):
            raise BadInputError(f"--out {path} cannot be written")
    except (OSError, ValueError) as error:
        raise BadInputError(f"--out: {getattr(error, 'strerror', None) or error}") from None
