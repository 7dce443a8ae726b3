"""A small detector: images of different sizes in, dictionaries with a number of boxes that differs out.

What it is made of says nothing of detection; it is here to show what methods and the harness take for granted. The
backbone is a Swin whose `forward_features` is called, the neck a convolution, and the head one linear layer that runs
once a proposal: several times an image, or never, since a blank image has no proposal.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from vitq.subject import InputSpec, Subject

Images = list[Tensor]
"""A batch: images [3, h, w], each of its own size, h and w at most 32."""
Found = dict[str, Tensor]
"""One image's boxes [n, 4], scores [n] and labels [n]; n differs, and may be 0."""
SIDE, CLASSES = 32, 3
SIZES = ((32, 24), (20, 32), (28, 28), (32, 32))
INPUT = InputSpec((3, SIDE, SIDE), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
META_PROPOSALS = 4
"""How many an image has where nothing is computed (on the meta device)."""


class Detector(nn.Module):
    """Proposes where the neck's first channel is positive on what is not blank, and looks at each proposal alone."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = SwinTransformer(
            img_size=SIDE, patch_size=4, window_size=4, embed_dim=16, depths=(2, 2), num_heads=(2, 4), num_classes=0,
            drop_path_rate=0.0,
        )  # fmt: skip
        self.neck = nn.Conv2d(32, 8, 3, padding=1)
        self.head = nn.Linear(8, 4 + CLASSES)

    def forward(self, images: Images) -> list[Found]:
        """Images [3, h, w] to what is found in each."""
        batch = torch.stack([F.pad(image, (0, SIDE - image.shape[2], 0, SIDE - image.shape[1])) for image in images])
        features = self.neck(self.backbone.forward_features(batch).permute(0, 3, 1, 2))
        scores = features[:, 0] * F.adaptive_avg_pool2d(batch.abs().mean(1, keepdim=True), features.shape[-1])[:, 0]
        return [self._found(f.flatten(1).T, s.flatten()) for f, s in zip(features, scores, strict=True)]

    def _found(self, features: Tensor, scores: Tensor) -> Found:
        """Features [places, 8] and scores [places] of one image to its boxes."""
        places = range(META_PROPOSALS) if scores.is_meta else scores.gt(0).nonzero()[:, 0].tolist()
        out = [self.head(features[place]) for place in places]
        rows = torch.stack(out) if out else features[:0].repeat(1, 4 + CLASSES)[:, : 4 + CLASSES]
        return {"boxes": rows[:, :4], "scores": scores[list(places)], "labels": rows[:, 4:].argmax(1)}


def make_detector(seed: int = 0) -> Detector:
    """The detector with weights drawn by the seed, in eval mode; the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Detector().eval()


def images(seed: int, n: int = 3, device: str = "cpu") -> Images:
    """`n` images of noise of different sizes; on `meta` nothing is drawn."""
    sizes = [(3, *SIZES[(seed + i) % len(SIZES)]) for i in range(n)]
    if device == "meta":
        return [torch.empty(size, device=device) for size in sizes]
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, generator=generator).to(device) for size in sizes]


def calibration() -> Iterator[Images]:
    """Three batches of 3, 2 and 1 images; one image is blank, and the last batch holds no other."""
    yield images(1)
    yield [images(2, 1)[0], torch.zeros(3, 16, 32)]
    yield [torch.zeros(3, 32, 20)]


def example() -> Images:
    """One batch of two images."""
    return images(7, 2)


def training(epoch: int) -> Iterator[Images]:
    """Two batches of an epoch."""
    return iter([images(100 + epoch), images(200 + epoch, 2)])


def forward(model: nn.Module, batch: Images) -> list[Found]:
    """Run a model on images, on the device of its parameters."""
    tensor = next(iter(model.parameters()), None)
    return model([image if tensor is None else image.to(tensor.device) for image in batch])


def loss(output: list[Found], batch: Images) -> Tensor:
    """How far the scores' sum is from the image's mean brightness, and the boxes from the whole image; a scalar."""
    each = [
        (found["scores"].sum() - image.mean().to(found["scores"].device)).square()
        + (found["boxes"] - 1).square().sum() / max(1, len(found["boxes"]))
        for found, image in zip(output, batch, strict=True)
    ]
    return torch.stack(each).mean()


def distance(left: list[Found], right: list[Found]) -> Tensor:
    """Mean absolute difference of scores and boxes, what one of the two lacks being zero; a scalar."""
    each = [
        _apart(one[key], other[key]).abs().mean() for one, other in zip(left, right, strict=True) for key in _FLOATS
    ]
    return torch.stack(each).mean()


def distill(student: list[Found], teacher: list[Found]) -> Tensor:
    """Mean squared difference of scores and boxes, what one of the two lacks being zero; a scalar."""
    each = [
        _apart(one[key], other[key].detach()).square().mean()
        for one, other in zip(student, teacher, strict=True)
        for key in _FLOATS
    ]
    return torch.stack(each).mean()


_FLOATS = ("scores", "boxes")


def _apart(left: Tensor, right: Tensor) -> Tensor:
    """left - right of [n, ...] and [m, ...], the shorter filled with zeros; [1, ...] of zeros where both are empty."""
    n = max(len(left), len(right), 1)
    return _filled(left, n) - _filled(right, n)


def _filled(values: Tensor, n: int) -> Tensor:
    return torch.cat([values, values.new_zeros((n - len(values), *values.shape[1:]))])


def digest(output: list[Found]) -> str:
    """sha256 of every image's boxes, scores and labels, and of how many there are."""
    found = hashlib.sha256()
    for each in output:
        for name in sorted(each):
            tensor = each[name].detach().cpu().contiguous()
            found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode() + tensor.numpy().tobytes())
    return found.hexdigest()


def synthesize(batch: Tensor, generator: torch.Generator) -> Images:
    """Images [B, 3, 32, 32] as a batch; there are no labels to draw."""
    return list(batch.unbind(0))


def subject(model: nn.Module | None = None, scope: str = "backbone", **changes: Any) -> Subject:
    """The subject of a copy of the detector, its backbone to be quantized; `changes` are fields of Subject."""
    fields: dict[str, Any] = {
        "model": copy.deepcopy(model) if model is not None else make_detector(), "forward": forward,
        "calibration": calibration, "example": example, "loss": loss, "distance": distance, "distill": distill,
        "digest": digest, "synthesize": synthesize, "input": INPUT, "scope": scope, "look": calibration,
        "training": training, "validate": lambda _: {"box_ap": 0.0}, "artifacts": Path(),
    }  # fmt: skip
    return Subject(**{**fields, **changes})
