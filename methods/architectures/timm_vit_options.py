"""What timm's VisionTransformer may be built with: what no role says, and what no explicit form serves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from timm.layers.mlp import GluMlp
from timm.layers.patch_embed import PatchEmbed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from vitq.errors import UnsupportedError
from vitq.methods.architectures import roles


def mlp_role(path: str, mlp: nn.Module) -> roles.Mlp:
    """The role of an MLP of timm's, plain or gated."""
    norm = None if isinstance(getattr(mlp, "norm", nn.Identity()), nn.Identity) else f"{path}.norm"
    return roles.Mlp(f"{path}.fc1", f"{path}.act", f"{path}.fc2", norm, gated=isinstance(mlp, GluMlp))


def refuse_unserved(part: nn.Module, whole: nn.Module | None) -> None:
    """UnsupportedError for what the explicit form would leave out of products and roles, whatever the method."""
    wrong = [*_unserved(part)]
    wrong += [] if whole is not None else list(_layers_of_no_role(part))
    if wrong:
        raise UnsupportedError(wrong[0])


def _unserved(part: nn.Module) -> Iterator[str]:
    for path, module in part.named_modules():
        at = path or "the model"
        if isinstance(module, VisionTransformer):
            if not isinstance(module.patch_embed, PatchEmbed):
                kind = type(module.patch_embed).__name__
                yield f"the patch embedding of {at} is {kind}: the role embedding (projection) is one convolution"
            if module.attn_pool is not None:
                yield f"{at} pools by attention (global_pool map, attn_pool), whose products have no role"
        elif isinstance(module, Block) and getattr(module.attn, "gate", None) is not None:
            yield f"{at}.attn is gated (attn.gate): what feeds its projection is no attention product alone"


def _layers_of_no_role(part: nn.Module) -> Iterator[str]:
    """Layers beside blocks of timm's in a network of another class: nothing says what they are to a method."""
    blocks = [path for path, module in part.named_modules() if isinstance(module, Block)]
    for path, module in part.named_modules():
        inside = any(path == block or path.startswith(f"{block}.") or not block for block in blocks)
        if isinstance(module, (nn.Linear, nn.Conv2d)) and not inside:
            yield (
                f"{type(part).__name__} has blocks of timm's ViT and is no VisionTransformer: of {path} beside them "
                "nothing says its role, and the roles embedding (projection, positions) and ends (norm, classifier) "
                "are missing; give the scope of the blocks, or write an adapter (documentation: adding an adapter)"
            )


def beside(part: nn.Module) -> Iterator[str]:
    """What timm's ViT may compute that no role says; who builds a network from the roles must refuse it."""
    for path, module in part.named_modules():
        where = f" at {path}" if path else ""
        if isinstance(module, VisionTransformer):
            yield from (f"{what}{where}" for what, found in _of_whole(module).items() if found)
        elif isinstance(module, Block):
            yield from (f"{what}{where}" for what, found in _of_block(module).items() if found)


def _of_whole(whole: Any) -> dict[str, bool]:
    return {
        f"a class of its own, {type(whole).__name__}": not hasattr(whole, "tokens"),
        "register tokens": whole.reg_token is not None,
        "a distillation token": getattr(whole, "dist_token", None) is not None,
        "no position embedding, or one without the class token": whole.pos_embed is None or whole.no_embed_class,
        "a dynamic image size": whole.dynamic_img_size,
        "patch dropout": not isinstance(whole.patch_drop, nn.Identity),
        "a norm before the blocks": not isinstance(whole.norm_pre, nn.Identity),
    }


def _of_block(block: Any) -> dict[str, bool]:
    attention, identity = block.attn, nn.Identity
    norms = (attention.q_norm, attention.k_norm, attention.norm)
    return {
        "LayerScale": not (isinstance(block.ls1, identity) and isinstance(block.ls2, identity)),
        "norms within attention": not all(isinstance(norm, identity) for norm in norms),
        "a norm within the MLP": not isinstance(getattr(block.mlp, "norm", identity()), identity),
        "a gated MLP": isinstance(block.mlp, GluMlp),
    }
