"""The command line. Everything heavy is imported inside the command that needs it, so that `--help` is instant."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from vitq.benchmarks.plain import BAD_INPUT, command_line, plain_errors, run_plainly
from vitq.benchmarks.plan.limits import MAX_IMAGES, within_cores
from vitq.errors import BadInputError

GOOD, REGRESSION, SOME_FAILED, NOTHING_COMPARED = 0, 1, 3, 4

__all__ = ["BAD_INPUT", "GOOD", "NOTHING_COMPARED", "REGRESSION", "SOME_FAILED", "app", "main"]

app = typer.Typer(
    name="vitq",
    help="Reproducibility benchmark suite for quantized vision transformers.\n\n"
    "Exit codes: 0 good, 1 regression, 2 usage or bad input, 3 some cells failed, 4 nothing was compared.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _place(word: str) -> Path:
    """A path as given, `~` expanded; a usage error for one that names nothing."""
    if not word.strip():
        raise typer.BadParameter("it is empty: name a folder or a file, or leave it out")
    if "\0" in word:
        raise typer.BadParameter("it holds a NUL")
    try:
        return Path(word).expanduser()
    except RuntimeError as error:
        raise typer.BadParameter(f"{word}: {error}") from None


SuiteArgument = Annotated[str, typer.Argument(help="A suite that ships (vitq list suites) or a .yaml file.")]
SiteOption = Annotated[
    Path | None,
    typer.Option("--site", parser=_place, metavar="PATH", help="Site file; default $VITQ_SITE, then ./vitq.toml."),
]
ResultsOption = Annotated[
    Path | None,
    typer.Option(
        "--results", "-o", parser=_place, metavar="PATH", help="Results folder; default a folder of the suite's name."
    ),
]
PickOption = Annotated[str | None, typer.Option("-k", help="Only cells whose id matches: 'repq and not swin'.")]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1 ...")]


def _must_exist(suite: str) -> None:
    """BadInputError for an unknown or broken suite, also where a results folder is given and its name is not needed."""
    from vitq.benchmarks.plan.suite import load_suite

    load_suite(suite)


@app.command("list")
@plain_errors
def list_things(
    what: Annotated[str, typer.Argument(help="methods, models, datasets, suites or cells")],
    suite: SuiteArgument = "smoke",
    k: PickOption = None,
) -> int:
    """List methods, models, data sets, suites, or the cells of a suite."""
    from vitq.benchmarks.commands import listing

    typer.echo(listing.listing(what, suite, k))
    return GOOD


@app.command()
@plain_errors
def verify(
    suite: SuiteArgument = "smoke",
    site: SiteOption = None,
    sample: Annotated[
        int, typer.Option(help="Images to read and to score of a large data set.", min=1, max=MAX_IMAGES)
    ] = 256,
) -> int:
    """Check data and weights before hours are spent: counts, classes, images, shapes, sha256, FP32 accuracy."""
    from vitq.benchmarks.commands import session

    return session.verify(suite, site, sample)


@app.command()
@plain_errors
def run(
    suite: SuiteArgument = "smoke",
    k: PickOption = None,
    limit: Annotated[
        int | None, typer.Option(help="Evaluate a seeded, class-stratified subset.", min=1, max=MAX_IMAGES)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the cells; run nothing.")] = False,
    verbose: Annotated[bool, typer.Option("-v", help="With --dry-run: which part of the identity changed.")] = False,
    device: DeviceOption = "cpu",
    executor: Annotated[str, typer.Option("--executor", help="Where cells run: local.")] = "local",
    jobs: Annotated[
        int, typer.Option(help="Cells at once, at most one a core; latency is measured alone, after them.")
    ] = 1,
    results: ResultsOption = None,
    site: SiteOption = None,
) -> int:
    """Run a suite and print its table; running it again does only what has no finished record."""
    from vitq.benchmarks.commands import session
    from vitq.benchmarks.plan.devices import check_device
    from vitq.benchmarks.plan.picking import picker

    within_cores("--jobs", jobs)
    check_device(device)
    if k is not None:
        picker(k)
    return session.run(
        suite, k=k, limit=limit, dry_run=dry_run, verbose=verbose, device=device, executor=executor, jobs=jobs,
        results=results, site=site, command=command_line(),
    )  # fmt: skip


@app.command()
@plain_errors
def compare(
    suite: SuiteArgument = "smoke",
    results: ResultsOption = None,
    site: SiteOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Show figures that nothing was run for, too.")] = False,
) -> int:
    """Give a verdict on every figure that the papers report."""
    from vitq.benchmarks.commands import session

    _must_exist(suite)
    return session.compare(suite, results, site, everything)


@app.command()
@plain_errors
def report(
    suite: SuiteArgument = "smoke",
    results: ResultsOption = None,
    site: SiteOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", parser=_place, metavar="PATH", help="Folder for the report; default <results>/report."),
    ] = None,
) -> int:
    """Write report.md, CSV tables and pictures."""
    from vitq.benchmarks.commands import session
    from vitq.benchmarks.run.results_path import check_folder

    _must_exist(suite)
    if out is not None:
        check_folder(out, "--out")
    return session.report(suite, results, site, out)


@app.command()
@plain_errors
def gate(
    baseline: Annotated[
        Path,
        typer.Option(
            "--baseline", parser=_place, metavar="PATH", help="records.jsonl, or its folder, of an earlier run."
        ),
    ],
    suite: SuiteArgument = "smoke",
    k: PickOption = None,
    results: ResultsOption = None,
    site: SiteOption = None,
    tolerance: Annotated[
        float, typer.Option(help="Accuracy difference allowed, in points, both ways.", min=0, max=100)
    ] = 0.0,
    stderrs: Annotated[float, typer.Option(help="Standard errors allowed on another machine.", min=0, max=100)] = 3.0,
    slowdown: Annotated[float, typer.Option(help="Growth of a kernel's ratio to FP32 allowed.", min=1, max=1000)] = 1.1,
    cost: Annotated[bool, typer.Option("--cost", help="Gate what a fake-quant evaluation costs, too.")] = False,
    at_least: Annotated[str | None, typer.Option("--at-least", help="Cells that must be compared: N or all.")] = None,
    junit: Annotated[
        Path | None, typer.Option("--junit", parser=_place, metavar="PATH", help="Write JUnit XML to this file.")
    ] = None,
    summary: Annotated[
        Path | None,
        typer.Option(
            "--summary",
            parser=_place,
            metavar="PATH",
            help="Write Markdown here; default $GITHUB_STEP_SUMMARY.",
        ),
    ] = None,
) -> int:
    """Compare with an earlier run: accuracy both ways, size and operations exactly, kernels by their ratio to FP32."""
    from vitq.benchmarks.gate.command import run_gate
    from vitq.benchmarks.gate.policy import Policy, cells_asked

    if any(value != value for value in (tolerance, stderrs, slowdown)):
        raise BadInputError("--tolerance, --stderrs and --slowdown must be numbers, and nan is none")
    _must_exist(suite)
    policy = Policy(tolerance, stderrs, slowdown=slowdown, cost=cost, at_least=cells_asked(at_least))
    return run_gate(
        suite, baseline, results=results, site=site, policy=policy, k=k, junit_file=junit, summary_file=summary
    )


@app.command()
@plain_errors
def show(
    record: Annotated[str, typer.Argument(help="A cell id or part of it, or the start of a key.")],
    suite: SuiteArgument = "smoke",
    results: ResultsOption = None,
    site: SiteOption = None,
    layers: Annotated[bool, typer.Option("--layers", help="Add the per-layer table.")] = False,
) -> int:
    """Show one record in full."""
    from vitq.benchmarks.commands import session

    if not record.strip():
        raise BadInputError("the record's name is empty: give a cell id or part of it, see `vitq list cells`")
    _must_exist(suite)
    return session.show(record, suite, results, site, layers)


@app.command()
@plain_errors
def clean(
    suite: SuiteArgument = "smoke",
    results: ResultsOption = None,
    site: SiteOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; delete nothing.")] = False,
) -> int:
    """Delete artifacts, models and outcomes that no current record needs."""
    from vitq.benchmarks.commands import session

    return session.clean(suite, results, site, dry_run)


def main() -> None:
    """Entry point of the `vitq` command."""
    sys.exit(run_plainly(app))
