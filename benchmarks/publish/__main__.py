"""Run the suites whose results are published, and write their records, what they say, and the pictures of README.

    python -m vitq.benchmarks.publish                          # every suite of PUBLISHED, into reports/results
    python -m vitq.benchmarks.publish smoke proxy --jobs auto --site vitq.toml --results results

What is finished is not run again, so that it may be stopped and goes on; code, data or versions that changed make a
cell run again. Run it where no other work is: times are only worth keeping from a quiet machine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from vitq.benchmarks.constraints import constraints
from vitq.benchmarks.plan.suite import Suite, load_suite
from vitq.benchmarks.publish.pictures import draw
from vitq.benchmarks.publish.records import publish
from vitq.benchmarks.publish.said import overview, said
from vitq.benchmarks.run.store import read_rows
from vitq.errors import BadInputError
from vitq.rows import Row

PUBLISHED = ("smoke", "digits-seeds", "accounting", "proxy", "latency")
FAILED = 3
"""Exit code of `vitq run` where a cell failed: its record says why, and is published as it is."""


def main(words: Sequence[str] | None = None) -> int:
    """The command: 0, or 2 with one line where a suite cannot run or something cannot be read or written."""
    asked = _parser().parse_args(words)
    try:
        suites = {name: load_suite(name) for name in asked.suites}
        for name, suite in suites.items():
            folder = asked.results / suite.name
            if not asked.finished:
                _run(name, folder, asked.site, asked.jobs)
            publish(suite, folder, asked.out / suite.name)
        write_pages(asked.out, {suite.name: suite for suite in suites.values()})
    except (BadInputError, OSError) as error:
        print(f"publish: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="publish", description="Publish the results of suites.")
    parser.add_argument("suites", nargs="*", default=list(PUBLISHED), metavar="suite")
    parser.add_argument("--results", type=Path, default=Path("results"), help="a folder a suite lies or is run in")
    parser.add_argument("--out", type=Path, default=Path("reports/results"), help="where a folder a suite is written")
    parser.add_argument("--site", type=Path, help="site file, as of `vitq run`")
    parser.add_argument("--jobs", default="auto", help="as of `vitq run`")
    parser.add_argument("--finished", action="store_true", help="publish what is there, run nothing")
    return parser


def _run(suite: str, folder: Path, site: Path | None, jobs: str) -> None:
    """Run a suite to its end, as a user does; BadInputError where it cannot be. Paths stay as they were given."""
    words = ["run", suite, "--jobs", jobs, "--results", str(folder), *(["--site", str(site)] if site else [])]
    vitq = str(Path(sys.executable).with_name("vitq"))
    code = subprocess.run([vitq, *words], check=False).returncode
    if code not in (0, FAILED):
        raise BadInputError(f"suite {suite} did not run to its end (exit code {code}): see above")


def write_pages(out: Path, known: Mapping[str, Suite]) -> None:
    """A README of every published suite and of all, the pictures, and the versions behind them.

    `known` are suites that do not ship. Raises BadInputError where records cannot be read, or are of other versions
    than are installed.
    """
    found: dict[str, list[Row]] = {path.parent.name: read_rows(path.parent) for path in out.glob("*/records.jsonl")}
    ordered = {name: found[name] for name in (*PUBLISHED, *sorted(found)) if name in found}
    for name, rows in ordered.items():
        (out / name / "README.md").write_text(said(known.get(name) or load_suite(name), rows), encoding="utf-8")
    (out / "README.md").write_text(overview(ordered, draw(ordered, out)), encoding="utf-8")
    (out / "constraints.txt").write_text(constraints([out / name for name in ordered]), encoding="utf-8")
    print(f"{out}: {len(ordered)} suites, {sum(map(len, ordered.values()))} cells")


if __name__ == "__main__":
    sys.exit(main())
