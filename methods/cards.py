"""A method's card: its paper, regime, fidelity, and every hyper-parameter with where its value comes from."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict

from vitq.methods.bits import Bits

Fidelity = Literal["released-code", "paper", "reconstruction", "baseline"]


class Hyperparameter(BaseModel):
    """One option: its default, the values it takes, and the source of the default.

    `type` is what its values are, where neither the default nor the choices show it.
    """

    model_config = ConfigDict(extra="forbid")
    name: str
    default: Any
    type: Literal["whole", "number", "text"] | None = None
    choices: list[Any] | None = None
    source: str
    note: str = ""


class Supports(BaseModel):
    """Which widths the method has a meaning for, and why no others: read when cells are listed, without torch."""

    model_config = ConfigDict(extra="forbid")
    weights: list[int]
    activations: list[int]
    reason: str

    def refuses(self, bits: Bits) -> str | None:
        """The reason when these widths cannot be had, else None."""
        return None if bits.w in self.weights and bits.a in self.activations else self.reason


class Card(BaseModel):
    """What `<method>.yaml` beside `<method>.py` says; `version` rises when the same options give other results."""

    model_config = ConfigDict(extra="forbid")
    name: str
    version: int = 1
    title: str
    paper: str
    venue: str = ""
    arxiv: str = ""
    regime: Literal["baseline", "PTQ", "data-free", "QAT", "mixed precision"]
    fidelity: Fidelity
    summary: str
    supports: Supports = Supports(weights=list(range(1, 17)), activations=list(range(1, 17)), reason="")
    hyperparameters: list[Hyperparameter] = []
    differences: list[str] = []
    others_could_not_reproduce: list[str] = []
    notes: list[str] = []


@cache
def all_cards() -> dict[str, Card]:
    """Every method's card by name."""
    folder = resources.files("vitq.methods")
    texts = [f.read_text(encoding="utf-8") for f in sorted(folder.iterdir(), key=str) if f.name.endswith(".yaml")]
    cards = [Card.model_validate(yaml.safe_load(text)) for text in texts]
    return {card.name: card for card in cards}
