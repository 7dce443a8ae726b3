"""What there is, by name: methods, models, data sets, runtimes and suites, and a method's card."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vitq.methods.cards import Card


def list_methods(pattern: str = "*") -> list[str]:
    """Names of methods that a pattern fits (`repq*`), ours and those of other packages."""
    raise NotImplementedError


def list_models(pattern: str = "*", *, timm: bool = False) -> list[str]:
    """Names of models that a pattern fits; with `timm` also every architecture and tag that timm knows."""
    raise NotImplementedError


def list_datasets(pattern: str = "*") -> list[str]:
    """Names of data sets that a pattern fits."""
    raise NotImplementedError


def list_runtimes(pattern: str = "*") -> list[str]:
    """Names of runtimes that a pattern fits."""
    raise NotImplementedError


def list_suites(pattern: str = "*") -> list[str]:
    """Names of the suites that come with vitq and that a pattern fits."""
    raise NotImplementedError


def method_card(name: str) -> Card:
    """A method's card: paper, regime, fidelity, what it supports, its options with defaults and sources."""
    raise NotImplementedError
