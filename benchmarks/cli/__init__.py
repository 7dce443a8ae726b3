"""The command line: which words each command takes; what it does with them is in `vitq.benchmarks.commands`."""

from __future__ import annotations

from vitq.benchmarks.cli.program import app, main

__all__ = ["app", "main"]
