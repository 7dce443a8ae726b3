"""The words that several commands take: where things are, which cells, and how a table is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from vitq.words import unknown

FORMATS = ("plain", "md", "csv", "json")


def to_path(word: str) -> Path:
    """A path as given, `~` expanded; a usage error for one that names nothing."""
    if not word.strip():
        raise typer.BadParameter("it is empty: name a folder or a file, or leave it out")
    if "\0" in word:
        raise typer.BadParameter("it holds a NUL")
    try:
        return Path(word).expanduser()
    except RuntimeError as error:
        raise typer.BadParameter(f"{word}: {error}") from None


def path_option(*names: str) -> Any:
    """An option that takes a path: its names, then its help."""
    return typer.Option(*names[:-1], parser=to_path, metavar="PATH", help=names[-1])


def number_option(help: str, least: float, most: float) -> Any:
    """An option that takes a number within bounds."""
    return typer.Option(help=help, min=least, max=most)


def to_format(word: str) -> str:
    """A format's name; a usage error for any other word."""
    if word not in FORMATS:
        raise typer.BadParameter(unknown("format", word, FORMATS))
    return word


def complete_suites(start: str) -> list[str]:
    """Suites that ship whose names start so, for a shell's completion."""
    from vitq.benchmarks.plan.suite import shipped_suites

    return [name for name in shipped_suites() if name.startswith(start)]


def complete_whats(start: str) -> list[str]:
    """What `vitq list` lists, for a shell's completion."""
    from vitq.benchmarks.commands.names import WHATS

    return [name for name in WHATS if name.startswith(start)]


SuiteArgument = Annotated[
    str | None,
    typer.Argument(
        help="A suite that ships (vitq list suites), a .yaml file, or own: what was run without a suite.",
        autocompletion=complete_suites,
    ),
]
RunArgument = Annotated[
    str | None,
    typer.Argument(help="A suite that ships (vitq list suites) or a .yaml file.", autocompletion=complete_suites),
]
SiteOption = Annotated[Path | None, path_option("--site", "Site file; default $VITQ_SITE, then ./vitq.toml.")]
ResultsOption = Annotated[
    Path | None, path_option("--results", "-o", "Results folder; default a folder of the suite's name.")
]
TrustOption = Annotated[
    bool, typer.Option("--trust", help="Take PyTorch weights of unknown sha256, and hold later ones to it.")
]
PickOption = Annotated[
    str | None, typer.Option("-k", help="Only cells whose id matches: 'repq* and not swin'.", metavar="EXPR")
]
ScopeOption = Annotated[
    str | None,
    typer.Option("--scope", metavar="PATH", help="Quantize this module of every model, as backbone; model: the whole."),
]
FormatOption = Annotated[
    Literal["plain", "md", "csv", "json"],
    typer.Option("--format", parser=to_format, metavar="FORMAT", help="How tables are printed: plain, md, csv, json."),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress: the table and errors alone.")]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1 ...")]


def complete_methods(start: str) -> list[str]:
    """Methods whose names start so, for a shell's completion."""
    from vitq.methods.cards import all_cards

    return [name for name in all_cards() if name.startswith(start)]


def complete_models(start: str) -> list[str]:
    """Models of ours whose names start so, for a shell's completion."""
    from vitq.tasks.names import model_names

    return [name for name in model_names() if name.startswith(start)]


def complete_datasets(start: str) -> list[str]:
    """Data sets whose names start so, for a shell's completion."""
    from vitq.datasets.registry import DATASETS

    return [name for name in DATASETS.names() if name.startswith(start)]


ModelsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="NAME|FILE",
        help="Without a suite: a model's name, timm's name, a pattern or a checkpoint's file; repeat for more.",
        autocompletion=complete_models,
    ),
]
MethodsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--method", metavar="NAME", help="With --model: a method or a pattern; repeat.", autocompletion=complete_methods
    ),
]
BitsOption = Annotated[
    list[str] | None, typer.Option("--bits", metavar="WxAy", help="With --model: widths, as W4A4; repeat for more.")
]
DatasetOption = Annotated[
    str | None,
    typer.Option("--dataset", metavar="NAME", help="A data set by name.", autocompletion=complete_datasets),
]
DataOption = Annotated[Path | None, path_option("--data", "A folder of images of your own, a folder a class.")]
LabelsOption = Annotated[Path | None, path_option("--labels", "A CSV of the columns image and label, for --data.")]
ClassesOption = Annotated[
    Path | None, path_option("--classes", "Names of the classes in the model's order, a line each.")
]
ArchitectureOption = Annotated[
    str | None, typer.Option("--architecture", metavar="NAME", help="Of a checkpoint: timm's name of what it is.")
]
ClassCountOption = Annotated[
    int | None, typer.Option("--num-classes", help="Of a checkpoint; read from it by default.", min=1, max=1_000_000)
]
ImageSizeOption = Annotated[
    int | None, typer.Option("--img-size", help="Side of the images; the model's own by default.", min=1, max=100_000)
]
ImagesOption = Annotated[
    int | None, typer.Option("--images", help="Images to calibrate on; 32 by default.", min=1, max=100_000_000)
]
ModelsFileOption = Annotated[
    list[Path] | None, path_option("--models", "A YAML file of models of your own, known by name here.")
]
