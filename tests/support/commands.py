"""The command line in this process: what a user sees, without the seconds that a new interpreter takes."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import NamedTuple
from unittest import mock

from vitq.benchmarks.cli import main


class Said(NamedTuple):
    """Exit code and what was printed."""

    code: int
    out: str
    err: str

    def refused(self, *says: str) -> str:
        """The one line on standard error; exit code 2, nothing else on standard error, each of `says` in it."""
        lines = self.err.splitlines()
        assert self.code == 2, self
        assert len(lines) == 1, self.err
        assert lines[0].startswith("vitq: "), lines[0]
        assert "Traceback" not in self.err
        for word in says:
            assert word in lines[0], lines[0]
        return lines[0]


@contextmanager
def _arguments(*words: object) -> Iterator[None]:
    with mock.patch.object(sys, "argv", ["vitq", *map(str, words)]):
        yield


def vitq_here(*words: object) -> Said:
    """`vitq WORDS` in this process and its current folder."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with _arguments(*words), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Said(code, out.getvalue(), err.getvalue())
