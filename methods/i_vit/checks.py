"""What the released arithmetic cannot compute, said before it is computed wrongly: zeros that it would divide by."""

from __future__ import annotations

from typing import cast

import torch

from vitq.errors import MethodInputError, UnsupportedError
from vitq.methods.i_vit.bounds import MAX_CHANNELS, MAX_INPUTS
from vitq.methods.i_vit.ends import Input
from vitq.methods.i_vit.grids import Output
from vitq.methods.i_vit.layernorm import LayerNorm
from vitq.methods.i_vit.linear import Linear
from vitq.methods.i_vit.network import Network
from vitq.methods.i_vit.nodes import Node

REMEDY = "use arithmetic 'paper', which serves it"


def refuse_too_wide(network: Network) -> Network:
    """The network; UnsupportedError for sums longer than the analysis of `bounds` proves to fit their integers."""
    for path, node in network.named_modules():
        if isinstance(node, Linear) and node.weight[0].numel() > MAX_INPUTS:
            raise UnsupportedError(f"{path} sums {node.weight[0].numel()} products, {MAX_INPUTS} are sure to fit INT32")
        if isinstance(node, LayerNorm) and node.weight.numel() > MAX_CHANNELS:
            raise UnsupportedError(
                f"{path} is over {node.weight.numel()} channels, {MAX_CHANNELS} are sure to fit INT64"
            )
    return network


@torch.no_grad()
def refuse_zero_gammas(network: Network) -> None:
    """MethodInputError for a LayerNorm weight of 0, by which the released I-LayerNorm divides."""
    for path, node in network.named_modules():
        if isinstance(node, LayerNorm) and node.release and not bool((node.weight != 0).all()):
            raise MethodInputError(
                f"a LayerNorm weight of {path} is 0, by which the release arithmetic divides: {REMEDY}"
            )


@torch.no_grad()
def refuse_unfit_grids(network: Network) -> None:
    """MethodInputError for images without a range, and for grids on which the released code goes wrong in silence.

    A range of zero (an activation that is 0 throughout, as pruned models have them) gives the smallest scale there is,
    with which Shiftmax and ShiftGELU overflow; a bias that is large for its scale is clipped to INT32.
    """
    if bool(cast("Input", network.input).out.bound == 0):
        raise MethodInputError("the calibration images are 0 throughout, which is no range: give others")
    for path, node in network.named_modules():
        if isinstance(node, Node) and node.forms.arithmetic == "release":
            _refuse_zero_range(path, node)
        if isinstance(node, Linear) and not node.exact:
            _refuse_clipped_bias(path, node)


def _refuse_zero_range(path: str, node: Node) -> None:
    out = getattr(node, "out", None)
    if isinstance(out, Output) and bool(out.bound == 0):
        raise MethodInputError(f"{path} gave nothing but 0, and the release arithmetic has no grid for that: {REMEDY}")


def _refuse_clipped_bias(path: str, node: Linear) -> None:
    if node.bias is None:
        return
    scale = node.weight_grid(node.in_scales[0])[1] * node.in_scales[0]
    if bool((node.bias.abs() / scale > 2.0**31).any()):
        raise MethodInputError(
            f"a bias of {path}, whose weights or inputs are almost 0, is clipped to INT32 in release: {REMEDY}"
        )
