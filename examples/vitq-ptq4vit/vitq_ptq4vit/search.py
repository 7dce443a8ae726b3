"""The search for scales: of some candidates the one whose output is nearest, by Hessian-guided distance or cosine.

A layer is seen as the floating-point model runs it: its operands, its output o, and g, the loss's derivative by o.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vitq_ptq4vit.quantizers import SearchedQuantizer

Run = Callable[[Tensor, Tensor], Tensor]
"""A layer's or product's output of its two operands: input and weight, or left and right."""


@dataclass
class Seen:
    """Operands, output and gradient of one layer over all calibration images; a layer's right operand is its weight.

    `features` is the output's dimension that a layer's weights give; None for a product, whose heads are dimension 1.
    """

    left: Tensor
    right: Tensor
    output: Tensor
    gradient: Tensor | None
    features: int | None

    def score(self, output: Tensor, groups: int) -> Tensor:
        """How far an output is from what it should be, [groups] of features or heads; the least wins."""
        return self.hessian(output, groups) if self.gradient is not None else self.cosine(output, groups)

    def hessian(self, output: Tensor, groups: int) -> Tensor:
        """sum (g (o - o_hat))^2, which a mean over tokens and features divides by a constant."""
        assert self.gradient is not None
        error = (self.output - output).mul_(self.gradient).square_()
        return error.movedim(self.grouped, 0).reshape(groups, -1).sum(1)

    def cosine(self, output: Tensor, groups: int) -> Tensor:
        """Minus the mean cosine of the output's features, within each group of them or in each head."""
        if self.features is None:
            near = F.cosine_similarity(self.output, output, dim=-1).movedim(1, -1)
        else:
            last = [t.movedim(self.features, -1) for t in (self.output, output)]
            whole, found = (t.reshape(*t.shape[:-1], groups, -1) for t in last)
            near = F.cosine_similarity(whole, found, dim=-1)
        return -near.flatten(0, -2).mean(0).view(groups, -1).mean(1)

    @property
    def grouped(self) -> int:
        """The output's dimension whose parts have scores of their own."""
        return 1 if self.features is None else self.features


def multipliers(low: float, high: float, candidates: int) -> Tensor:
    """low + i (high - low)/n for i = 0..n-1: the last of the n + 1 values is not tried."""
    return low + torch.arange(candidates) * (high - low) / candidates


def search_layer(
    seen: Seen, run: Run, weight: SearchedQuantizer, inputs: SearchedQuantizer | None, factors: Tensor, rounds: int
) -> None:
    """Weight, then input, each with the other at its current scale, for some rounds; a weight alone takes one."""
    begin(weight, seen.right)
    if inputs is None:
        search(weight, seen.right, factors, lambda w: run(seen.left, w), seen)
        return
    begin(inputs, seen.left)
    for _ in range(rounds):
        x = inputs.fake_quant(seen.left)
        search(weight, seen.right, factors, lambda w, x=x: run(x, w), seen)  # type: ignore[misc]
        w = weight.fake_quant(seen.right)
        search(inputs, seen.left, factors, lambda x, w=w: run(x, w), seen)  # type: ignore[misc]


def search_product(
    seen: Seen, left: SearchedQuantizer, right: SearchedQuantizer, factors: Tensor, rounds: int, alone: bool
) -> None:
    """Left, then right operand, each with the other at its current scale; `alone` searches the left beside FP."""
    begin(left, seen.left)
    begin(right, seen.right)
    for _ in range(rounds):
        b = seen.right if alone else right.fake_quant(seen.right)
        search(left, seen.left, factors, lambda a, b=b: a @ b, seen)  # type: ignore[misc]
        a = left.fake_quant(seen.left)
        search(right, seen.right, factors, lambda b, a=a: a @ b, seen)  # type: ignore[misc]


def begin(quantizer: SearchedQuantizer, x: Tensor) -> None:
    """The scale that a search of the other operand meets first."""
    quantizer.set_scale(quantizer.candidates(x, torch.ones(1, device=x.device))[0])


def search(
    quantizer: SearchedQuantizer, x: Tensor, factors: Tensor, output: Callable[[Tensor], Tensor], seen: Seen
) -> None:
    """Give the quantizer of x the candidate of least score, each group its own, the first of equals."""
    candidates = quantizer.candidates(x, factors.to(x))
    scores = []
    for candidate in candidates:
        quantizer.set_scale(candidate)
        scores.append(seen.score(output(quantizer.fake_quant(x)), candidates.shape[1]))
    best = torch.stack(scores).argmin(0)
    quantizer.set_scale(candidates.gather(0, best[None]).squeeze(0))
