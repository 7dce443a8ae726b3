"""What the networks of I-ViT share: the flow between nodes, from the images in to the classifier and the logits out.

What flows between nodes is `Scaled` in the trainable form and an integer tensor in the integer form; only `each`, which
reshapes, can tell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from vitq.errors import UnsupportedError
from vitq.methods.i_vit import products, sums
from vitq.methods.i_vit.grids import Node, Scaled
from vitq.methods.i_vit.plan import Plan
from vitq.methods.toolkit.layers import Packed

Flow = TypeVar("Flow", Tensor, Scaled)


def each(x: Flow, reshape: Callable[[Tensor], Tensor]) -> Flow:
    """Reshape, select or move what flows; the scale stays."""
    if isinstance(x, Scaled):
        return Scaled(reshape(x.value), x.scale)
    return reshape(x)


class LogitsOut(Node):
    """The logits' real values, from what the head gives."""

    def forward(self, x: Scaled) -> Tensor:
        """[B, classes]."""
        return x.value

    def shipped(self) -> list[Packed]:
        """The float scale of the logits."""
        return [Packed("scale", 1, 32)]


def classifier(head: nn.Module, plan: Plan) -> products.Linear:
    """The classifier; in the paper's arithmetic its accumulators are brought to one INT32 scale, to be comparable."""
    if not isinstance(head, nn.Linear):
        raise UnsupportedError("I-ViT needs a linear classifier at the end of the model")
    return products.Linear(head, plan.residual if plan.paper("residual") else None, plan)


class _Head(nn.Module):
    def __init__(self, head: Any, plan: Plan, device: torch.device) -> None:
        super().__init__()
        self.global_pool = sums.Pool(plan, device)
        self.fc = classifier(head.fc, plan)

    def forward(self, x: Flow) -> Flow:
        return self.fc(self.global_pool(x))  # type: ignore[no-any-return]


class Network(nn.Module):
    """What both networks share: images in, real logits out, `run` between on what flows."""

    input: nn.Module
    output: nn.Module

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan

    def logits_scale(self) -> Tensor:
        """The scale of the classifier's INT32 output, in the paper's arithmetic."""
        head = self.head.fc if isinstance(self.head, _Head) else self.head
        assert isinstance(head, products.Linear)
        assert head.out is not None
        return head.out.scale

    @torch.no_grad()
    def note_scales(self, size: tuple[int, int, int]) -> None:
        """Let every node note the scales that it is given, by a pass over an image [C, H, W] of zeros, in eval mode."""
        training = self.training
        self.eval()(torch.zeros(1, *size, device=next(self.parameters()).device))
        self.train(training)

    def run(self, x: Flow) -> Flow:  # noqa: ARG002
        """The network from the quantized image to the logits; integers to integers in the integer form."""
        raise TypeError(f"{type(self).__name__} is no network of its own")

    def forward(self, image: Tensor) -> Tensor:
        """Normalized images [B, 3, H, W] to logits [B, classes]; in full precision, which codes need."""
        with torch.autocast(image.device.type, enabled=False):
            logits: Tensor = self.output(self.run(self.input(image.float())))
        return logits


def depth_rates(rate: float, depth: int) -> list[float]:
    """Drop-path rates that rise linearly from 0 in the first block to `rate` in the last, as in timm."""
    return [rate * i / max(depth - 1, 1) for i in range(depth)]
