"""Small detectors and segmenters of mmdet and mmseg with random weights, and subjects of them on scenes of noise.

A stand-in for the tasks: it takes scenes of different sizes, pads them together, and knows only feature maps and the
losses of a region proposal network or of a per-pixel classifier.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitq.datasets.scenes import Batch, Scene
from vitq.mm import prepare
from vitq.subject import InputSpec, Subject

SIDE, CLASSES = 64, 4
SIZES = ((64, 64), (40, 52), (37, 64))
INPUT = InputSpec((3, SIDE, SIDE), (0.5,) * 3, (0.5,) * 3)
MODELS = ("detector", "swin_segmenter", "vit_segmenter")
SWIN = {
    "type": "SwinTransformer", "embed_dims": 16, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4,
    "strides": (4, 2), "out_indices": (0, 1), "drop_path_rate": 0.0, "mlp_ratio": 2,
}  # fmt: skip
VIT = {
    "type": "mmseg.VisionTransformer", "img_size": SIDE, "patch_size": 8, "embed_dims": 16, "num_layers": 2,
    "num_heads": 2, "mlp_ratio": 2, "out_indices": (0, 1),
}  # fmt: skip
FPN = {"type": "mmdet.FPN", "in_channels": [16, 32], "out_channels": 8, "num_outs": 3}


def make(name: str, seed: int = 0) -> nn.Module:
    """A model by name with weights drawn by the seed, four times as large in linear layers, in eval mode."""
    prepare()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _detector() if name == "detector" else _segmenter(VIT if name == "vit_segmenter" else SWIN)
        for path, layer in model.named_modules():
            if isinstance(layer, nn.Linear) and path.startswith("backbone"):
                nn.init.normal_(layer.weight, std=1.5 / layer.in_features**0.5)
        for path, parameter in model.named_parameters():
            if path.endswith(("pos_embed", "cls_token", "relative_position_bias_table")):
                nn.init.normal_(parameter, std=0.3)
    return model.eval()


def _detector() -> nn.Module:
    from mmdet.registry import MODELS as registry
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    config = {
        "type": "mmdet.RPN", "backbone": {**SWIN, "type": "mmdet.SwinTransformer"}, "neck": FPN,
        "rpn_head": {
            "type": "mmdet.RPNHead", "in_channels": 8, "feat_channels": 8,
            "anchor_generator": {
                "type": "mmdet.AnchorGenerator", "scales": [4], "ratios": [0.5, 1.0, 2.0], "strides": [4, 8, 16],
            },
            "bbox_coder": {"type": "mmdet.DeltaXYWHBBoxCoder"}, "loss_bbox": {"type": "mmdet.L1Loss"},
            "loss_cls": {"type": "mmdet.CrossEntropyLoss", "use_sigmoid": True},
        },
        "train_cfg": None, "test_cfg": {"rpn": {}},
    }  # fmt: skip
    model: nn.Module = registry.build(config)
    return model


def _segmenter(backbone: dict[str, Any]) -> nn.Module:
    from mmseg.registry import MODELS as registry
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    kind = backbone["type"].rpartition(".")[2]
    channels = [VIT["embed_dims"]] * 2 if kind == "VisionTransformer" else [SWIN["embed_dims"], 2 * SWIN["embed_dims"]]
    config = {
        "type": "mmseg.EncoderDecoder", "backbone": {**backbone, "type": f"mmseg.{kind}"},
        "decode_head": {
            "type": "mmseg.UPerHead", "in_channels": channels, "in_index": [0, 1], "channels": 8, "pool_scales": (1, 2),
            "num_classes": CLASSES, "norm_cfg": {"type": "BN"}, "dropout_ratio": 0.0,
        },
        "train_cfg": {}, "test_cfg": {"mode": "whole"},
    }  # fmt: skip
    model: nn.Module = registry.build(config)
    return model


def scenes(seed: int, n: int = 2) -> Batch:
    """Scenes of noise of different sizes."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for i in range(n):
        height, width = SIZES[(seed + i) % len(SIZES)]
        labels = torch.randint(CLASSES, (height, width), generator=generator, dtype=torch.uint8)
        image = torch.randn(3, height, width, generator=generator)
        found.append(Scene(image, f"{seed}-{i}", i, (height, width), label_map=labels))
    return found


