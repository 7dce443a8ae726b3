"""What happens to tokens before the blocks: the class token joins, and learnt values are laid out to be added."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from vitq.methods.i_vit.forms import Forms, Width
from vitq.methods.i_vit.grids import Output, Scaled
from vitq.methods.i_vit.nodes import IntegerNode, Node, fill
from vitq.methods.toolkit.stored import Packed, State


class ClassToken(Node):
    """Puts the class token before the patches, on the patches' grid."""

    def __init__(self, token: nn.Parameter, forms: Forms) -> None:
        super().__init__(forms)
        self.token = token

    def forward(self, x: Scaled) -> Scaled:
        """[B, N, C] -> [B, 1+N, C]; the token keeps its real value here and is rounded by the next requantization."""
        self.note(x)
        return Scaled(torch.cat([self.token.expand(x.value.shape[0], -1, -1), x.value], 1), x.scale)

    def kept(self) -> State:
        """The token in floating point, since it shares a grid that need not reach it."""
        return {"token": self.token.detach()}

    def take(self, state: dict[str, Tensor]) -> None:
        """The token."""
        fill(self.token, state["token"])

    def integer(self) -> IntegerClassToken:
        """Its integer form."""
        return IntegerClassToken(self)

    def shipped(self) -> list[Packed]:
        """The token in 32 bits."""
        return [Packed("token", self.token.numel(), 32)]


class IntegerClassToken(IntegerNode):
    """The class token as integers on the patches' grid."""

    token: Tensor

    def __init__(self, node: ClassToken) -> None:
        super().__init__()
        limit = 2.0**30
        codes = torch.round(node.token.detach() / node.in_scales[0]).clamp(-limit, limit)
        self.register_buffer("token", codes.to(torch.int32))

    def forward(self, codes: Tensor) -> Tensor:
        """[B, N, C] -> [B, 1+N, C]."""
        return torch.cat([self.token.expand(codes.shape[0], -1, -1), codes.to(torch.int32)], 1)


class Regrid(Node):
    """One more requantization, which the released Swin has after its patch embedding; release alone has it."""

    def __init__(self, width: Width, forms: Forms, device: torch.device) -> None:
        super().__init__(forms)
        self.out = Output(width, forms, device)

    def forward(self, x: Scaled) -> Scaled:
        """Same shape."""
        self.note(x)
        return self.out(x)  # type: ignore[no-any-return]


class Whole(nn.Module):
    """Adds the learnt values as they are: positions."""

    def forward(self, values: Tensor, *_: int) -> Tensor:
        """Same."""
        return values


class Resized(nn.Module):
    """Positions of a map of any size, by the library's own interpolation; integers stay integers, rounded once.

    They depend on an image's size alone, so that a deployed model makes them once for each size that it serves.
    """

    def __init__(self, resize: Callable[[Tensor, int, int], Tensor]) -> None:
        super().__init__()
        self.resize = resize

    def forward(self, values: Tensor, height: int, width: int) -> Tensor:
        """[1, class tokens + N, C] to as many places as the map has."""
        if values.is_floating_point():
            return self.resize(values, height, width)
        return torch.round(self.resize(values.double(), height, width)).to(values.dtype)


class RelativeBias(nn.Module):
    """Gathers the relative-position bias of a window, [1, heads, N, N], from its table [offsets, heads]."""

    index: Tensor

    def __init__(self, index: Tensor) -> None:
        super().__init__()
        self.side = index.shape[0]
        self.register_buffer("index", index.reshape(-1).clone(), persistent=False)

    def forward(self, table: Tensor, *_: int) -> Tensor:
        """The table, or its codes, to the bias."""
        return table[self.index].view(self.side, self.side, -1).permute(2, 0, 1).unsqueeze(0)
