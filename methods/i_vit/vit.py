"""ViT and DeiT: patches, class token, position embedding, blocks, and the classifier on the class token."""

from __future__ import annotations

from typing import Any

from torch import nn

from vitq.errors import UnsupportedError
from vitq.methods.i_vit import functions, products, sums
from vitq.methods.i_vit.blocks import IntegerBlock, PatchEmbed
from vitq.methods.i_vit.network import Flow, LogitsOut, Network, classifier, depth_rates, each
from vitq.methods.i_vit.plan import Plan


class IntegerViT(Network):
    """ViT and DeiT with a class token."""

    def __init__(self, model: Any, plan: Plan, drop_path: float = 0.0) -> None:
        super().__init__(plan)
        _refuse(model)
        device = model.patch_embed.proj.weight.device
        self.input = products.Input(plan, device)
        self.patch_embed = PatchEmbed(model.patch_embed, plan)
        self.tokens = sums.ClassToken(model.cls_token, plan)
        self.position_add = sums.AddConstant(model.pos_embed, sums.Whole(), plan.residual, plan)
        rates = depth_rates(drop_path, len(model.blocks))
        self.blocks = nn.ModuleList(IntegerBlock(b, None, plan, r) for b, r in zip(model.blocks, rates, strict=True))
        self.norm = functions.Norm(model.norm, plan.activation, plan)
        self.head = classifier(model.head, plan)
        self.output = LogitsOut(plan)

    def run(self, x: Flow) -> Flow:
        """See Network; the final norm needs the class token alone."""
        x = each(self.patch_embed(x), lambda t: t.flatten(1, 2))
        x = self.position_add(self.tokens(x))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(each(x, lambda t: t[:, 0])))  # type: ignore[no-any-return]


def _refuse(model: Any) -> None:
    wrong = {
        "global pooling other than 'token'": model.global_pool != "token" or model.cls_token is None,
        "register tokens": getattr(model, "reg_token", None) is not None,
        "position embeddings without the class token": model.pos_embed is None or model.no_embed_class,
        "a dynamic image size": model.dynamic_img_size,
        "a norm before the blocks": not isinstance(model.norm_pre, nn.Identity),
        "a norm after pooling": not isinstance(model.fc_norm, nn.Identity),
    }
    for what, found in wrong.items():
        if found:
            raise UnsupportedError(f"I-ViT does not serve {what}")
