"""Commands that run cells: `run`, and `verify` before it."""

from __future__ import annotations

from typing import Annotated

import typer

from vitq.benchmarks.cli.options import (
    DeviceOption,
    FormatOption,
    PickOption,
    QuietOption,
    ResultsOption,
    RunArgument,
    ScopeOption,
    SiteOption,
    TrustOption,
)
from vitq.benchmarks.plain import command_line, plain_errors
from vitq.benchmarks.plan.limits import MAX_IMAGES, counted
from vitq.errors import BadInputError


@plain_errors
def verify_inputs(
    suite: RunArgument = None,
    site: SiteOption = None,
    sample: Annotated[
        int, typer.Option(help="Images to read and to score of a large data set.", min=1, max=MAX_IMAGES)
    ] = 256,
    trust: TrustOption = False,
    fmt: FormatOption = "plain",
    quiet: QuietOption = False,
) -> int:
    """Check data and weights before hours are spent: counts, classes, images, shapes, sha256, FP32 accuracy."""
    from vitq.benchmarks.commands.printing import Printer
    from vitq.benchmarks.commands.verify import verify

    if suite is None:
        raise BadInputError("name the suite whose data and weights to check, as `vitq verify smoke`")
    return verify(suite, site, sample, trust, printer=Printer(fmt), quiet=quiet)


@plain_errors
def run_suite(
    suite: RunArgument = None,
    k: PickOption = None,
    limit: Annotated[
        int | None, typer.Option(help="Evaluate a seeded, class-stratified subset.", min=1, max=MAX_IMAGES)
    ] = None,
    scope: ScopeOption = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="[METHOD.]OPTION=VALUE", help="Another value of a method's option; several may be."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the cells, time and disk; run nothing.")] = False,
    verbose: Annotated[bool, typer.Option("-v", help="With --dry-run: which part of the identity changed.")] = False,
    device: DeviceOption = "cpu",
    executor: Annotated[str, typer.Option("--executor", help="Where cells run: local.")] = "local",
    jobs: Annotated[
        str,
        typer.Option(help="Cells at once, at most one a core (auto: one a core); latency is measured alone, after."),
    ] = "1",
    runtime: Annotated[
        list[str] | None,
        typer.Option("--runtime", help="Time quantized models on this runtime too, also those of a finished run."),
    ] = None,
    trust: TrustOption = False,
    results: ResultsOption = None,
    site: SiteOption = None,
    fmt: FormatOption = "plain",
    quiet: QuietOption = False,
) -> int:
    """Run a suite and print its table; running it again does only what has no finished record."""
    from vitq.benchmarks.commands.estimates import ask_what_to_run
    from vitq.benchmarks.commands.printing import Printer
    from vitq.benchmarks.commands.run import run
    from vitq.benchmarks.plan.devices import check_device
    from vitq.benchmarks.plan.picking import picker
    from vitq.benchmarks.plan.settings import read_settings, with_settings
    from vitq.benchmarks.plan.site import load_site
    from vitq.benchmarks.plan.suite import load_suite

    at_once = counted("--jobs", jobs)
    check_device(device, here=not dry_run)
    if k is not None:
        picker(k)
    printer = Printer(fmt)
    if suite is None:
        return ask_what_to_run(site, device, printer)
    here = load_site(site).trusting(trust)  # before the suite, which may name its models
    asked = load_suite(suite)
    methods = list(dict.fromkeys(entry.method for entry in asked.methods))
    return run(
        with_settings(asked, read_settings(settings or (), methods)), k=k, limit=limit, scope=scope,
        runtimes=runtime or (), dry_run=dry_run, verbose=verbose, device=device, executor=executor, jobs=at_once,
        results=results, site=here, command=command_line(), quiet=quiet, printer=printer,
    )  # fmt: skip
