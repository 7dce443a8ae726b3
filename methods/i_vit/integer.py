"""The integer form: int8 image codes in, int32 logits out, and no floating-point tensor between.

`integer(model)` reads the scales that every node saw and turns it into weights, biases, dyadic numbers and integer
constants, all buffers. Only the image's quantization and one multiplication of the logits are left in floating point.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from vitq.errors import UnsupportedError
from vitq.methods.i_vit import functions, products, sums
from vitq.methods.i_vit.integer_functions import IntegerGelu, IntegerLayerNorm, IntegerSoftmax
from vitq.methods.i_vit.integer_products import ImageIn, IntegerLinear, IntegerMatMul, LogitsOut
from vitq.methods.i_vit.integer_sums import IntegerAdd, IntegerAddConstant, IntegerClassToken, IntegerMask, IntegerPool
from vitq.methods.i_vit.network import Network
from vitq.methods.toolkit.layers import replace_modules

_FORMS = {
    products.Input: ImageIn,
    products.Linear: IntegerLinear,
    products.MatMul: IntegerMatMul,
    functions.Softmax: IntegerSoftmax,
    functions.Gelu: IntegerGelu,
    functions.Norm: IntegerLayerNorm,
    sums.Add: IntegerAdd,
    sums.AddConstant: IntegerAddConstant,
    sums.ClassToken: IntegerClassToken,
    sums.Mask: IntegerMask,
}


@torch.no_grad()
def integer(model: Network, size: tuple[int, int, int]) -> Network:
    """The integer form of a calibrated model in the paper's arithmetic, a new module; `size` is an image's [C, H, W].

    Raises UnsupportedError for the release arithmetic, which is a float32 simulation and has no integer form.
    """
    if model.plan.arithmetic != "paper":
        raise UnsupportedError("only the paper's arithmetic has an integer form: set arithmetic to 'paper'")
    model = copy.deepcopy(model).eval()
    model.note_scales(size)

    def swap(_: str, node: nn.Module) -> nn.Module | None:
        if isinstance(node, sums.Pool):
            return IntegerPool(node, node.count)
        form = _FORMS.get(type(node))
        return None if form is None else form(node)

    head_out = model.logits_scale()
    replace_modules(model, swap)
    model.output = LogitsOut(head_out)
    return model
