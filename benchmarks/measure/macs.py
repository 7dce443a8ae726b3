"""Multiply-accumulates of one forward pass, by module, counted on the meta device: no weights and no data needed.

A MAC is one multiplication with its addition; papers often print MACs as "FLOPs". Attention products are included,
normalizations, softmax and sums are not.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vitq.methods.architectures.explicit import make_explicit

Forward = Callable[[nn.Module, Tensor], Any]


def meta_copy(model: nn.Module) -> nn.Module:
    """A copy of the model whose parameters and buffers are on the meta device; no weight is read or copied."""
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    copied: nn.Module = copy.deepcopy(model, memo)
    return copied


def explicit_copy(model: nn.Module) -> nn.Module:
    """A meta copy in which every product of two activations is a module of its own, in eval mode."""
    return make_explicit(meta_copy(model)).eval()


def call(model: nn.Module, images: Tensor) -> Any:
    """The forward pass of a model that takes a tensor [B, C, H, W]."""
    return model(images)


def count_macs(model: nn.Module, size: tuple[int, int, int], forward: Forward = call) -> dict[str, int]:
    """MACs of one image [C, H, W] by the path of the module that multiplies, in the order of the module tree.

    The model is counted as it is: give `explicit_copy(model)` to see the two attention products apart, under their own
    paths. Products that no module of their own computes are listed under the module that computes them, so the sum is
    always everything. `forward` runs models that do not take a tensor [1, C, H, W].
    """
    meta = meta_copy(model).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        forward(meta, torch.empty(1, *size, device="meta"))
    # The counter adds a product to every module around it, under "Class.path"; what its children do not explain is
    # the module's own.
    counted = {name: sum(flops.values()) for name, flops in counter.get_flop_counts().items()}
    root, own = type(meta).__name__, {}
    for path, module in meta.named_modules():
        prefix = f"{root}.{path}" if path else root
        children = sum(counted.get(f"{prefix}.{name}", 0) for name, _ in module.named_children())
        flops = counted.get(prefix, 0) - children
        if flops:
            own[path] = flops // 2
    if sum(own.values()) * 2 != counter.get_total_flops():
        raise ValueError(f"the products of {root} cannot be told apart by module: a module is shared under two paths")
    return own
