"""Commands about one stored model on this machine: `latency`, `peaks`, `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vitq.benchmarks.cli.options import DeviceOption, FormatOption, ResultsOption, SiteOption, path_option
from vitq.benchmarks.plain import plain_errors


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
    fmt: FormatOption = "plain",
) -> int:
    """Time a quantized model on every runtime that computes it, in turn with FP32, its output checked."""
    from vitq.benchmarks.commands.latency import latency
    from vitq.benchmarks.commands.printing import Printer
    from vitq.benchmarks.plan.devices import check_device

    check_device(device)
    return latency(
        model, suite, runtimes=runtime or (), batches=batch or (8, 1), threads=threads, runs=runs, device=device,
        results=results, site=site, printer=Printer(fmt),
    )  # fmt: skip


@plain_errors
def measure_peaks(
    threads: Annotated[int | None, typer.Option(help="Threads of every library; default one a core.")] = None,
    device: DeviceOption = "cpu",
    fmt: FormatOption = "plain",
    out: Annotated[
        Path | None, path_option("--out", "-o", "Keep them in this file, as JSON; reports read <results>/peaks.json.")
    ] = None,
) -> int:
    """Measure what this machine reaches: products in FP32, bf16, INT8 and one bit, and memory."""
    from vitq.benchmarks.commands.peaks import peaks
    from vitq.benchmarks.commands.printing import Printer

    return peaks(threads, device, out, Printer(fmt))


@plain_errors
def export_model(
    model: Annotated[str, typer.Argument(help="A stored model (.safetensors), or a finished cell's id.")],
    out: Annotated[Path, path_option("--out", "-o", "The file to write; it must not be there yet.")],
    to: Annotated[str, typer.Option("--to", help="The format: onnx (opset 21, quantize and dequantize).")] = "onnx",
    runtime: Annotated[
        str, typer.Option("--runtime", help="What it is laid out for and checked on: onnxruntime or openvino.")
    ] = "onnxruntime",
    batch: Annotated[int, typer.Option("--batch", help="Images a call, fixed in the file.", min=1)] = 1,
    threads: Annotated[int, typer.Option(help="Threads of the check.")] = 1,
    suite: Annotated[str, typer.Option("--suite", help="The suite that a cell is of.")] = "smoke",
    results: Annotated[
        Path | None, path_option("--results", "Results folder; default a folder of the suite's name.")
    ] = None,
    site: SiteOption = None,
) -> int:
    """Write a stored model as ONNX, load what was written, and say how near its logits are to ours."""
    from vitq.benchmarks.commands.export import export
    from vitq.benchmarks.plan.limits import within_cores

    within_cores("--threads", threads)
    return export(
        model, suite, to=to, out=out, runtime=runtime, batch=batch, threads=threads, results=results, site=site
    )
