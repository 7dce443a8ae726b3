"""The words that several commands take: where things are, which cells, and how a table is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


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


SuiteArgument = Annotated[str, typer.Argument(help="A suite that ships (vitq list suites) or a .yaml file.")]
SiteOption = Annotated[Path | None, path_option("--site", "Site file; default $VITQ_SITE, then ./vitq.toml.")]
ResultsOption = Annotated[
    Path | None, path_option("--results", "-o", "Results folder; default a folder of the suite's name.")
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
