"""What a network that no family knows is made of, in a few words."""

from __future__ import annotations

from collections import Counter

from torch import nn

REASONS = {
    "timm.models.swin_transformer_v2.SwinTransformerV2Block": "cosine attention with a learnt scale, and norms after "
    "the branches instead of before",
    "timm.models.eva.EvaBlock": "attention with rotary positions, or queries, keys and values apart",
    "timm.models.eva.EvaBlockPostNorm": "norms after the branches instead of before",
    "timm.models.beit.Block": "attention whose biases of queries and values are no parameters of its qkv layer",
    "timm.models.cait.LayerScaleBlock": "attention that mixes its heads before and after the softmax",
    "timm.models.levit.LevitBlock": "attention on convolutions or linear layers with batch normalization and learnt "
    "biases",
    "timm.models.convnext.ConvNeXtBlock": "depthwise convolutions and no attention",
}
"""Why blocks of a library cannot be served, by their class."""


def what_it_is_made_of(part: nn.Module) -> str:
    """` (its blocks are X: why they are not served)`, or nothing where no class of blocks stands out."""
    sizes: Counter[type[nn.Module]] = Counter()
    for module in part.modules():
        if isinstance(module, (nn.Sequential, nn.ModuleList)):
            for child in module:
                sizes[type(child)] += sum(p.numel() for p in child.parameters())
    own = {kind: size for kind, size in sizes.items() if not kind.__module__.startswith("torch.") and size}
    stages = {kind for kind in own if _reason(kind) is None and _holds(part, kind, own)}
    chosen = {kind: size for kind, size in own.items() if kind not in stages}
    if not chosen:
        return ""
    kind = max(chosen, key=lambda each: (_reason(each) is not None, chosen[each]))
    reason = _reason(kind)
    return f" (its blocks are {kind.__qualname__}{f': {reason}' if reason else ''})"


def _reason(kind: type[nn.Module]) -> str | None:
    return REASONS.get(f"{kind.__module__}.{kind.__qualname__}")


def _holds(part: nn.Module, kind: type[nn.Module], others: dict[type[nn.Module], int]) -> bool:
    """Whether modules of a class hold a list of another of these classes, as a stage holds its blocks."""
    for module in part.modules():
        if type(module) is kind:
            lists = (inner for inner in module.modules() if isinstance(inner, (nn.Sequential, nn.ModuleList)))
            if any(type(child) in others and type(child) is not kind for inner in lists for child in inner):
                return True
    return False
