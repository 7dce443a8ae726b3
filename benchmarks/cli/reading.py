"""Commands that read what was run, or what there is: `list`, `compare`, `report`, `show`, `merge`, `clean`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vitq.benchmarks.cli.options import (
    FormatOption,
    PickOption,
    ResultsOption,
    SiteOption,
    SuiteArgument,
    complete_whats,
    path_option,
    to_path,
)
from vitq.benchmarks.plain import GOOD, plain_errors
from vitq.errors import BadInputError


@plain_errors
def list_things(
    what: Annotated[
        str,
        typer.Argument(
            help="methods, models, datasets, suites, runtimes or cells",
            autocompletion=complete_whats,
            show_default=False,
        ),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SUITE] [GLOB]", help="A pattern, as 'vit_*', or a part of a name; of cells the suite."
        ),
    ] = None,
    k: PickOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Of models those that timm knows, too.")] = False,
    fmt: FormatOption = "plain",
) -> int:
    """List methods, models, data sets, suites, runtimes, or the cells of a suite."""
    from vitq.benchmarks.commands.names import print_names
    from vitq.benchmarks.commands.printing import Printer

    return print_names(what, words or (), k, everything, Printer(fmt))


@plain_errors
def compare_figures(
    suite: SuiteArgument = None,
    results: ResultsOption = None,
    site: SiteOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Show figures that nothing was run for, too.")] = False,
    fmt: FormatOption = "plain",
) -> int:
    """Give a verdict on every figure that the papers report."""
    from vitq.benchmarks.commands.compare import compare
    from vitq.benchmarks.commands.printing import Printer
    from vitq.benchmarks.commands.results import results_of

    return compare(results_of(suite, results, site), everything, Printer(fmt))


@plain_errors
def write_report(
    suite: SuiteArgument = None,
    results: ResultsOption = None,
    site: SiteOption = None,
    out: Annotated[Path | None, path_option("--out", "Folder for the report; default <results>/report.")] = None,
    peaks: Annotated[
        Path | None,
        path_option("--peaks", "What `vitq peaks -o` wrote, for the roofline; default <results>/peaks.json."),
    ] = None,
) -> int:
    """Write report.html, complete in itself; and report.md, CSV tables and pictures."""
    from vitq.benchmarks.commands.compare import report
    from vitq.benchmarks.commands.results import results_of
    from vitq.benchmarks.run.results_path import check_folder

    results_of(suite, results, site)
    if out is not None:
        check_folder(out, "--out")
    return report(suite, results, site, out, peaks)


@plain_errors
def show_record(
    record: Annotated[str, typer.Argument(help="A cell id or part of it, or the start of a key.")],
    suite: SuiteArgument = None,
    results: ResultsOption = None,
    site: SiteOption = None,
    layers: Annotated[bool, typer.Option("--layers", help="Add the per-layer table; as CSV or JSON it alone.")] = False,
    fmt: FormatOption = "plain",
) -> int:
    """Show one record in full."""
    from vitq.benchmarks.commands.printing import Printer
    from vitq.benchmarks.commands.results import results_of
    from vitq.benchmarks.commands.show import show

    if not record.strip():
        raise BadInputError("the record's name is empty: give a cell id or part of it, see `vitq list cells`")
    return show(record, results_of(suite, results, site), layers, Printer(fmt))


@plain_errors
def merge_results(
    folders: Annotated[
        list[Path], typer.Argument(parser=to_path, metavar="FOLDER...", help="Results folders to join.")
    ],
    out: Annotated[Path | None, path_option("--out", "-o", "The folder to write; default the first one.")] = None,
) -> int:
    """Join results folders: records, models, outcomes and artifacts; contradicting records are refused."""
    from vitq.benchmarks.commands.merge import merge

    return merge(folders, out)


@plain_errors
def clean_results(
    suite: SuiteArgument = None,
    results: ResultsOption = None,
    site: SiteOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; delete nothing.")] = False,
) -> int:
    """Delete artifacts, models and outcomes that no current record needs."""
    from vitq.benchmarks.commands.results import results_of
    from vitq.benchmarks.run.clean import clean

    typer.echo(clean(results_of(suite, results, site), dry_run))
    return GOOD
