"""The mask between windows that are no neighbours, 0 or -100, as one integer on the logits' grid: round(-100 / S)."""

from __future__ import annotations

import torch
from torch import Tensor

from vitq.errors import UnsupportedError
from vitq.methods.i_vit.forms import Forms
from vitq.methods.i_vit.grids import Scaled
from vitq.methods.i_vit.nodes import IntegerNode, Node
from vitq.methods.toolkit.stored import Packed

MASKED = -100.0
"""What Swin adds to the logits of tokens that are no neighbours."""


class Mask(Node):
    """Adds the mask, 0 or -100 between windows, to the logits; it widens the codes beyond 8 bits.

    UnsupportedError for any other mask.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, forms: Forms) -> None:
        super().__init__(forms)
        if not mask.is_meta and not bool(((mask == 0) | (mask == MASKED)).all()):
            raise UnsupportedError(f"I-ViT serves an attention mask of 0 and {MASKED:.0f} alone")
        self.register_buffer("mask", mask.detach().clone(), persistent=False)

    @staticmethod
    def code(scale: Tensor) -> Tensor:
        """round(-100/S), int64, within 2^30."""
        return torch.round(MASKED / scale.double()).clamp(min=-(2.0**30)).to(torch.int64)

    def forward(self, x: Scaled) -> Scaled:
        """[B*windows, heads, n, n], the windows of an image in order."""
        self.note(x)
        windows, n = self.mask.shape[0], self.mask.shape[1]
        value = x.value.reshape(-1, windows, x.value.shape[1], n, n) + self.mask[:, None]
        return Scaled(value.reshape(x.value.shape), x.scale)

    def integer(self) -> IntegerMask:
        """Its integer form."""
        return IntegerMask(self)

    def shipped(self) -> list[Packed]:
        """The code of -100; where it stands follows from the architecture."""
        return [Packed("code", 1, 32)]


class IntegerMask(IntegerNode):
    """Swin's mask on the logits' grid: one integer, added where the architecture masks."""

    code: Tensor
    masked: Tensor

    def __init__(self, node: Mask) -> None:
        super().__init__()
        self.register_buffer("code", node.code(node.in_scales[0]).to(torch.int32))
        self.register_buffer("masked", node.mask != 0, persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        """[B*windows, heads, n, n] int8 -> int32."""
        windows, n = self.masked.shape[0], self.masked.shape[1]
        split = codes.to(torch.int32).reshape(-1, windows, codes.shape[1], n, n)
        return (split + self.code * self.masked[:, None]).reshape(codes.shape)
