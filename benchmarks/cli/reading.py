"""Commands that read what was run, or what there is: `list`, `compare`, `report`, `show`, `clean`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vitq.benchmarks.cli.options import PickOption, ResultsOption, SiteOption, SuiteArgument, path_option
from vitq.benchmarks.plain import GOOD, plain_errors
from vitq.errors import BadInputError


@plain_errors
def list_things(
    what: Annotated[str, typer.Argument(help="methods, models, datasets, suites or cells")],
    suite: SuiteArgument = "smoke",
    k: PickOption = None,
) -> int:
    """List methods, models, data sets, suites, or the cells of a suite."""
    from vitq.benchmarks.commands.names import names

    typer.echo(names(what, suite, k))
    return GOOD


@plain_errors
def compare_figures(
    suite: SuiteArgument = "smoke",
    results: ResultsOption = None,
    site: SiteOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Show figures that nothing was run for, too.")] = False,
) -> int:
    """Give a verdict on every figure that the papers report."""
    from vitq.benchmarks.commands.compare import compare

    return compare(suite, results, site, everything)


@plain_errors
def write_report(
    suite: SuiteArgument = "smoke",
    results: ResultsOption = None,
    site: SiteOption = None,
    out: Annotated[Path | None, path_option("--out", "Folder for the report; default <results>/report.")] = None,
    peaks: Annotated[
        Path | None,
        path_option("--peaks", "What `vitq peaks -o` wrote, for the roofline; default <results>/peaks.json."),
    ] = None,
) -> int:
    """Write report.md, CSV tables and pictures."""
    from vitq.benchmarks.commands.compare import report
    from vitq.benchmarks.plan.suite import load_suite
    from vitq.benchmarks.run.results_path import check_folder

    load_suite(suite)
    if out is not None:
        check_folder(out, "--out")
    return report(suite, results, site, out, peaks)


@plain_errors
def show_record(
    record: Annotated[str, typer.Argument(help="A cell id or part of it, or the start of a key.")],
    suite: SuiteArgument = "smoke",
    results: ResultsOption = None,
    site: SiteOption = None,
    layers: Annotated[bool, typer.Option("--layers", help="Add the per-layer table.")] = False,
) -> int:
    """Show one record in full."""
    from vitq.benchmarks.commands.show import show

    if not record.strip():
        raise BadInputError("the record's name is empty: give a cell id or part of it, see `vitq list cells`")
    return show(record, suite, results, site, layers)


@plain_errors
def clean_results(
    suite: SuiteArgument = "smoke",
    results: ResultsOption = None,
    site: SiteOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; delete nothing.")] = False,
) -> int:
    """Delete artifacts, models and outcomes that no current record needs."""
    from vitq.benchmarks.commands.results import folder_of
    from vitq.benchmarks.run.clean import clean

    typer.echo(clean(folder_of(suite, results, site), dry_run))
    return GOOD
