"""Commands about one model of a user's own: `quantize`, `evaluate`, `sensitivity`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vitq.benchmarks.cli.options import (
    ArchitectureOption,
    ClassCountOption,
    ClassesOption,
    DataOption,
    DatasetOption,
    DeviceOption,
    FormatOption,
    ImageSizeOption,
    ImagesOption,
    LabelsOption,
    ModelsFileOption,
    QuietOption,
    SiteOption,
    complete_methods,
    complete_models,
    path_option,
)
from vitq.benchmarks.plain import command_line, plain_errors
from vitq.benchmarks.plan.limits import MAX_IMAGES, MAX_SEED
from vitq.errors import BadInputError

ModelArgument = Annotated[
    str,
    typer.Argument(
        help="A model's name (vitq list models), timm's name, or a checkpoint's file.", autocompletion=complete_models
    ),
]
ScopeOption = Annotated[str, typer.Option("--scope", metavar="PATH", help="Quantize this module alone; model: all.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Of random choices.", min=0, max=MAX_SEED)]
LimitOption = Annotated[
    int | None, typer.Option("--limit", help="Evaluate a seeded subset, stratified by class.", min=1, max=MAX_IMAGES)
]


@plain_errors
def quantize_model(
    model: ModelArgument,
    out: Annotated[Path, path_option("--out", "-o", "The file to write, .safetensors.")],
    method: Annotated[str, typer.Option("--method", help="See `vitq list methods`.", autocompletion=complete_methods)],
    bits: Annotated[str, typer.Option("--bits", metavar="WxAy", help="Widths of weights and activations.")] = "W4A4",
    dataset: DatasetOption = None,
    data: DataOption = None,
    labels: LabelsOption = None,
    classes: ClassesOption = None,
    images: ImagesOption = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="OPTION=VALUE", help="Another value of the method's option; repeat for more."),
    ] = None,
    scope: ScopeOption = "model",
    architecture: ArchitectureOption = None,
    num_classes: ClassCountOption = None,
    img_size: ImageSizeOption = None,
    models: ModelsFileOption = None,
    seed: SeedOption = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
    device: DeviceOption = "cpu",
    site: SiteOption = None,
    fmt: FormatOption = "plain",
    quiet: QuietOption = False,
) -> int:
    """Quantize a model and write it to a file, which evaluate, latency, export and vitq.load read."""
    from vitq.benchmarks.commands.own_model import Given, quantize
    from vitq.benchmarks.commands.printing import Printer
    from vitq.benchmarks.plan.devices import check_device
    from vitq.benchmarks.plan.site import load_site

    check_device(device)
    here = load_site(site).knowing(*(models or ()))
    return quantize(
        Given(model, dataset, data, labels, classes, architecture, num_classes, img_size, device, here),
        method, bits, out, scope=scope, settings=settings or (), images=images, seed=seed, overwrite=overwrite,
        quiet=quiet, printer=Printer(fmt),
    )  # fmt: skip


@plain_errors
def evaluate_model(
    model: Annotated[
        str,
        typer.Argument(
            help="A name, a checkpoint, or a file of a quantized model: vitq's .safetensors, .onnx, .xml, .pt, .pt2.",
            autocompletion=complete_models,
        ),
    ],
    dataset: DatasetOption = None,
    data: DataOption = None,
    labels: LabelsOption = None,
    classes: ClassesOption = None,
    limit: LimitOption = None,
    batch: Annotated[int, typer.Option("--batch", help="Images a batch.", min=1, max=MAX_IMAGES)] = 64,
    architecture: ArchitectureOption = None,
    num_classes: ClassCountOption = None,
    img_size: ImageSizeOption = None,
    models: ModelsFileOption = None,
    like: Annotated[
        str | None,
        typer.Option(help="Others' file: the model whose preprocessing it takes.", autocompletion=complete_models),
    ] = None,
    mean: Annotated[str | None, typer.Option(help="Others' file: three numbers, as 0.5,0.5,0.5.")] = None,
    std: Annotated[str | None, typer.Option(help="Others' file: three numbers.")] = None,
    crop_pct: Annotated[float | None, typer.Option(help="Others' file: share of the image that is taken.")] = None,
    interpolation: Annotated[str | None, typer.Option(help="Others' file: bicubic, bilinear ...")] = None,
    latency: Annotated[bool, typer.Option("--latency", help="Others' file: time it too, beside FP32.")] = False,
    threads: Annotated[int | None, typer.Option(help="Others' file: threads of its runtime.", min=1)] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Others' file: it is your own, read it by pickle.")] = False,
    results: Annotated[
        Path | None, path_option("--results", "-o", "Others' file: where its records go; default results/own.")
    ] = None,
    device: DeviceOption = "cpu",
    site: SiteOption = None,
    fmt: FormatOption = "plain",
    quiet: QuietOption = False,
) -> int:
    """Measure a model's accuracy; of a model that others quantized also size and operations, kept as a row."""
    from vitq.benchmarks.commands.foreign import Input, evaluate_file, is_foreign
    from vitq.benchmarks.commands.own_model import Given, evaluate
    from vitq.benchmarks.commands.printing import Printer
    from vitq.benchmarks.plan.devices import check_device
    from vitq.benchmarks.plan.limits import within_cores
    from vitq.benchmarks.plan.site import load_site

    check_device(device)
    within_cores("--threads", threads)
    here = load_site(site).knowing(*(models or ())).trusting(trust)
    given = Given(model, dataset, data, labels, classes, architecture, num_classes, img_size, device, here)
    how = Input(like, mean, std, img_size, crop_pct, interpolation)
    if not is_foreign(model, like):
        if how.words():
            raise BadInputError(f"{how.words()[0]} says how others' files read images, and {model} is none of these")
        return evaluate(given, limit, batch, quiet, Printer(fmt))
    return evaluate_file(
        Path(model), given.images_needed("labelled images are needed to measure accuracy"), labels, classes, how,
        site=here, results=results, limit=limit, latency=latency, threads=threads, command=command_line(), quiet=quiet,
        printer=Printer(fmt),
    )  # fmt: skip


