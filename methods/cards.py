"""A method's card: its paper, regime, fidelity, what it supports and reads, and its options as it declares them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from vitq.errors import BadInputError
from vitq.methods.bits import Bits
from vitq.methods.registry import CARD, METHODS
from vitq.options import Declared, declared
from vitq.registry import OURS, Offer
from vitq.words import describe

Fidelity = Literal["released-code", "paper", "reconstruction", "baseline"]


class Supports(BaseModel):
    """Which widths the method has a meaning for, and why no others: read when cells are listed, without torch."""

    model_config = ConfigDict(extra="forbid")
    weights: list[int]
    activations: list[int]
    reason: str

    def refuses(self, bits: Bits) -> str | None:
        """The reason when these widths cannot be had, else None."""
        return None if bits.w in self.weights and bits.a in self.activations else self.reason


class When(BaseModel):
    """Under which options: where each named one has one of its values (`only`) and none of those of `unless`."""

    model_config = ConfigDict(extra="forbid")
    only: dict[str, list[Any]] = {}
    unless: dict[str, list[Any]] = {}

    def holds(self, options: Mapping[str, Any]) -> bool:
        """Whether these options are such."""
        inside = all(options.get(name) in values for name, values in self.only.items())
        return inside and not any(options.get(name) in values for name, values in self.unless.items())


class Card(BaseModel):
    """What `card.yaml` in a method's package says.

    `reads` says which data decide the method's numbers, and under which options (any of several): a run that reads
    other data fails.
    `widths_depend_on_data` where size and operations cannot be known before the method has seen data.
    """

    model_config = ConfigDict(extra="forbid")
    name: str
    title: str
    paper: str
    venue: str = ""
    arxiv: str = ""
    regime: Literal["baseline", "PTQ", "data-free", "QAT", "mixed precision"]
    fidelity: Fidelity
    summary: str
    reads: dict[Literal["calibration", "training"], When | list[When]] = {}
    widths_depend_on_data: bool = False
    supports: Supports = Supports(weights=list(range(1, 17)), activations=list(range(1, 17)), reason="")
    differences: list[str] = []
    others_could_not_reproduce: list[str] = []
    compared: str = ""
    """What was held against the released code, and how closely."""
    notes: list[str] = []

    @cached_property
    def options(self) -> dict[str, Declared]:
        """The method's options by name, as its `options.py` declares them; imports no torch."""
        return declared(METHODS.load(self.name, "options").Options)

    def reads_data(self, what: str, options: Mapping[str, Any]) -> bool:
        """Whether `calibration` or `training` data decide the numbers under these options."""
        said = {str(name): condition for name, condition in self.reads.items()}.get(what, [])
        given = {**{name: known.recorded for name, known in self.options.items()}, **options}
        return any(when.holds(given) for when in (said if isinstance(said, list) else [said]))


def all_cards() -> Mapping[str, Card]:
    """Every method's card by name; another package's is read when it is asked for, so that it spoils no other.

    BadInputError for a card of another package that is missing or broken, and where two packages offer one name.
    """
    for name in METHODS.ours:
        _read(name, METHODS.offer(name))
    return _Cards()


class _Cards(Mapping[str, Card]):
    def __getitem__(self, name: str) -> Card:
        if name not in METHODS.names():
            raise KeyError(name)
        return _read(name, METHODS.offer(name))

    def __contains__(self, name: object) -> bool:
        return name in METHODS.names()

    def __iter__(self) -> Iterator[str]:
        return iter(METHODS.names())

    def __len__(self) -> int:
        return len(METHODS.names())


@cache
def _read(name: str, offer: Offer) -> Card:
    """A method's card, from its package's own files; the package is not imported."""
    if offer.distribution == OURS:
        return Card.model_validate(yaml.safe_load((resources.files("vitq.methods") / name / CARD).read_text("utf-8")))
    try:
        card = Card.model_validate(yaml.safe_load((_folder(offer.module) / CARD).read_text("utf-8")))
        if card.name != name:
            raise ValueError(f"it is called {card.name!r} there")
    except (OSError, ValueError, yaml.YAMLError) as error:
        said = describe(error, Card) if isinstance(error, ValidationError) else " ".join(str(error).split())
        raise BadInputError(f"{METHODS.described(name)} has no usable {CARD}: {said}") from None
    return card


def _folder(package: str) -> Path:
    """The folder of a package; FileNotFoundError where there is none. No parent of it is imported."""
    top, *below = package.split(".")
    spec = find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"no package is called {top}")
    return Path(spec.submodule_search_locations[0]).joinpath(*below)
