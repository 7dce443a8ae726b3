"""Attention products, residual sums and embeddings as modules that can be replaced and observed.

Libraries compute attention with a fused kernel and add residuals with `+`. Here every product and every sum becomes a
module with a name, so that a method can quantize its operands and accounting can count it. A module is made explicit
by changing its class in place: parameters, buffers and their names stay as they are, and so does the function.

A family of architectures says which of its classes have which explicit form, and names the roles of their modules.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from torch import Tensor, nn

if TYPE_CHECKING:
    from vitq.methods.architectures.roles import Roles


class MatMul(nn.Module):
    """The product of two activations, `left @ right`; a name in the module tree for it."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """[..., n, k] @ [..., k, m] -> [..., n, m]."""
        return left @ right


class Add(nn.Module):
    """The sum of two activations; a name in the module tree for it."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Broadcasting sum."""
        return left + right


class Family(Protocol):
    """A family of architectures: one module of this folder.

    `explicit` maps a class of the library to its explicit form, a subclass with an initializer `name_products()` of
    what the form adds; `blocks` are the classes of its transformer blocks, both forms.
    """

    name: str

    @property
    def explicit(self) -> Mapping[type[nn.Module], type[nn.Module]]:
        """Each served class to its explicit form."""

    @property
    def blocks(self) -> tuple[type[nn.Module], ...]:
        """The classes of blocks, both forms."""

    def roles(self, part: nn.Module) -> Roles:
        """The roles of the modules of a part that has been made explicit."""


def families() -> tuple[Family, ...]:
    """Every family; imported when a model is first asked about, since each needs its library."""
    from vitq.methods.architectures import mm_swin, mm_vit, timm_swin, timm_vit

    return timm_vit.FAMILY, timm_swin.FAMILY, mm_swin.FAMILY, mm_vit.FAMILY


def family_of(part: nn.Module) -> Family | None:
    """The family of a part's first transformer block; None where no family knows a block of it."""
    known = families()
    for module in part.modules():
        for family in known:
            if isinstance(module, family.blocks):
                return family
    return None


def make_explicit(model: nn.Module) -> nn.Module:
    """Give every served module of `model` its explicit form, in place; doing it twice changes nothing.

    Modules added per attention: `qk` and `av` (MatMul), `softmax`, `logits` (Identity on what enters the softmax) and,
    where attention is in windows, `bias` (Identity on the relative-position bias) and `bias_add` (Add). Per block:
    `add1`, `add2`. Where class tokens and positions join: `tokens` (Identity after the class token joins), `position`
    (Identity on the position embedding) and `position_add` (Add); `pooled` (Identity) on a mean that the classifier
    reads at once. What a family's library computes differently, its
    module says. Layers that a library has subclasses of, which compute the same, become torch's own.
    """
    from vitq.methods.architectures.mm_libraries import plain_layers

    plain = plain_layers()
    forms = {served: form for family in families() for served, form in family.explicit.items()}
    for module in list(model.modules()):
        form = forms.get(type(module))
        if form is not None:
            module.__class__ = form
            module.name_products()  # type: ignore[operator]
    for module in model.modules():
        if type(module) in plain:
            module.__class__ = plain[type(module)]
    return model


def split_heads(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """[B, N, 3*C] -> q, k and v, each [B, heads, N, C/heads]; contiguous, so that products copy nothing."""
    b, n, _ = qkv.shape
    q, k, v = qkv.reshape(b, n, 3, heads, -1).permute(2, 0, 3, 1, 4).contiguous().unbind(0)
    return q, k, v