@plain_errors
def show_sensitivity(
    model: ModelArgument,
    bits: Annotated[str, typer.Option("--bits", metavar="WxAy", help="Widths, 2 to 8 bits each.")] = "W4A4",
    out: Annotated[Path | None, path_option("--out", "-o", "Draw it in this file, .png, .svg or .pdf.")] = None,
    by: Annotated[str, typer.Option("--by", help="A component is a block, or a layer.")] = "block",
    mode: Annotated[
        str, typer.Option("--mode", help="alone: one component quantized; leave-one-out: all but one.")
    ] = "alone",
    dataset: DatasetOption = None,
    data: DataOption = None,
    labels: LabelsOption = None,
    classes: ClassesOption = None,
    limit: LimitOption = None,
    images: ImagesOption = None,
    scope: ScopeOption = "model",
    architecture: ArchitectureOption = None,
    num_classes: ClassCountOption = None,
    img_size: ImageSizeOption = None,
    models: ModelsFileOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
    site: SiteOption = None,
    fmt: FormatOption = "plain",
    quiet: QuietOption = False,
) -> int:
    """Show what each component of a model costs in accuracy when it is quantized, measured and estimated."""
    from vitq.benchmarks.commands.own_model import Given, sensitivity
    from vitq.benchmarks.commands.printing import Printer
    from vitq.benchmarks.plan.devices import check_device
    from vitq.benchmarks.plan.site import load_site

    check_device(device)
    here = load_site(site).knowing(*(models or ()))
    return sensitivity(
        Given(model, dataset, data, labels, classes, architecture, num_classes, img_size, device, here),
        bits, out, by=by, mode=mode, scope=scope, limit=limit, images=images, seed=seed, quiet=quiet,
        printer=Printer(fmt),
    )  # fmt: skip
