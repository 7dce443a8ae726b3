"""Where a suite's results lie, and a row for every cell in them: what every command reads that runs nothing."""

from __future__ import annotations

from pathlib import Path

from vitq.benchmarks.plan.site import Site, load_site
from vitq.benchmarks.plan.suite import Suite, load_suite
from vitq.benchmarks.run.store import read_rows
from vitq.rows import Row


def results_folder(suite: Suite, site: Site, given: Path | None) -> Path:
    """`--results`, or a folder named after the suite in the site's results."""
    return given or site.results / suite.name


def folder_of(suite_name: str, results: Path | None, site: Path | None) -> Path:
    """The results folder of a suite by name, `--results` and `--site`; BadInputError for an unknown or broken suite."""
    here = load_site(site)  # before the suite, which may name its models
    suite = load_suite(suite_name)
    return results or results_folder(suite, here, None)


def rows_of(suite_name: str, results: Path | None, site: Path | None) -> tuple[Path, list[Row]]:
    """That folder and its rows; BadInputError where there are none or they cannot be read."""
    folder = folder_of(suite_name, results, site)
    return folder, read_rows(folder)
