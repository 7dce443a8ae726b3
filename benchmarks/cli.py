"""The command line. Everything heavy is imported inside the command that needs it, so that `--help` is instant."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vitq.benchmarks.plain import BAD_INPUT, command_line, plain_errors, run_plainly
from vitq.benchmarks.plan.limits import MAX_IMAGES
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


def _to_path(word: str) -> Path:
    """A path as given, `~` expanded; a usage error for one that names nothing."""
    if not word.strip():
        raise typer.BadParameter("it is empty: name a folder or a file, or leave it out")
    if "\0" in word:
        raise typer.BadParameter("it holds a NUL")
    try:
        return Path(word).expanduser()
    except RuntimeError as error:
        raise typer.BadParameter(f"{word}: {error}") from None


def _path(*names: str) -> Any:
    """An option that takes a path: its names, then its help."""
    return typer.Option(*names[:-1], parser=_to_path, metavar="PATH", help=names[-1])


def _number(help: str, least: float, most: float) -> Any:
    """An option that takes a number within bounds."""
    return typer.Option(help=help, min=least, max=most)


SuiteArgument = Annotated[str, typer.Argument(help="A suite that ships (vitq list suites) or a .yaml file.")]
SiteOption = Annotated[Path | None, _path("--site", "Site file; default $VITQ_SITE, then ./vitq.toml.")]
ResultsOption = Annotated[
    Path | None, _path("--results", "-o", "Results folder; default a folder of the suite's name.")
]
TrustOption = Annotated[
    bool, typer.Option("--trust", help="Take PyTorch weights of unknown sha256, and hold later ones to it.")
]
PickOption = Annotated[str | None, typer.Option("-k", help="Only cells whose id matches: 'repq and not swin'.")]
ScopeOption = Annotated[
    str | None,
    typer.Option("--scope", metavar="PATH", help="Quantize this module of every model, as backbone; model: the whole."),
]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1 ...")]


@app.command("list")
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


@app.command("verify")
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


@app.command("run")
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
    executor: Annotated[
        str, typer.Option("--executor", help="Where cells run: local (this machine) or ray (a cluster).")
    ] = "local",
    jobs: Annotated[
        str | None,
        typer.Option(
            help="Cells at once; here 1, at most one a core (auto: one a core), with Ray as many as fit. With --device "
            "cuda they are placed over the GPUs. Latency is measured alone, after."
        ),
    ] = None,
    split: Annotated[
        str, typer.Option("--split", help="Workers that share an evaluation; auto: those that no cell is left for.")
    ] = "auto",
    address: Annotated[
        str | None, typer.Option("--address", help="A running Ray cluster, HOST:PORT or auto; default a local one.")
    ] = None,
    cpus: Annotated[
        float | None, typer.Option("--cpus", help="CPUs that a cell asks Ray for; default the suite's threads.")
    ] = None,
    gpus: Annotated[
        float | None, typer.Option("--gpus", help="GPUs, or a share of one; default 1 with --device cuda.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", help="Memory that a cell asks Ray for, as 8GB; default none.")
    ] = None,
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
    from vitq.benchmarks.run.executing import Executing

    executing = Executing(executor, jobs, split, address, cpus, gpus, memory)
    executing.check()
    check_device(device, here=executor == "local")
    if k is not None:
        picker(k)
    return run(
        suite, k=k, limit=limit, scope=scope, runtimes=runtime or (), dry_run=dry_run, verbose=verbose, device=device,
        executing=executing, trust=trust, results=results, site=site, command=command_line(),
    )  # fmt: skip


@app.command("latency")
@plain_errors
def time_runtimes(
    model: Annotated[str, typer.Argument(help="A stored quantized model (.safetensors), or a finished cell's id.")],
    suite: Annotated[str, typer.Option("--suite", help="The suite that a cell is of.")] = "smoke",
    runtime: Annotated[
        list[str] | None, typer.Option("--runtime", help="See `vitq list runtimes`; all by default.")
    ] = None,
    batch: Annotated[list[int] | None, typer.Option("--batch", help="Batch sizes; 8 and 1 by default.", min=1)] = None,
    threads: Annotated[int, typer.Option(help="Threads of every runtime.")] = 1,
    device: DeviceOption = "cpu",
    runs: Annotated[int, typer.Option(help="Rounds in which each form runs once.", min=1, max=100_000)] = 20,
    results: ResultsOption = None,
    site: SiteOption = None,
) -> int:
    """Time a quantized model on every runtime that computes it, in turn with FP32, its output checked."""
    from vitq.benchmarks.commands.latency import latency
    from vitq.benchmarks.plan.devices import check_device

    check_device(device)
    return latency(
        model, suite, runtimes=runtime or (), batches=batch or (8, 1), threads=threads, runs=runs, device=device,
        results=results, site=site,
    )  # fmt: skip


@app.command("peaks")
@plain_errors
def measure_peaks(
    threads: Annotated[int | None, typer.Option(help="Threads of every library; default one a core.")] = None,
    device: DeviceOption = "cpu",
    fmt: Annotated[str, typer.Option("--format", help="plain or json.")] = "plain",
    out: Annotated[
        Path | None, _path("--out", "-o", "Keep them in this file, as JSON; reports read <results>/peaks.json.")
    ] = None,
) -> int:
    """Measure what this machine reaches: products in FP32, bf16, INT8 and one bit, and memory."""
    from vitq.benchmarks.commands.peaks import peaks

    return peaks(threads, device, fmt, out)


@app.command("export")
@plain_errors
def export_model(
    model: Annotated[str, typer.Argument(help="A stored model (.safetensors), or a finished cell's id.")],
    out: Annotated[Path, _path("--out", "-o", "The file to write; it must not be there yet.")],
    to: Annotated[str, typer.Option("--to", help="The format: onnx (opset 21, quantize and dequantize).")] = "onnx",
    runtime: Annotated[
        str, typer.Option("--runtime", help="What it is laid out for and checked on: onnxruntime or openvino.")
    ] = "onnxruntime",
    batch: Annotated[int, typer.Option("--batch", help="Images a call, fixed in the file.", min=1)] = 1,
    threads: Annotated[int, typer.Option(help="Threads of the check.")] = 1,
    suite: Annotated[str, typer.Option("--suite", help="The suite that a cell is of.")] = "smoke",
    results: Annotated[Path | None, _path("--results", "Results folder; default a folder of the suite's name.")] = None,
    site: SiteOption = None,
) -> int:
    """Write a stored model as ONNX, load what was written, and say how near its logits are to ours."""
    from vitq.benchmarks.commands.export import export
    from vitq.benchmarks.plan.limits import within_cores

    within_cores("--threads", threads)
    return export(
        model, suite, to=to, out=out, runtime=runtime, batch=batch, threads=threads, results=results, site=site
    )


@app.command("compare")
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


@app.command("report")
@plain_errors
def write_report(
    suite: SuiteArgument = "smoke",
    results: ResultsOption = None,
    site: SiteOption = None,
    out: Annotated[Path | None, _path("--out", "Folder for the report; default <results>/report.")] = None,
    peaks: Annotated[
        Path | None, _path("--peaks", "What `vitq peaks -o` wrote, for the roofline; default <results>/peaks.json.")
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


@app.command("gate")
@plain_errors
def gate_results(
    baseline: Annotated[Path, _path("--baseline", "records.jsonl, or its folder, of an earlier run.")],
    suite: SuiteArgument = "smoke",
    k: PickOption = None,
    results: ResultsOption = None,
    site: SiteOption = None,
    tolerance: Annotated[float, _number("Accuracy difference allowed, in points, both ways.", 0, 100)] = 0.0,
    stderrs: Annotated[float, _number("Standard errors allowed on another machine.", 0, 100)] = 3.0,
    slowdown: Annotated[float, _number("Growth of a kernel's ratio to FP32 allowed.", 1, 1000)] = 1.1,
    cost: Annotated[bool, typer.Option("--cost", help="Gate what a fake-quant evaluation costs, too.")] = False,
    at_least: Annotated[str | None, typer.Option("--at-least", help="Cells that must be compared: N or all.")] = None,
    junit: Annotated[Path | None, _path("--junit", "Write JUnit XML to this file.")] = None,
    summary: Annotated[Path | None, _path("--summary", "Write Markdown here; default $GITHUB_STEP_SUMMARY.")] = None,
) -> int:
    """Compare with an earlier run: accuracy both ways, size and operations exactly, kernels by their ratio to FP32."""
    from vitq.benchmarks.gate.command import run_gate
    from vitq.benchmarks.gate.policy import Policy, cells_asked

    if any(value != value for value in (tolerance, stderrs, slowdown)):
        raise BadInputError("--tolerance, --stderrs and --slowdown must be numbers, and nan is none")
    return run_gate(
        suite, baseline, results=results, site=site, k=k, junit_file=junit, summary_file=summary,
        policy=Policy(tolerance, stderrs, slowdown=slowdown, cost=cost, at_least=cells_asked(at_least)),
    )  # fmt: skip


@app.command("show")
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


@app.command("merge")
@plain_errors
def merge_results(
    folders: Annotated[
        list[Path], typer.Argument(parser=_to_path, metavar="FOLDER...", help="Results folders to join.")
    ],
    out: Annotated[Path | None, _path("--out", "-o", "The folder to write; default the first one.")] = None,
) -> int:
    """Join results folders: records, models, outcomes and artifacts; contradicting records are refused."""
    from vitq.benchmarks.commands.merge import merge

    return merge(folders, out)


@app.command("clean")
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


def main() -> None:
    """Entry point of the `vitq` command."""
    sys.exit(run_plainly(app))
