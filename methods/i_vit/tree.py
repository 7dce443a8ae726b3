"""The tree of names in which I-ViT's nodes stand under the paths that their FP layers have in the model.

What flows between nodes is `Scaled` in the trainable form and an integer tensor in the integer form; only `each`, which
reshapes, can tell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from torch import Tensor, nn

from vitq.errors import UnsupportedError
from vitq.methods.i_vit.grids import Scaled

Flow = TypeVar("Flow", Tensor, Scaled)


def each(x: Flow, reshape: Callable[[Tensor], Tensor]) -> Flow:
    """Reshape, select or move what flows; the scale stays."""
    if isinstance(x, Scaled):
        return Scaled(reshape(x.value), x.scale)
    return reshape(x)


def map_size(x: Tensor | Scaled) -> tuple[int, int]:
    """Height and width of a feature map [B, H, W, C] that flows."""
    height, width = (x.value if isinstance(x, Scaled) else x).shape[1:3]
    return height, width


class Tree(nn.Module):
    """A tree of nodes by name, which computes nothing by itself.

    The model may have been called part by part where this tree is now; it says in one line that it cannot be.
    """

    def put(self, path: str, node: nn.Module) -> None:
        """Set a node at a path below; the trees between are made."""
        name, _, rest = path.partition(".")
        if not rest:
            self.add_module(name, node)
            return
        if name not in self._modules:
            self.add_module(name, Tree())
        below = self._modules[name]
        if not isinstance(below, Tree):
            raise UnsupportedError(f"I-ViT cannot put a node at {path!r}: {name!r} is a {type(below).__name__}")
        below.put(rest, node)

    def forward(self, *_: Any, **__: Any) -> Any:
        """UnsupportedError."""
        self._refuse()

    def __iter__(self) -> NoReturn:
        self._refuse()

    def __getitem__(self, _: Any) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise UnsupportedError(
            "I-ViT's network runs as a whole, and this model calls a part of it: let it call the backbone, or its "
            "forward_features"
        )
