"""The command line. Everything heavy is imported inside the command that needs it, so that `--help` is instant."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from vitq.errors import BadInputError

GOOD, REGRESSION, BAD_INPUT, SOME_FAILED, NOTHING_COMPARED = 0, 1, 2, 3, 4

app = typer.Typer(
    name="vitq",
    help="Reproducibility benchmark suite for quantized vision transformers.\n\n"
    "Exit codes: 0 good, 1 regression, 2 usage or bad input, 3 some cells failed, 4 nothing was compared.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

SuiteArgument = Annotated[str, typer.Argument(help="A suite that ships (vitq list suites) or a .yaml file.")]
SiteOption = Annotated[Path | None, typer.Option("--site", help="Site file; default $VITQ_SITE, then ./vitq.toml.")]
ResultsOption = Annotated[
    Path | None, typer.Option("--results", "-o", help="Results folder; default a folder of the suite's name.")
]
PickOption = Annotated[str | None, typer.Option("-k", help="Only cells whose id matches: 'repq and not swin'.")]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1 ...")]


def _plain_errors(command: Callable[..., int]) -> Callable[..., None]:
    """Print bad input as one line and end with the exit code that the command gives."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            code = command(*args, **kwargs)
        except BadInputError as error:
            typer.echo(f"vitq: {error}", err=True)
            code = BAD_INPUT
        raise typer.Exit(code)

    return run


@app.command("list")
@_plain_errors
def list_things(
    what: Annotated[str, typer.Argument(help="methods, models, suites or cells")],
    suite: SuiteArgument = "smoke",
    k: PickOption = None,
) -> int:
    """List methods, models, suites, or the cells of a suite."""
    from vitq.benchmarks import listing

    typer.echo(listing.listing(what, suite, k))
    return GOOD


@app.command()
@_plain_errors
def verify(
    suite: SuiteArgument = "smoke",
    site: SiteOption = None,
    sample: Annotated[int, typer.Option(help="Images to read and to score of a large data set.", min=1)] = 256,
) -> int:
    """Check data and weights before hours are spent: counts, classes, images, shapes, sha256, FP32 accuracy."""
    from vitq.benchmarks import session

    return session.verify(suite, site, sample)


@app.command()
@_plain_errors
def run(
    suite: SuiteArgument = "smoke",
    k: PickOption = None,
    limit: Annotated[int | None, typer.Option(help="Evaluate a seeded, class-stratified subset.", min=1)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the cells; run nothing.")] = False,
    verbose: Annotated[bool, typer.Option("-v", help="With --dry-run: which part of the identity changed.")] = False,
    device: DeviceOption = "cpu",
    executor: Annotated[str, typer.Option("--executor", help="Where cells run: local.")] = "local",
    jobs: Annotated[int, typer.Option(help="Cells at once; latency is measured alone, after them.", min=1)] = 1,
    results: ResultsOption = None,
    site: SiteOption = None,
) -> int:
    """Run a suite and print its table; running it again does only what has no finished record."""
    from vitq.benchmarks import session

    return session.run(
        suite, k=k, limit=limit, dry_run=dry_run, verbose=verbose, device=device, executor=executor, jobs=jobs,
        results=results, site=site, command=" ".join(["vitq", *sys.argv[1:]]),
    )  # fmt: skip


@app.command()
@_plain_errors
def compare(
    suite: SuiteArgument = "smoke",
    results: ResultsOption = None,
    site: SiteOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Show figures that nothing was run for, too.")] = False,
) -> int:
    """Give a verdict on every figure that the papers report."""
    from vitq.benchmarks import session

    return session.compare(suite, results, site, everything)


@app.command()
@_plain_errors
def report(
    suite: SuiteArgument = "smoke",
    results: ResultsOption = None,
    site: SiteOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the report; default <results>/report.")] = None,
) -> int:
    """Write report.md, CSV tables and pictures."""
    from vitq.benchmarks import session

    return session.report(suite, results, site, out)


@app.command()
@_plain_errors
def gate(
    baseline: Annotated[Path, typer.Option("--baseline", help="records.jsonl, or its folder, of an earlier run.")],
    suite: SuiteArgument = "smoke",
    k: PickOption = None,
    results: ResultsOption = None,
    site: SiteOption = None,
    tolerance: Annotated[float, typer.Option(help="Accuracy difference allowed, in points, both ways.", min=0)] = 0.0,
    stderrs: Annotated[float, typer.Option(help="Standard errors allowed on another machine.", min=0)] = 3.0,
    slowdown: Annotated[float, typer.Option(help="Growth of a kernel's ratio to FP32 allowed.", min=1)] = 1.1,
    cost: Annotated[bool, typer.Option("--cost", help="Gate what a fake-quant evaluation costs, too.")] = False,
    at_least: Annotated[str | None, typer.Option("--at-least", help="Cells that must be compared: N or all.")] = None,
    junit: Annotated[Path | None, typer.Option("--junit", help="Write JUnit XML to this file.")] = None,
    summary: Annotated[
        Path | None, typer.Option("--summary", help="Write Markdown here; default: add to $GITHUB_STEP_SUMMARY.")
    ] = None,
) -> int:
    """Compare with an earlier run: accuracy both ways, size and operations exactly, kernels by their ratio to FP32."""
    from vitq.benchmarks.gate.command import run_gate
    from vitq.benchmarks.gate.policy import Policy, cells_asked

    policy = Policy(tolerance, stderrs, slowdown=slowdown, cost=cost, at_least=cells_asked(at_least))
    return run_gate(
        suite, baseline, results=results, site=site, policy=policy, k=k, junit_file=junit, summary_file=summary
    )


@app.command()
@_plain_errors
def show(
    record: Annotated[str, typer.Argument(help="A cell id or part of it, or the start of a key.")],
    suite: SuiteArgument = "smoke",
    results: ResultsOption = None,
    site: SiteOption = None,
    layers: Annotated[bool, typer.Option("--layers", help="Add the per-layer table.")] = False,
) -> int:
    """Show one record in full."""
    from vitq.benchmarks import session

    return session.show(record, suite, results, site, layers)


@app.command()
@_plain_errors
def clean(
    suite: SuiteArgument = "smoke",
    results: ResultsOption = None,
    site: SiteOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; delete nothing.")] = False,
) -> int:
    """Delete artifacts, models and outcomes that no current record needs."""
    from vitq.benchmarks import session

    return session.clean(suite, results, site, dry_run)


def main() -> None:
    """Entry point of the `vitq` command."""
    try:
        app()
    except KeyboardInterrupt:
        typer.echo("vitq: stopped; finished records are kept, run again to go on", err=True)
        sys.exit(130)
