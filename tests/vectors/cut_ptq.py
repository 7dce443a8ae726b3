"""Cut the released codes' whole outputs of RepQ-ViT and PSAQ-ViT to what the tests read; run it in this folder.

The whole files lie in the folder that VITQ_VECTORS names. Nothing is rounded: dequantized values whose grid is known
are kept as their codes, and the script fails where codes do not give them back to the last bit.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

WHOLE = Path(os.environ.get("VITQ_VECTORS", "../../../shared/vectors"))
HERE = Path(__file__).parent
Tensors = dict[str, Tensor]


def column(parameter: Tensor, like: Tensor) -> Tensor:
    """One number a row of a weight."""
    return parameter.view(-1, *[1] * (like.ndim - 1))


def codes(values: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """The uint8 codes c with (c - zero) * scale == values; AssertionError where there are none."""
    found = torch.round(values / scale + zero)
    assert torch.equal((found - zero) * scale, values)
    return found.to(torch.uint8)


def repq_models() -> Tensors:
    """Every grid and logit of the two small models; weights as codes."""
    kept: Tensors = {}
    for kind in ("vit", "swin"):
        whole = load_file(WHOLE / f"repq_vit_small_{kind}.safetensors")
        for name, value in whole.items():
            key = f"{kind}.{name}"
            if name.endswith("weight_dequantized"):
                grid = name.replace("weight_dequantized", "weight_quantizer")
                scale, zero = (column(whole[f"{grid}.{p}"], value) for p in ("scale", "zero_point"))
                kept[key.replace("weight_dequantized", "weight_codes")] = codes(value, scale, zero)
            else:
                kept[key] = value
    return kept


def repq_quantizers() -> Tensors:
    """The whole inputs, whose grids are searched; of what they give, the weight and the first image of the others."""
    whole = load_file(WHOLE / "repq_vit_quantizers.safetensors")
    kept = {name: whole[name] for name in ("x", "w", "attn")}
    for name, value in whole.items():
        if name.endswith(("scale", "zero_point")):
            kept[name] = value
        elif name.startswith(("x_", "w_")):
            grid = name.removesuffix("dequantized")
            scale, zero = whole[f"{grid}scale"], whole[f"{grid}zero_point"]
            rows = name.startswith("w_")
            found = codes(value, column(scale, value) if rows else scale, column(zero, value) if rows else zero)
            kept[name.replace("dequantized", "codes")] = found if rows else found[:1]
        elif name.startswith("attn_"):
            kept[name] = value[:1]
    return kept


def psaq() -> Tensors:
    """The windows and ties whole but for the gradient's second image; of the parts what those do not hold."""
    kept = load_file(WHOLE / "psaq_vit_windows_and_ties.safetensors")
    kept["windows_gradient"] = kept["windows_gradient"][: len(kept["windows_gradient"]) // 2]
    parts = load_file(WHOLE / "psaq_vit_parts.safetensors")
    kept |= {n: parts[n] for n in ("attn_v", "density", "density_grid", "differential_entropy", "image", "w")}
    kept |= {"total_variation": parts["total_variation"], "clipped": parts["clipped"][:1, :, :32]}
    kept |= {"similarity": parts["similarity"][:1]} | {
        f"w_{b}_dequantized": parts[f"w_{b}_dequantized"] for b in (4, 8)
    }
    return kept


if __name__ == "__main__":
    for name, make in (
        ("repq_vit_small_models", repq_models),
        ("repq_vit_quantizers", repq_quantizers),
        ("psaq_vit", psaq),
    ):
        save_file({k: v.contiguous() for k, v in make().items()}, HERE / f"{name}.safetensors")
