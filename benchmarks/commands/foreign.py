"""`vitq evaluate FILE` of a model that others quantized: its row, kept in a results folder beside all others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vitq.api.meanings import refuse_name_and_file
from vitq.benchmarks.commands.printing import Printer
from vitq.benchmarks.plan.own_suite import OWN
from vitq.benchmarks.plan.site import Site
from vitq.benchmarks.run.progress import phases, plain_console
from vitq.errors import BadInputError
from vitq.words import short

if TYPE_CHECKING:
    pass

Three = tuple[float, float, float]


@dataclass(frozen=True)
class Input:
    """How images become the input of a file's model, as the words of the command line say it."""

    like: str | None = None
    mean: str | None = None
    std: str | None = None
    size: int | None = None
    crop_pct: float | None = None
    interpolation: str | None = None

    def words(self) -> list[str]:
        """The options that were given."""
        given = {"--like": self.like, "--mean": self.mean, "--std": self.std, "--crop-pct": self.crop_pct}
        given |= {"--interpolation": self.interpolation}
        return [name for name, value in given.items() if value is not None]


def is_foreign(word: str, like: str | None) -> bool:
    """Whether a word is the file of a model that runs as it is, or of tensors that belong into what it is `like`.

    BadInputError for a word that is the name of a model too.
    """
    refuse_name_and_file(word)
    path = Path(word)
    if path.suffix.lower() in (".onnx", ".xml", ".pt2"):
        return True
    if not path.is_file():
        return False
    from vitq.benchmarks.foreign.opening import kind_of
    from vitq.methods.toolkit.saved_file import is_saved

    if is_saved(path):
        return False
    return like is not None or kind_of(path) in ("onnx", "openvino", "torchscript", "torch.export")


def evaluate_file(
    path: Path,
    data: str | Path,
    labels: Path | None,
    classes: Path | None,
    how: Input,
    *,
    site: Site,
    results: Path | None,
    limit: int | None,
    latency: bool,
    threads: int | None,
    command: str,
    quiet: bool,
    printer: Printer,
) -> int:
    """0 when the row was printed; BadInputError, in one line, for whatever cannot be used."""
    from vitq.benchmarks.foreign.evaluating import evaluate_foreign
    from vitq.benchmarks.foreign.inputs import Wanted
    from vitq.benchmarks.plan.suite import Latency
    from vitq.reports.tables import results_table

    wanted = Wanted(
        how.like, _three("--mean", how.mean), _three("--std", how.std), how.size, how.crop_pct, how.interpolation
    )
    places, name = site.places(), str(data)
    if isinstance(data, Path):
        from vitq.datasets import registry
        from vitq.datasets.own import own_data

        own, images = own_data(data, labels=labels, classes=classes, hub=site.hub)
        registry.register([own])
        places, name = replace(places, datasets={**places.datasets, own.name: images.absolute()}), own.name
    folder = results or site.results / OWN
    with phases(plain_console(quiet)) as progress:
        row = evaluate_foreign(
            path, name, places=places, results=folder, wanted=wanted, limit=limit,
            latency=Latency() if latency else None, threads=threads or site.threads, trust=site.trust, command=command,
            progress=progress,
        )  # fmt: skip
    printer.text(results_table([row], printer.fmt, printer.width))
    for line in row.warnings:
        printer.note(line)
    printer.note(f"records in {folder / 'records.jsonl'}")
    return 0


def _three(option: Literal["--mean", "--std"], text: str | None) -> Three | None:
    """Three numbers, one a channel."""
    if text is None:
        return None
    try:
        first, second, third = map(float, text.split(","))
    except ValueError:
        raise BadInputError(f"{option} is {short(text)}: give three numbers, one a channel, as 0.5,0.5,0.5") from None
    return first, second, third
