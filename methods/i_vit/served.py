"""Which transformers I-ViT has integer operators for, asked of their roles; anything else is said in one line."""

from __future__ import annotations

from torch import nn

from vitq.errors import UnsupportedError
from vitq.methods.architectures.roles import Roles

POOLING = {"tokens": "class_token", "map": "mean"}
"""What a classifier may read, by the layout of the features."""


def refuse_unserved(known: Roles) -> None:
    """UnsupportedError for a part that is no whole transformer, or that computes what has no integer operator here."""
    if known.whole is None:
        raise UnsupportedError("I-ViT builds a network of its own and needs a whole transformer, not blocks of one")
    if known.whole:
        raise UnsupportedError(
            f"I-ViT builds a network of its own for a transformer alone: give the scope of {known.whole!r} in this part"
        )
    wrong = [*known.beside, *_wrong_ends(known)]
    if wrong:
        raise UnsupportedError(f"I-ViT does not serve {wrong[0]}, of which it has no integer form")


def _wrong_ends(known: Roles) -> list[str]:
    ends = known.ends
    if ends.head is None:
        return []
    before = [norm for norm in ends.norms if norm not in ends.after_pooling]
    wrong = {
        f"a classifier on global pooling other than {POOLING[known.layout]}": ends.pooling != POOLING[known.layout],
        "a class-token classifier without a class token": known.layout == "tokens" and not known.has_class_token,
        "a norm after pooling": bool(ends.after_pooling),
        "a classifier without a norm before it": not before,
    }
    return [what for what, found in wrong.items() if found]


def patch_projection(known: Roles) -> nn.Conv2d:
    """The patch embedding's convolution; UnsupportedError for any but one whose stride is its kernel."""
    path = known.embedding.projection
    layer = None if path is None else known.module(path)
    if not isinstance(layer, nn.Conv2d) or layer.stride != layer.kernel_size or layer.groups != 1 or _pads(layer):
        raise UnsupportedError("I-ViT serves a patch embedding that is one convolution with stride = kernel")
    return layer


def _pads(layer: nn.Conv2d) -> bool:
    return layer.padding not in ("valid", (0, 0))
