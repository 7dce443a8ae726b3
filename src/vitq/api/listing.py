"""What there is, by name: methods, models, data sets, runtimes and suites, and a method's card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitq.errors import BadInputError
from vitq.globs import matching
from vitq.words import unknown

if TYPE_CHECKING:
    from vitq.methods.cards import Card


def list_methods(pattern: str = "*") -> list[str]:
    """Names of methods that a pattern fits, ours and those of other packages.

    Example:
        >>> vitq.list_methods("*psaq*")
        ['psaq_vit', 'psaq_vit_v2']
    """
    from vitq.methods.cards import all_cards

    return matching(all_cards(), pattern)


def list_models(pattern: str = "*", *, timm: bool = False) -> list[str]:
    """Names of models that a pattern fits; with `timm` also timm's architectures, and those with each of their tags.

    Example:
        >>> vitq.list_models("deit*")
        ['deit_tiny_patch16_224.fb_in1k', 'deit_small_patch16_224.fb_in1k', 'deit_base_patch16_224.fb_in1k']
    """
    from vitq.tasks.names import model_names

    names = model_names()
    if timm:
        from vitq.tasks.own_models import timm_names

        names = list(dict.fromkeys([*names, *timm_names()]))
    return matching(names, pattern)


def list_datasets(pattern: str = "*") -> list[str]:
    """Names of data sets that a pattern fits, ours and those of other packages.

    Example:
        >>> vitq.list_datasets("imagenet*")
        ['imagenet-1k', 'imagenet-proxy']
    """
    from vitq.datasets.registry import DATASETS

    return matching(DATASETS.names(), pattern)


def list_runtimes(pattern: str = "*") -> list[str]:
    """Names of runtimes that a pattern fits, whether what they need is installed or not.

    Example:
        >>> vitq.list_runtimes("onnx*")
        ['onnxruntime', 'onnxruntime-integer']
    """
    from vitq.benchmarks.runtimes.registry import RUNTIMES

    return matching(RUNTIMES.names(), pattern)


def list_suites(pattern: str = "*") -> list[str]:
    """Names of the suites that come with vitq and that a pattern fits.

    Example:
        >>> vitq.list_suites("*seeds")
        ['digits-seeds']
    """
    from vitq.benchmarks.plan.suite import shipped_suites

    return matching(shipped_suites(), pattern)


def method_card(name: str) -> Card:
    """A method's card: paper, regime, fidelity, what it supports and reads, its `options` with default and source.

    BadInputError, with the nearest names, for a method that is not there.

    Example:
        >>> card = vitq.method_card("repq_vit")
        >>> card.fidelity, card.options["layernorm"].default
        ('released-code', 'reparam')
    """
    from vitq.methods.cards import all_cards

    cards = all_cards()
    if name not in cards:
        raise BadInputError(unknown("method", name, cards))
    return cards[name]
