"""The site file: where data sets, weights and results are on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from vitq.benchmarks.plan.limits import within_cores
from vitq.benchmarks.plan.tolerances import checked
from vitq.datasets.registry import DATASETS
from vitq.errors import BadInputError
from vitq.tasks import hub
from vitq.tasks.models_file import load_models_file
from vitq.tasks.names import is_model, near_miss, nearest_models, register
from vitq.tasks.places import Places
from vitq.words import describe, unknown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_BYTES = 1 << 18


def _path(value: Any) -> Any:
    """A path with `~` expanded; ValueError for what names no place."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        raise ValueError("it is empty: name a folder or a file")
    if not value.isprintable():
        raise ValueError(f"{value!r} holds control characters")
    try:
        return Path(value).expanduser()
    except RuntimeError as error:  # `~nobody`
        raise ValueError(f"{value!r}: {error}") from None


def _listed(value: Any) -> Any:
    """One file stands for a list of it."""
    return [value] if isinstance(value, str) else value


Named = Annotated[Path, BeforeValidator(_path)]
Models = Annotated[list[Named], BeforeValidator(_listed)]


class Site(BaseModel):
    """One machine. Relative paths are taken from the site file's folder.

    `datasets`: data set name to folder. `weights`: any label to a folder of `<model>.safetensors`, or a model's name to
    its file. `hub`: whether weights may be fetched from the hub. `threads`: torch threads a cell (all by default).
    `workers`: processes that read images (0: none but the cell's own). Neither may exceed the machine's cores.
    `models`: files of models of one's own (`vitq.tasks.models_file`), which every command then knows by name.
    `gate`: how far each quantity may differ from a baseline (`vitq.benchmarks.plan.tolerances`).
    `trust`: whether a detector's or segmenter's PyTorch file of unknown sha256 is taken, as by `vitq run --trust`.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    results: Named = Path("results")
    datasets: dict[str, Named] = Field(default_factory=dict)
    weights: dict[str, Named] = Field(default_factory=dict)
    models: Models = Field(default_factory=list)
    hub: bool = True
    trust: bool = False
    threads: int | None = None
    workers: int | None = None
    gate: dict[str, float] = Field(default_factory=dict)
    source: Path | None = Field(default=None, exclude=True)

    @field_validator("datasets")
    @classmethod
    def _known_data(cls, named: dict[str, Path]) -> dict[str, Path]:
        for name in named:
            if name not in DATASETS.names():
                raise ValueError(unknown("data set", name, DATASETS.names()))
            if not DATASETS.load(name).needs_folder:
                raise ValueError(f"data set {name} needs no folder: remove the line")
        return named

    @field_validator("weights")
    @classmethod
    def _no_typos(cls, named: dict[str, Path]) -> dict[str, Path]:
        """Any label will do for a folder; one that nearly is a model's name is a typo for it."""
        for label in named:
            model = near_miss(label)
            if model:
                raise ValueError(
                    f"{label!r} is no model's name; did you mean {model!r}? A folder may have another label"
                )
        return named

    @field_validator("gate")
    @classmethod
    def _known_quantities(cls, named: dict[str, float]) -> dict[str, float]:
        return checked(named)

    def knowing(self, *files: Path) -> Site:
        """The same, the models of these files known to this process, with the places of their weights."""
        weights: dict[str, Path] = {}
        for file in files:
            known = load_models_file(file)
            register(known.entries)
            weights |= known.weights
        return self.model_copy(update={"weights": {**weights, **self.weights}})

    def trusting(self, trust: bool) -> Site:
        """The same, taking published files of unknown digest where the command line or the site file says so."""
        return self.model_copy(update={"trust": self.trust or trust})

    def places(self) -> Places:
        """What a task is told of it."""
        return Places(self.datasets, self.weights, self.hub, self.workers, self.trust)


def load_site(path: Path | None = None, *, here: bool = True) -> Site:
    """Read `path`, or `$VITQ_SITE`, or `vitq.toml` here; without any of them, defaults. Raises BadInputError.

    A site that is not that of the machine `here`, for which a run is planned, may give threads that this one has not.
    """
    named = path if path is not None else _from_environment()
    file = named or Path("vitq.toml")
    if not named and not file.exists():
        hub.allow(True)
        return Site()
    try:
        site = Site.model_validate(tomllib.loads(_text(file)))
        within_cores("threads", site.threads, here=here)
        within_cores("workers", site.workers, least=0, here=here)
    except BadInputError as error:
        raise BadInputError(f"site file {file}: {error}") from None
    except ValidationError as error:
        raise BadInputError(f"site file {file}: {describe(error, Site)}") from None
    except (ValueError, RecursionError) as error:  # TOML's own errors, bad dates and numbers, other encodings, depth
        what = "nested too deep" if isinstance(error, RecursionError) else error
        raise BadInputError(f"site file {file} is not TOML: {what}") from None
    hub.allow(site.hub)
    return _absolute(site, file.resolve())


def _from_environment() -> Path | None:
    word = os.environ.get("VITQ_SITE")
    if word is None:
        return None
    if not word.strip():
        raise BadInputError("VITQ_SITE is empty: name the site file, or unset it")
    return Path(word)


def _text(file: Path) -> str:
    """The file's text; pipes and devices are never opened, since reading them may never end."""
    try:
        if not file.exists():
            raise BadInputError("is not there: create it, or drop --site and VITQ_SITE")
        if not file.is_file():
            raise BadInputError("is no regular file: give a .toml file")
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise BadInputError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MAX_BYTES:
        raise BadInputError(f"is larger than {MAX_BYTES >> 10} KiB, which no site file is")
    return data.decode("utf-8-sig")


def _absolute(site: Site, source: Path) -> Site:
    """With every path absolute. A label of [weights] that names a file must be a model's name: nobody else reads it."""
    base = source.parent
    weights = {label: base / path for label, path in site.weights.items()}
    models = [base / path for path in site.models]
    datasets = {name: base / path for name, path in site.datasets.items()}
    made = {"source": source, "results": base / site.results, "datasets": datasets, "weights": weights}
    known = site.model_copy(update={**made, "models": models}).knowing(*models)
    for label, path in weights.items():
        _model_or_folder(source, label, path)
    return known


def _model_or_folder(source: Path, label: str, path: Path) -> None:
    if path.is_file() and not is_model(label):
        raise BadInputError(
            f"site file {source}: weights.{label} is a file, but {label!r} is no model's name: name the model or "
            f"give the file's folder; {nearest_models(label)}"
        )
