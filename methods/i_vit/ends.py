"""The two ends of the network: from real images to codes, and from codes to the real values that it gives.

I = clamp(round(x / S)), and at the other end x = S * I
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitq.methods.i_vit.forms import Forms
from vitq.methods.i_vit.grids import Output, Scaled, quantize
from vitq.methods.i_vit.nodes import IntegerNode, Node
from vitq.methods.i_vit.operators_release import straight_through
from vitq.methods.toolkit.stored import Packed


class Input(Node):
    """Quantizes the image to 8 bits; the only floating-point step of a deployed model, with the logits' last scale."""

    def __init__(self, forms: Forms, device: torch.device) -> None:
        super().__init__(forms)
        self.size: tuple[int, ...] = ()
        self.out = Output(forms.activation, forms, device)

    def forward(self, image: Tensor) -> Scaled:
        """Normalized pixels [B, 3, H, W] to a grid; the shape of an image, [C, H, W], is noted as `size`."""
        self.size = tuple(image.shape[1:])
        self.out.watch(image)
        scale = self.out.scale
        return Scaled(straight_through(quantize(image, scale, 8, self.out.paper) * scale, image), scale)

    def integer(self) -> IntegerInput:
        """Its integer form."""
        return IntegerInput(self)

    def shipped(self) -> list[Packed]:
        """The float scale of the image."""
        return [Packed("scale", 1, 32)]


class IntegerInput(IntegerNode):
    """Float image to int8 codes."""

    scale: Tensor

    def __init__(self, node: Input) -> None:
        super().__init__()
        self.register_buffer("scale", node.out.scale)

    def forward(self, image: Tensor) -> Tensor:
        """round(x/S) clamped, int8."""
        return torch.round(image / self.scale).clamp(-128, 127).to(torch.int8)


class Reals(Node):
    """The real values of what the network gives, logits or features."""

    def forward(self, x: Scaled) -> Tensor:
        """Same shape."""
        self.note(x)
        return x.value

    def integer(self) -> IntegerReals:
        """Its integer form."""
        return IntegerReals(self)

    def shipped(self) -> list[Packed]:
        """The float scale of the logits or features."""
        return [Packed("scale", 1, 32)]


class IntegerReals(IntegerNode):
    """Integers to real values; one scale for all, so that INT32 logits already have their order."""

    scale: Tensor

    def __init__(self, node: Reals) -> None:
        super().__init__()
        self.register_buffer("scale", node.in_scales[0])

    def forward(self, codes: Tensor) -> Tensor:
        """codes * S."""
        return codes * self.scale
