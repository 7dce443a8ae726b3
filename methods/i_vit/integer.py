"""The integer form: int8 image codes in, int32 logits (or int8 features) out, and no floating-point tensor between.

`integer(network, size)` reads the scales that every node saw and turns it into weights, biases, dyadic numbers and
integer constants, all buffers. Only the image's quantization and one multiplication of the result are left in floating
point.
"""

from __future__ import annotations

import copy

import torch

from vitq.errors import UnsupportedError
from vitq.methods.i_vit.network import Network
from vitq.methods.i_vit.nodes import Node


@torch.no_grad()
def integer(network: Network, size: tuple[int, ...] = ()) -> Network:
    """The integer form of a calibrated network in the paper's arithmetic, a new module.

    `size` is the input's [C, H, W], by default that of the images that the network saw last. Raises UnsupportedError
    for the release arithmetic, which is a float32 simulation and has no integer form.
    """
    if network.forms.arithmetic != "paper":
        raise UnsupportedError("only the paper's arithmetic has an integer form: set arithmetic to 'paper'")
    form = copy.deepcopy(network).eval()
    form.note_scales(size)
    for path, node in list(form.named_modules()):
        if isinstance(node, Node):
            form.set_submodule(path, node.integer())
    return form
