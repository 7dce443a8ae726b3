"""`vitq quantize`, `vitq evaluate` and `vitq sensitivity`: one model of a user's own, by the Python interface."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitq.api.meanings import DATASET
from vitq.benchmarks.commands.printing import Printer
from vitq.benchmarks.plain import say
from vitq.benchmarks.plan.settings import read_settings
from vitq.benchmarks.plan.site import Site
from vitq.benchmarks.run.progress import phases, plain_console
from vitq.datasets.registry import DATASETS
from vitq.errors import BadInputError, UnsupportedError
from vitq.methods.cards import all_cards
from vitq.methods.registry import METHODS
from vitq.tasks.names import DATA_OF_CARDS, model_entry, model_names
from vitq.words import unknown


@dataclass(frozen=True)
class Given:
    """The model and the data of a command, as its words say them."""

    model: str
    dataset: str | None
    data: Path | None
    labels: Path | None
    classes: Path | None
    architecture: str | None
    num_classes: int | None
    img_size: int | None
    device: str
    site: Site

    def words(self) -> dict[str, Any]:
        """What every function of the Python interface takes."""
        return {
            "labels": self.labels, "classes": self.classes, "architecture": self.architecture,
            "num_classes": self.num_classes, "img_size": self.img_size, "device": self.device, "site": self.site,
        }  # fmt: skip

    def images(self) -> str | Path | None:
        """The data: a folder, a data set's name, or that which a model of ours was made for; None where none is known.

        BadInputError for a name that is none, and where both are given.
        """
        if self.data is not None and self.dataset is not None:
            raise BadInputError("--dataset names a data set, --data a folder: give one of them")
        if self.data is not None:
            if not self.data.is_dir() and not str(self.data).startswith("hf:"):
                raise BadInputError(f"--data {self.data}: no folder is there")
            return self.data
        for word, what in (
            ("labels", "what the images of a folder are"),
            ("classes", "in which order its classes are"),
        ):
            if getattr(self, word) is not None:
                raise BadInputError(f"--{word} says {what}: give the folder by --data")
        if self.dataset is not None:
            if self.dataset not in DATASETS.names():
                raise BadInputError(f"--dataset: {unknown('data set', self.dataset, DATASETS.names())}")
            return self.dataset
        entry = model_entry(self.model) if self.model in model_names() else None
        return DATA_OF_CARDS[entry.task] if entry is not None and entry.packaged else None

    def images_needed(self, why: str) -> str | Path:
        """The data; BadInputError, with `why` it is needed, where none is given."""
        found = self.images()
        if found is None:
            raise BadInputError(f"{why}: give --data FOLDER, a folder a class, or --dataset NAME (vitq list datasets)")
        return found


def quantize(
    given: Given,
    method: str,
    bits: str,
    out: Path,
    *,
    scope: str,
    settings: Sequence[str],
    images: int | None,
    seed: int,
    overwrite: bool,
    quiet: bool,
    printer: Printer,
) -> int:
    """`vitq quantize`: 0 when the file was written; BadInputError, and no file, where the model cannot be had."""
    import vitq

    METHODS.offer(method)
    options = {each.option: each.value for each in read_settings(settings, [method])}
    _check_file(out, ".safetensors", overwrite)
    reads = any(all_cards()[method].reads_data(what, options) for what in ("calibration", "training"))
    data = _meant(given.images_needed(f"{method} reads images") if reads else given.images())
    with _one_line(), phases(plain_console(quiet)) as progress:
        small = vitq.quantize(
            given.model, method, bits=bits, data=data, scope=scope or "model", options=options, seed=seed,
            images=images, progress=progress, **given.words(),
        )  # fmt: skip
        small.save(out)
    size, operations = small.size, small.operations
    printer.table(
        [
            {
                "model": given.model,
                "method": method,
                "bits": small.bits,
                "parameters": f"{size.params:,}",
                "FP32 MB": f"{size.fp32_mb:.2f}",
                "packed MB": f"{size.packed_mb:.2f}",
                "BitOPs G": f"{operations.bitops / 1e9:.2f}",
                "runs as": small.exec,
                "file": str(out),
                "disk MB": f"{out.stat().st_size / 1e6:.2f}",
            }
        ],
        right=("parameters", "FP32 MB", "packed MB", "BitOPs G", "disk MB"),
    )
    return 0


def evaluate(given: Given, limit: int | None, batch: int, quiet: bool, printer: Printer) -> int:
    """`vitq evaluate`: 0 when the table was printed; BadInputError for a model or data that cannot be used."""
    import vitq

    data = _meant(given.images_needed("labelled images are needed to measure accuracy"))
    with _one_line(), phases(plain_console(quiet)) as progress:
        found = vitq.evaluate(given.model, data, limit=limit, batch=batch, progress=progress, **given.words())
    printer.text(found.table().render(_named(printer)))
    return 0


def sensitivity(
    given: Given,
    bits: str,
    out: Path | None,
    *,
    by: Any,
    mode: Any,
    scope: str,
    limit: int | None,
    images: int | None,
    seed: int,
    quiet: bool,
    printer: Printer,
) -> int:
    """`vitq sensitivity`: 0 when the table was printed, and the picture drawn where `out` names one."""
    import vitq

    if out is not None:
        _check_file(out, (".png", ".svg", ".pdf"), overwrite=True)
    data = _meant(given.images_needed("labelled images are needed to measure accuracy"))
    with _one_line(), phases(plain_console(quiet)) as progress:
        found = vitq.sensitivity(
            given.model, data, bits=bits, by=by, mode=mode, scope=scope, limit=limit, images=images, seed=seed,
            progress=progress, **given.words(),
        )  # fmt: skip
    printer.text(found.table().render(_named(printer)))
    printer.note(found.title)
    if out is not None:
        printer.note(f"drawn in {found.plot(out)}")
    return 0


def _meant(data: str | Path | None) -> str | Path | None:
    """The data for the Python interface, where one word may be either: the command line has told a name from a path."""
    return f"{DATASET}{data}" if isinstance(data, str) else data


def _named(printer: Printer) -> Any:
    """The format by the name that the Python interface has for it."""
    return "md" if printer.fmt == "markdown" else printer.fmt


def _check_file(path: Path, suffixes: str | tuple[str, ...], overwrite: bool) -> None:
    """Refuse, before hours are spent, a file that cannot be written in the end."""
    if not path.name.lower().endswith(suffixes):
        ends = suffixes if isinstance(suffixes, str) else ", ".join(suffixes)
        raise BadInputError(f"-o {path}: its name must end in {ends}")
    if not path.parent.is_dir():
        raise BadInputError(f"-o {path}: {path.parent} is no folder")
    if path.exists() and not (overwrite and path.is_file()):
        raise BadInputError(f"{path} is there already: give --overwrite, or another name")


@contextmanager
def _one_line() -> Iterator[None]:
    """What a method has no form of is a line for the user, as bad input is; so is, once, what they are warned of."""
    told: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        before = warnings.showwarning

        def tell(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
            if not issubclass(category, UserWarning):
                before(message, category, *where, **more)
            elif str(message) not in told:
                told.add(str(message))
                say(str(message))

        warnings.showwarning = tell
        try:
            yield
        except UnsupportedError as error:
            raise BadInputError(f"unsupported: {error}") from error
