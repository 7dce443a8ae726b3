"""Where a suite's results lie, and a row for every cell in them: what every command reads that runs nothing."""

from __future__ import annotations

from pathlib import Path

from vitq.benchmarks.plan.own_suite import OWN
from vitq.benchmarks.plan.site import Site, load_site
from vitq.benchmarks.plan.suite import Suite, load_suite
from vitq.benchmarks.run.store import read_rows
from vitq.errors import BadInputError
from vitq.rows import Row

READ_UNASKED = "smoke"
RECORDS = "records.jsonl"


def results_folder(suite: Suite, site: Site, given: Path | None) -> Path:
    """`--results`, or a folder named after the suite in the site's results."""
    return given or site.results / suite.name


def folder_of(suite_name: str, results: Path | None, site: Path | None) -> Path:
    """The results folder of a suite by name, `--results` and `--site`; BadInputError for an unknown or broken suite."""
    here = load_site(site)  # before the suite, which may name its models
    name = title_of(suite_name)
    return results or here.results / name


def title_of(suite_name: str | None) -> str:
    """What a suite calls itself; BadInputError for an unknown or broken one."""
    return OWN if suite_name == OWN else load_suite(suite_name or READ_UNASKED).name


def results_of(suite_name: str | None, results: Path | None, site: Path | None) -> Path:
    """The same for a command that only reads; where no suite is named, smoke's if it was run.

    BadInputError where it was not: nobody asked for its results.
    """
    if suite_name is not None or results is not None:
        return folder_of(suite_name or READ_UNASKED, results, site)
    folder = folder_of(READ_UNASKED, None, site)
    if not (folder / RECORDS).exists():
        raise BadInputError(
            f"name a suite that was run, as `vitq compare proxy`, or its folder by --results: {READ_UNASKED} is taken "
            f"where none is named, but it was not run (no {folder / RECORDS})"
        )
    return folder


def rows_of(suite_name: str, results: Path | None, site: Path | None) -> tuple[Path, list[Row]]:
    """That folder and its rows; BadInputError where there are none or they cannot be read."""
    folder = folder_of(suite_name, results, site)
    return folder, read_rows(folder)
