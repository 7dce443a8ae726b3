"""A method's card: its paper, regime, fidelity, and every hyper-parameter with where its value comes from."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module, resources
from importlib.util import find_spec
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict

from vitq.methods.bits import Bits
from vitq.options import declared

Fidelity = Literal["released-code", "paper", "reconstruction", "baseline"]


class Hyperparameter(BaseModel):
    """One option: its default, the values it takes, the source of the default, and whether its value names a file.

    `type` is what its values are, where neither the default nor the choices show it.
    """

    model_config = ConfigDict(extra="forbid")
    name: str
    default: Any
    type: Literal["whole", "number", "text"] | None = None
    choices: list[Any] | None = None
    source: str
    note: str = ""
    file: bool = False


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
    hyperparameters: list[Hyperparameter] = []
    differences: list[str] = []
    others_could_not_reproduce: list[str] = []
    compared: str = ""
    """What was held against the released code, and how closely."""
    notes: list[str] = []

    def reads_data(self, what: str, options: Mapping[str, Any]) -> bool:
        """Whether `calibration` or `training` data decide the numbers under these options."""
        defaults = {h.name: h.default for h in self.hyperparameters}
        said = {str(name): condition for name, condition in self.reads.items()}.get(what, [])
        given = {**defaults, **options}
        return any(when.holds(given) for when in (said if isinstance(said, list) else [said]))


@cache
def all_cards() -> dict[str, Card]:
    """Every method's card by name."""
    folder = resources.files("vitq.methods")
    files = [f / "card.yaml" for f in sorted(folder.iterdir(), key=str)]
    texts = [file.read_text(encoding="utf-8") for file in files if file.is_file()]
    cards = [_with_options(Card.model_validate(yaml.safe_load(text))) for text in texts]
    return {card.name: card for card in cards}


def _with_options(card: Card) -> Card:
    """The card with the options that its method declares."""
    name = f"vitq.methods.{card.name}.options"
    if find_spec(name) is None:
        return card
    found = [
        Hyperparameter(
            name=o.name, default=list(o.default) if o.kind == "list" else o.default,
            type=o.kind if o.kind in ("whole", "number", "text") else None,  # type: ignore[arg-type]
            choices=None if o.choices is None else list(o.choices), source=o.source, note=o.note, file=o.file,
        )
        for o in declared(import_module(name).Options).values()
    ]  # fmt: skip
    return card.model_copy(update={"hyperparameters": found})
