"""The mask between windows that are no neighbours, 0 or -100, as one integer on the logits' grid: round(-100 / S)."""

from __future__ import annotations

import torch
from torch import Tensor

from vitq.methods.architectures.roles import Windows
from vitq.methods.i_vit.forms import Forms
from vitq.methods.i_vit.grids import Scaled
from vitq.methods.i_vit.nodes import IntegerNode, Node
from vitq.methods.toolkit.stored import Packed

MASKED = -100.0
"""What Swin adds to the logits of tokens that are no neighbours."""


class Mask(Node):
    """Adds the mask, 0 or -100 between windows, to the logits; it widens the codes beyond 8 bits.

    Where the mask stands follows from the windows and from the size of each feature map.
    """

    def __init__(self, windows: Windows, forms: Forms) -> None:
        super().__init__(forms)
        self.windows = windows

    @staticmethod
    def code(scale: Tensor) -> Tensor:
        """round(-100/S), int64, within 2^30."""
        return torch.round(MASKED / scale.double()).clamp(min=-(2.0**30)).to(torch.int64)

    def forward(self, x: Scaled, height: int, width: int) -> Scaled:
        """[B*windows, heads, n, n] of feature maps of this size, the windows of an image in order."""
        self.note(x)
        apart = _apart(self.windows, height, width, x.value.device)
        windows, n = apart.shape[0], apart.shape[1]
        value = x.value.reshape(-1, windows, x.value.shape[1], n, n) + MASKED * apart[:, None]
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

    def __init__(self, node: Mask) -> None:
        super().__init__()
        self.windows = node.windows
        self.register_buffer("code", node.code(node.in_scales[0]).to(torch.int32))

    def forward(self, codes: Tensor, height: int, width: int) -> Tensor:
        """[B*windows, heads, n, n] int8 -> int32."""
        apart = _apart(self.windows, height, width, codes.device)
        windows, n = apart.shape[0], apart.shape[1]
        split = codes.to(torch.int32).reshape(-1, windows, codes.shape[1], n, n)
        return (split + self.code * apart[:, None]).reshape(codes.shape)


def _apart(windows: Windows, height: int, width: int, device: torch.device) -> Tensor:
    apart = windows.apart(height, width)
    if apart is None:
        raise ValueError("windows that are not shifted have no mask")
    return apart.to(device)
