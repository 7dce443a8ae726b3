"""Small ViT and Swin models with images of classes that can be told apart, and I-ViT's job on them."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitq.methods.base import Quantized
from vitq.methods.bits import Bits
from vitq.methods.i_vit import method as i_vit
from vitq.methods.i_vit.forms import Forms
from vitq.methods.i_vit.grids import Output
from vitq.methods.i_vit.network import Network
from vitq.subject import InputSpec, Subject

SIZE = (3, 16, 16)
CLASSES = 8
W8A8 = Bits(8, 8)


def lively(model: nn.Module) -> Any:
    """Four times the random weights: activations as large as trained models have, which `release` needs."""
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(4)
    return model.eval()


def vit(**kwargs: Any) -> VisionTransformer:
    torch.manual_seed(0)
    words = {"embed_dim": 32, "depth": 2, "num_heads": 2} | kwargs
    return lively(VisionTransformer(img_size=16, patch_size=4, **{"num_classes": CLASSES} | words))


def swin(**kwargs: Any) -> SwinTransformer:
    torch.manual_seed(0)
    words = {"embed_dim": 24, "depths": (2, 2), "num_heads": (2, 2), "window_size": 4} | kwargs
    return lively(SwinTransformer(img_size=16, patch_size=2, drop_path_rate=0.0, **{"num_classes": CLASSES} | words))


def short_vit() -> VisionTransformer:
    return vit(depth=1)


def short_swin() -> SwinTransformer:
    return swin(depths=(2, 1), num_heads=(1, 1))


def batches(n: int = 3, size: int = 16, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Images of a class's own pattern in noise."""
    generator = torch.Generator().manual_seed(7)
    patterns = torch.randn(CLASSES, *SIZE, generator=generator)
    generator.manual_seed(seed)
    out = []
    for _ in range(n):
        labels = torch.randint(CLASSES, (size,), generator=generator)
        out.append((patterns[labels] + 0.7 * torch.randn(size, *SIZE, generator=generator), labels))
    return out


def job(model: nn.Module, folder: Path, seed: int = 0) -> Subject:
    def training(epoch: int) -> Iterator[Any]:
        return iter(batches(8, 16, seed=100 + epoch))

    return Subject(
        model=copy.deepcopy(model),
        calibration=lambda: iter(batches()),
        example=lambda: batches(1)[0],
        forward=lambda m, batch: m(batch[0]),
        loss=lambda output, batch: F.cross_entropy(output, batch[1]),
        distance=lambda left, right: (left - right).abs().mean(),
        distill=lambda student, teacher: F.cross_entropy(student, teacher.softmax(-1)),
        digest=lambda output: hashlib.sha256(output.numpy().tobytes()).hexdigest(),
        synthesize=lambda images, generator: (images, torch.zeros(len(images))),
        input=InputSpec(SIZE, (0.5,) * 3, (0.5,) * 3),
        training=training,
        seed=seed,
        artifacts=folder,
    )


def run(make: Any, folder: Path, **options: Any) -> Quantized:
    return i_vit.quantize(job(make(), folder), W8A8, i_vit.Options(**{"epochs": 0} | options))


@torch.no_grad()
def calibrated(model: nn.Module, forms: Forms) -> Network:
    network = Network(model, forms).eval()
    outputs = [m for m in network.modules() if isinstance(m, Output)]
    for output in outputs:
        output.observing = True
    for images, _ in batches():
        network(images)
    for output in outputs:
        output.observing = False
    return network
