"""Commands that run cells: `run`, and `verify` before it."""

from __future__ import annotations

from typing import Annotated

import typer

from vitq.benchmarks.cli.options import (
    DeviceOption,
    PickOption,
    ResultsOption,
    ScopeOption,
    SiteOption,
    SuiteArgument,
    TrustOption,
)
from vitq.benchmarks.plain import command_line, plain_errors
from vitq.benchmarks.plan.limits import MAX_IMAGES, counted


@plain_errors
def verify_inputs(
    suite: SuiteArgument = "smoke",
    site: SiteOption = None,
    sample: Annotated[
        int, typer.Option(help="Images to read and to score of a large data set.", min=1, max=MAX_IMAGES)
    ] = 256,
    trust: TrustOption = False,
) -> int:
    """Check data and weights before hours are spent: counts, classes, images, shapes, sha256, FP32 accuracy."""
    from vitq.benchmarks.commands.verify import verify

    return verify(suite, site, sample, trust)


@plain_errors
def run_suite(
    suite: SuiteArgument = "smoke",
    k: PickOption = None,
    limit: Annotated[
        int | None, typer.Option(help="Evaluate a seeded, class-stratified subset.", min=1, max=MAX_IMAGES)
    ] = None,
    scope: ScopeOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the cells; run nothing.")] = False,
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
) -> int:
    """Run a suite and print its table; running it again does only what has no finished record."""
    from vitq.benchmarks.commands.run import run
    from vitq.benchmarks.plan.devices import check_device
    from vitq.benchmarks.plan.picking import picker

    at_once = counted("--jobs", jobs)
    check_device(device)
    if k is not None:
        picker(k)
    return run(
        suite, k=k, limit=limit, scope=scope, runtimes=runtime or (), dry_run=dry_run, verbose=verbose, device=device,
        executor=executor, jobs=at_once, trust=trust, results=results, site=site, command=command_line(),
    )  # fmt: skip
