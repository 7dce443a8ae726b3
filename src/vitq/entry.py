"""Entry point of the `vitq` command: answers Ctrl-C from its first moment, then brings the command line."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

STOPPED = 130
STOPPED_LINE = "vitq: stopped; finished records are kept, run again to go on"


def answer_ctrl_c(_: int, frame: FrameType | None) -> None:
    """KeyboardInterrupt; while something is imported, where others would turn it into their own errors, the end.

    Nothing is lost then: records are on the disk when a cell ends, and workers end with their driver.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os.write(2, f"{STOPPED_LINE}\n".encode())
            os._exit(STOPPED)
        frame = frame.f_back
    raise KeyboardInterrupt


def main() -> None:
    """Run the command line and exit with its code."""
    before = signal.signal(signal.SIGINT, answer_ctrl_c)
    try:
        from vitq.benchmarks.cli import main as run

        run()
    except KeyboardInterrupt:
        print(STOPPED_LINE, file=sys.stderr)
        sys.exit(STOPPED)
    finally:
        signal.signal(signal.SIGINT, before)
