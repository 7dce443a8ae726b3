"""`vitq gate`: an earlier run as the bar."""

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
    tolerance: Annotated[float, number_option("Accuracy difference allowed, in points, both ways.", 0, 100)] = 0.0,
    stderrs: Annotated[float, number_option("Standard errors allowed on another machine.", 0, 100)] = 3.0,
    slowdown: Annotated[float, number_option("Growth of a kernel's ratio to FP32 allowed.", 1, 1000)] = 1.1,
    cost: Annotated[bool, typer.Option("--cost", help="Gate what a fake-quant evaluation costs, too.")] = False,
    at_least: Annotated[str | None, typer.Option("--at-least", help="Cells that must be compared: N or all.")] = None,
    junit: Annotated[Path | None, path_option("--junit", "Write JUnit XML to this file.")] = None,
    summary: Annotated[
        Path | None, path_option("--summary", "Write Markdown here; default $GITHUB_STEP_SUMMARY.")
    ] = None,
    fmt: FormatOption = "plain",
) -> int:
    """Compare with an earlier run: accuracy both ways, size and operations exactly, kernels by their ratio to FP32."""
    from vitq.benchmarks.commands.printing import Printer
    from vitq.benchmarks.gate.command import run_gate
    from vitq.benchmarks.gate.policy import Policy, cells_asked

    if any(value != value for value in (tolerance, stderrs, slowdown)):
        raise BadInputError("--tolerance, --stderrs and --slowdown must be numbers, and nan is none")
    return run_gate(
        suite, baseline, results=results, site=site, k=k, junit_file=junit, summary_file=summary, printer=Printer(fmt),
        policy=Policy(tolerance, stderrs, slowdown=slowdown, cost=cost, at_least=cells_asked(at_least)),
    )  # fmt: skip
