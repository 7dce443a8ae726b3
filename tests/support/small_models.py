"""Two small whole models with the images that the authors' code ran them on, for comparing node by node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

VECTORS = Path(__file__).resolve().parent.parent / "vectors"

Kind = Literal["vit", "swin"]


def read(file: str, start: str = "") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file of vectors whose names begin with `start`, without that beginning."""
    with safe_open(VECTORS / file, "pt") as opened:
        tensors = {n[len(start) :]: opened.get_tensor(n) for n in opened.keys() if n.startswith(start)}  # noqa: SIM118
        metadata = {n[len(start) :]: text for n, text in (opened.metadata() or {}).items() if n.startswith(start)}
    return tensors, metadata


def model(kind: Kind) -> VisionTransformer | SwinTransformer:
    """The small model with its weights, in eval mode."""
    tensors, metadata = read("small_models.safetensors", f"{kind}.")
    cls = VisionTransformer if kind == "vit" else SwinTransformer
    built = cls(**json.loads(metadata["config"]))
    weights = {name[len("weights.") :]: t for name, t in tensors.items() if name.startswith("weights.")}
    missing, unexpected = built.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(name.endswith(("attn_mask", "relative_position_index")) for name in missing)
    return built.eval()


def images() -> Tensor:
    """All twelve, [12, 3, 56, 56], normalized by mean and std 0.5: calibrate on 0-7, evaluate on 8-11."""
    pixels: Tensor = read("small_models.safetensors")[0]["images"]
    return (pixels.float() / 255 - 0.5) / 0.5


def fp32_logits(kind: Kind) -> Tensor:
    """The released FP32 model's logits of images 8-11."""
    return read("small_models.safetensors", f"{kind}.")[0]["fp32_logits"]


def same(got: Tensor, want: Tensor, what: str) -> None:
    """Equal to the last bit."""
    assert torch.equal(got, want), f"{what}: {int((got != want).sum())} of {want.numel()} differ"