def padded(batch: Batch) -> Tensor:
    """Images [B, 3, H, W], padded with zeros to the largest."""
    height, width = (max(scene.image.shape[i] for scene in batch) for i in (1, 2))
    pads = ((0, width - s.image.shape[2], 0, height - s.image.shape[1]) for s in batch)
    return torch.stack([F.pad(scene.image, pad) for scene, pad in zip(batch, pads, strict=True)])


def forward(model: Any, batch: Batch) -> list[Tensor]:
    """What the backbone gives, and what the neck and the heads make of it."""
    features = model.backbone(padded(batch))
    if hasattr(model, "bbox_head"):
        scores, boxes = model.bbox_head(model.neck(features))
        return [*features, *scores, *boxes]
    return [*features, model.decode_head(features)]


def loss(output: list[Tensor], batch: Batch) -> Tensor:
    """Cross entropy of the logits against the labels; a detector's, of its first scores, and of all else the size."""
    found = output[2:]
    logits, rest = found[0], sum((tensor.square().mean() for tensor in found[1:]), start=torch.zeros(()))
    labels = torch.stack([F.pad(s.label_map.long(), (0, SIDE, 0, SIDE))[:SIDE, :SIDE] for s in batch])  # type: ignore[union-attr]
    near = F.interpolate(labels[:, None].float(), logits.shape[2:])[:, 0].long()
    return F.cross_entropy(logits, near % logits.shape[1]) + rest


def distill(student: list[Tensor], teacher: list[Tensor]) -> Tensor:
    """Mean squared difference of the feature maps."""
    return torch.stack([(s - t.detach()).square().mean() for s, t in zip(student, teacher, strict=True)]).mean()


def digest(output: list[Tensor]) -> str:
    """sha256 of every tensor's bytes."""
    found = hashlib.sha256()
    for tensor in output:
        found.update(tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


def training(epoch: int) -> Iterator[Batch]:
    """Two batches of an epoch."""
    return iter([scenes(100 + epoch), scenes(200 + epoch)])


def subject(name: str, artifacts: Path = Path(), **changes: Any) -> Subject:
    """The subject of a model's backbone."""
    fields: dict[str, Any] = {
        "model": make(name), "forward": forward, "calibration": lambda: iter([scenes(1), scenes(2, 1)]),
        "example": lambda: scenes(5), "loss": loss, "distance": distill, "distill": distill, "digest": digest,
        "synthesize": _synthesize, "input": INPUT, "scope": "backbone", "training": training, "artifacts": artifacts,
        "draws_labels": False,
        "validate": lambda _: {"miou": 0.0},
    }  # fmt: skip
    return Subject(**{**fields, **changes})


def _synthesize(images: Tensor, generator: torch.Generator) -> Batch:
    labels = torch.randint(CLASSES, (len(images), *images.shape[2:]), generator=generator, dtype=torch.uint8)
    size = (images.shape[2], images.shape[3])
    return [Scene(x, str(i), i, size, label_map=m) for i, (x, m) in enumerate(zip(images, labels, strict=True))]


def outside(model: nn.Module) -> dict[str, Any]:
    """Class of every module and value of every tensor that the backbone does not hold."""
    kinds: dict[str, Any] = {n: type(m) for n, m in model.named_modules() if n and not n.startswith("backbone")}
    return kinds | {n: t for n, t in model.state_dict().items() if not n.startswith("backbone")}


def same_outside(model: nn.Module, before: nn.Module) -> bool:
    """Whether neck and heads are as they were, to the last bit."""
    got, want = outside(model), outside(before)
    equal = (torch.equal(got[n], want[n]) if isinstance(want[n], Tensor) else got[n] is want[n] for n in want)
    return got.keys() == want.keys() and all(equal)
