"""The Swin authors' checkpoints of detectors and segmenters: names and order of patch merging as mm has them.

Their models are of mmdet 2 and mmsegmentation 0, whose Swin keeps its own names (`layers.0.blocks.0.attn.qkv`) and lays
the four patches that merge one after the other; today's lays the four values of a channel side by side.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

_OLD = "backbone.layers."


def converted(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under today's names; those that are named so already, and those of other backbones, as they are.

    Heads keep their names. The backbone is converted by mmdet's `swin_converter`; mmsegmentation's Swin has the same
    names and order.
    """
    if not any(name.startswith(_OLD) and ".attn.qkv." in name for name in state):
        return dict(state)
    backbone = {name.removeprefix("backbone."): t for name, t in state.items() if name.startswith("backbone.")}
    kept = {name: tensor for name, tensor in state.items() if not name.startswith("backbone.")}
    from mmdet.models.backbones.swin import swin_converter

    return {**kept, **swin_converter(backbone)}
