"""The site file: where data sets, weights and results are on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vitq.benchmarks.words import describe
from vitq.errors import BadInputError
from vitq.tasks.places import Places

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Site(BaseModel):
    """One machine. Relative paths are taken from the site file's folder.

    `datasets`: data set name to folder. `weights`: any label to a folder of `<model>.safetensors`, or a model's name to
    its file. `hub`: whether weights may be fetched from the hub. `threads`: torch threads a cell (all by default).
    `workers`: processes that read images (0: none but the cell's own).
    """

    model_config = ConfigDict(extra="forbid")
    results: Path = Path("results")
    datasets: dict[str, Path] = Field(default_factory=dict)
    weights: dict[str, Path] = Field(default_factory=dict)
    hub: bool = True
    threads: int | None = Field(default=None, ge=1)
    workers: int | None = Field(default=None, ge=0)
    source: Path | None = Field(default=None, exclude=True)

    def places(self) -> Places:
        """What a task is told of it."""
        return Places(self.datasets, self.weights, self.hub, self.workers)


def load_site(path: Path | None = None) -> Site:
    """Read `path`, or `$VITQ_SITE`, or `vitq.toml` here; without any of them, defaults. Raises BadInputError."""
    named = path or (Path(os.environ["VITQ_SITE"]) if os.environ.get("VITQ_SITE") else None)
    place = named or Path("vitq.toml")
    if not place.is_file():
        if named:
            raise BadInputError(f"site file {place} is not there: create it, or drop --site and VITQ_SITE")
        return Site()
    try:
        raw = tomllib.loads(place.read_text(encoding="utf-8"))
        site = Site.model_validate(raw)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInputError(f"site file {place} is not TOML: {error}") from None
    except ValidationError as error:
        raise BadInputError(f"site file {place}: {describe(error, Site)}") from None
    base = place.resolve().parent
    return site.model_copy(
        update={
            "source": place.resolve(),
            "results": base / site.results,
            "datasets": {k: base / v.expanduser() for k, v in site.datasets.items()},
            "weights": {k: base / v.expanduser() for k, v in site.weights.items()},
        }
    )
