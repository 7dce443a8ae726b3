"""`vitq merge`: join results folders, of several machines or of several runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vitq.benchmarks.plain import BAD_INPUT, say
from vitq.benchmarks.run.merging import ContradictionError
from vitq.benchmarks.run.merging import merge as merge_folders
from vitq.benchmarks.run.results_path import check_results
from vitq.errors import BadInputError


def merge(folders: Sequence[Path], out: Path | None) -> int:
    """`vitq merge`: 0, with a line on what was joined; 2 where folders contradict one another, a line for each."""
    if len(folders) < 2 and out is None:
        raise BadInputError("there is nothing to merge: name two results folders, or one and --out")
    for folder in folders:
        if not folder.is_dir():
            raise BadInputError(f"{folder} is no folder: name results folders, as `vitq run` writes them")
    into = out or folders[0]
    if out is not None:
        check_results(out)
    try:
        done = merge_folders(folders, into)
    except ContradictionError as error:
        for line in error.lines:
            say(line)
        return BAD_INPUT
    line = f"{done.lines} lines, {done.new} of them new, and {done.files} new files in {into}"
    print(line + (f"; {done.kept} artifacts differ, and the first stays" if done.kept else ""))
    return 0
