"""From a timm model to its trainable form: ViT and DeiT, or Swin."""

from __future__ import annotations

from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitq.errors import UnsupportedError
from vitq.methods.i_vit.network import Network
from vitq.methods.i_vit.plan import Plan
from vitq.methods.i_vit.swin import IntegerSwin
from vitq.methods.i_vit.vit import IntegerViT


def build(model: nn.Module, plan: Plan, drop_path: float = 0.0) -> Network:
    """The trainable form of a timm VisionTransformer or SwinTransformer, on its parameters; else UnsupportedError."""
    if isinstance(model, VisionTransformer):
        return IntegerViT(model, plan, drop_path)
    if isinstance(model, SwinTransformer):
        return IntegerSwin(model, plan, drop_path)
    raise UnsupportedError(f"I-ViT serves timm's VisionTransformer and SwinTransformer, not {type(model).__name__}")
