"""Commands that run cells: `run`, and `verify` before it."""

from __future__ import annotations

from typing import Annotated

import typer

from vitq.benchmarks.cli.options import (
    ArchitectureOption,
    BitsOption,
    ClassCountOption,
    ClassesOption,
    DataOption,
    DatasetOption,
    DeviceOption,
    FormatOption,
    ImageSizeOption,
    ImagesOption,
    LabelsOption,
    MethodsOption,
    ModelsFileOption,
    ModelsOption,
    PickOption,
    QuietOption,
    ResultsOption,
    RunArgument,
    ScopeOption,
    SiteOption,
    TrustOption,
)
from vitq.benchmarks.plain import command_line, plain_errors
from vitq.benchmarks.plan.limits import MAX_IMAGES, MAX_SEED
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
    model: ModelsOption = None,
    method: MethodsOption = None,
    bits: BitsOption = None,
    dataset: DatasetOption = None,
    data: DataOption = None,
    labels: LabelsOption = None,
    classes: ClassesOption = None,
    architecture: ArchitectureOption = None,
    num_classes: ClassCountOption = None,
    img_size: ImageSizeOption = None,
    images: ImagesOption = None,
    seed: Annotated[
        list[int] | None, typer.Option("--seed", help="With --model: of random choices; repeat.", min=0, max=MAX_SEED)
    ] = None,
    latency: Annotated[bool, typer.Option("--latency", help="With --model: time FP32 and quantized, too.")] = False,
    models: ModelsFileOption = None,
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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the cells, time and disk, for any machine; run nothing.")
    ] = False,
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
    fmt: FormatOption = "plain",
    quiet: QuietOption = False,
) -> int:
    """Run a suite, or a model of your own, and print the table; running again does only what is not finished."""
    from vitq.benchmarks.commands.estimates import ask_what_to_run
    from vitq.benchmarks.commands.printing import Printer
    from vitq.benchmarks.commands.run import chosen, run
    from vitq.benchmarks.plan.own_suite import Wish
    from vitq.benchmarks.plan.picking import picker
    from vitq.benchmarks.plan.site import load_site
    from vitq.benchmarks.run.executing import Executing

    executing = Executing(executor, jobs, split, address, cpus, gpus, memory, site, dry_run)
    executing.check()
    executing.check_device(device)
    if k is not None:
        picker(k)
    printer = Printer(fmt)
    wish = Wish(
        model or (), method or (), bits or (), dataset, data, labels, classes, architecture, num_classes, img_size,
        images, seed or (0,), latency, settings or (),
    )  # fmt: skip
    if suite is None and not wish.words():
        return ask_what_to_run(site, device, printer)
    asked, here = chosen(suite, wish, load_site(site, here=not dry_run), models or (), trust)
    return run(
        asked, k=k, limit=limit, scope=scope, runtimes=runtime or (), verbose=verbose, device=device,
        executing=executing, results=results, site=here, command=command_line(), quiet=quiet, printer=printer,
    )  # fmt: skip
