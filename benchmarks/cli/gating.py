"""`vitq gate`: an earlier run as the bar."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from vitq.benchmarks.cli.options import (
    FormatOption,
    PickOption,
    ResultsOption,
    SiteOption,
    SuiteArgument,
    number_option,
    path_option,
)
from vitq.benchmarks.plain import plain_errors
from vitq.errors import BadInputError


@plain_errors
def gate_results(
    baseline: Annotated[Path, path_option("--baseline", "records.jsonl, or its folder, of an earlier run.")],
    suite: SuiteArgument = None,
    k: PickOption = None,
    results: ResultsOption = None,
    site: SiteOption = None,
    tolerance: Annotated[
        float | None,
        number_option("Accuracy difference allowed, in points, both ways; default [gate] in the site file, 0.", 0, 100),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", help="Difference allowed of one quantity, as top1=0.5; repeat.", metavar="NAME=NUMBER"),
    ] = None,
    stderrs: Annotated[float | None, number_option("Standard errors allowed on another machine; 3.", 0, 100)] = None,
    slowdown: Annotated[
        float | None, number_option("Growth of a kernel's ratio to FP32 allowed; 1.1.", 1, 1000)
    ] = None,
    cost: Annotated[bool, typer.Option("--cost", help="Gate what a fake-quant evaluation costs, too.")] = False,
    at_least: Annotated[str | None, typer.Option("--at-least", help="Cells that must be compared: N or all.")] = None,
    junit: Annotated[Path | None, path_option("--junit", "Write JUnit XML to this file.")] = None,
    summary: Annotated[
        Path | None, path_option("--summary", "Write Markdown here; default $GITHUB_STEP_SUMMARY.")
    ] = None,
    update: Annotated[bool, typer.Option("--update", help="Accept what changed: write it to the baseline.")] = False,
    reason: Annotated[
        str | None, typer.Option("--reason", help="With --update: why; it stays in the baseline.")
    ] = None,
    drop: Annotated[bool, typer.Option("--drop", help="With --update: let cells go that the run has no more.")] = False,
    annotate: Annotated[
        bool | None, typer.Option(help="Print annotations for GitHub; default where GITHUB_ACTIONS is true.")
    ] = None,
    fmt: FormatOption = "plain",
) -> int:
    """Compare with an earlier run: accuracy both ways, size and operations exactly, kernels by their ratio to FP32."""
    from vitq.benchmarks.commands.printing import Printer
    from vitq.benchmarks.gate.command import run_gate
    from vitq.benchmarks.gate.policy import cells_asked, policy_of
    from vitq.benchmarks.gate.update import update_of
    from vitq.benchmarks.plan.site import load_site
    from vitq.benchmarks.plan.tolerances import from_words

    if any(value != value for value in (tolerance, stderrs, slowdown)):
        raise BadInputError("--tolerance, --stderrs and --slowdown must be numbers, and nan is none")
    policy = policy_of(
        load_site(site).gate, from_words(allow or []), tolerance=tolerance, stderrs=stderrs, slowdown=slowdown,
        cost=cost, at_least=cells_asked(at_least),
    )  # fmt: skip
    return run_gate(
        suite, baseline, results=results, site=site, k=k, junit_file=junit, summary_file=summary, printer=Printer(fmt),
        policy=policy, update=update_of(update, reason, drop),
        annotate=os.environ.get("GITHUB_ACTIONS") == "true" if annotate is None else annotate,
    )  # fmt: skip
