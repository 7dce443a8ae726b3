"""Multiply-accumulates of one forward pass, by module, counted on the meta device: no weights and no data needed.

A MAC is one multiplication with its addition; papers often print MACs as "FLOPs". Attention products are included,
normalizations, softmax and sums are not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vitq.methods.architectures.explicit import make_explicit
from vitq.methods.served import meta_copy
from vitq.subject import Batch, Output

Forward = Callable[[nn.Module, Batch], Output]


def explicit_copy(model: nn.Module) -> nn.Module:
    """A meta copy in which every product of two activations is a module of its own, in eval mode."""
    copied = make_explicit(meta_copy(model))
    copied.eval()
    return copied


def count_macs(model: nn.Module, sample: Batch, forward: Forward) -> dict[str, int]:
    """MACs of one sample by the path of the module that multiplies, in the order of the module tree.

    `sample` is a batch of one sample on the meta device, `forward` the task's forward pass. The model is counted as it
    is: give `explicit_copy(model)` to see the two attention products apart, under their own paths. Products that no
    module of their own computes are listed under the module that computes them, so the sum is always everything; a
    module that is called several times is counted as often.
    """
    meta = meta_copy(model)
    meta.eval()  # not chained: mm's backbones return nothing
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        _Pass(meta, forward)(sample)
    # The counter adds a product to every module around it that was called, under "Class.path"; what the modules called
    # inside it do not explain is the module's own.
    counted = {name: sum(flops.values()) for name, flops in counter.get_flop_counts().items()}
    root, own = f"{_Pass.__name__}.model", {}
    for path, module in meta.named_modules():
        prefix = f"{root}.{path}" if path else root
        flops = counted.get(prefix, 0) - (_inside(module, prefix, counted) if prefix in counted else 0)
        if flops:
            own[path] = flops // 2
    if sum(own.values()) * 2 != counter.get_total_flops():
        raise ValueError(
            f"the products of {type(meta).__name__} cannot be told apart by module: a module is shared under two paths"
        )
    return own


class _Pass(nn.Module):
    """A forward pass as a module, so that every module of the model has its path, whichever of them is called first."""

    def __init__(self, model: nn.Module, forward: Forward) -> None:
        super().__init__()
        self.model, self.run = model, forward

    def forward(self, sample: Batch) -> Output:
        """What the task makes of the sample."""
        return self.run(self.model, sample)


def _inside(module: nn.Module, prefix: str, counted: Mapping[str, int]) -> int:
    """What the nearest modules inside account for; one that only lends its functions or its children was not called."""
    total = 0
    for name, child in module.named_children():
        path = f"{prefix}.{name}"
        total += counted[path] if path in counted else _inside(child, path, counted)
    return total
