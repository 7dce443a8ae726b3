"""Which models have an integer graph, said without the packages that write it."""

from __future__ import annotations

from torch import nn

from vitq.methods.i_vit.ends import IntegerInput
from vitq.methods.i_vit.network import Network


def unsupported(model: nn.Module, exec: str) -> str | None:
    """Why a model has no integer graph, or None, as far as that shows before it is written."""
    if exec != "integer-only:torch":
        return f"the integer graph is of integer-only:torch models, not of {exec}"
    if not isinstance(model, Network) or not isinstance(model.input, IntegerInput):
        return "the integer graph is of an I-ViT network in integers that is the whole model"
    if model.layout != "tokens" or not model.classifies or model.levels:
        return "the integer graph serves classifiers of tokens, ViT and DeiT, not maps (Swin) or backbones"
    return None
