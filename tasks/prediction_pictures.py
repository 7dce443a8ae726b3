"""A few validation images with what two models say of them, before and after quantization, as PNGs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.io import encode_png
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

from vitq.datasets.scenes import Batch, Scene
from vitq.tasks.base import Data

COUNT = 3
SURE = 0.5
"""Detections of less score are not drawn."""
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999", "#882255", "#44AA99")


def of_detectors(
    forward: Callable[[nn.Module, Batch], Any], before: nn.Module, after: nn.Module, data: Data
) -> dict[str, bytes]:
    """Boxes, classes, scores and masks of what two detectors are sure of."""
    names = _names(data)

    def draw(model: Any, scene: Scene) -> Tensor:
        found = forward(model, [scene]).found[0]
        return draw_found(pixels(model, scene), scene, found, names)

    return _all(draw, before, after, data)


def of_segmenters(
    labels: Callable[[nn.Module, Batch], list[Tensor]], before: nn.Module, after: nn.Module, data: Data
) -> dict[str, bytes]:
    """The class of each pixel."""

    def draw(model: Any, scene: Scene) -> Tensor:
        return draw_labels(pixels(model, scene), labels(model, [scene])[0])

    return _all(draw, before, after, data)


def _all(
    draw: Callable[[nn.Module, Scene], Tensor], before: nn.Module, after: nn.Module, data: Data
) -> dict[str, bytes]:
    made: dict[str, bytes] = {}
    with torch.no_grad():
        for number, scene in enumerate(islice(_scenes(data), COUNT), start=1):
            for word, model in (("before", before), ("after", after)):
                picture = draw(model, scene)
                made[f"predictions {word} {number}"] = bytes(encode_png(picture).numpy().tobytes())
    return made


def _scenes(data: Data) -> Iterator[Scene]:
    for batch in data.validation():
        yield from batch


def _names(data: Data) -> list[str]:
    if data.truth is None:
        return []
    return [str(each["name"]) for each in sorted(data.truth()["categories"], key=lambda c: c["id"])]


def pixels(model: Any, scene: Scene) -> Tensor:
    """The image as the model got it, uint8 [3, h, w], by the mean and deviation of its own preprocessing."""
    how = model.data_preprocessor
    mean, std = (getattr(how, name).view(-1, 1, 1).cpu() for name in ("mean", "std"))
    shown: Tensor = (scene.image.cpu() * std + mean).round().clamp(0, 255).to(torch.uint8)
    return shown


def draw_found(picture: Tensor, scene: Scene, found: dict[str, Tensor], names: list[str]) -> Tensor:
    """What is found, scaled to the picture [3, h, w], drawn on it."""
    kept = found["scores"].cpu() > SURE
    boxes, labels, scores = (found[name].cpu()[kept] for name in ("boxes", "labels", "scores"))
    h, w = picture.shape[1:]
    scaled = boxes * torch.tensor([w / scene.original[1], h / scene.original[0]] * 2)
    if not len(boxes):
        return picture
    colours = [COLOURS[int(label) % len(COLOURS)] for label in labels]
    if "masks" in found:
        masks = found["masks"].cpu()[kept].float().unsqueeze(1)
        sized = nn.functional.interpolate(masks, (h, w), mode="nearest")[:, 0] > 0
        picture = draw_segmentation_masks(picture, sized, alpha=0.45, colors=list(colours))
    words = [names[int(label)] if int(label) < len(names) else str(int(label)) for label in labels]
    texts = [f"{word} {score:.2f}" for word, score in zip(words, scores.tolist(), strict=True)]
    drawn: Tensor = draw_bounding_boxes(picture, scaled, texts, colors=list(colours))
    return drawn


def draw_labels(picture: Tensor, labels: Tensor) -> Tensor:
    """Each class [H, W] in a colour of its own, over the picture [3, h, w]."""
    sized = nn.functional.interpolate(labels[None, None].float(), picture.shape[1:], mode="nearest")[0, 0].long()
    there = [int(each) for each in torch.unique(sized)]
    if not there:
        return picture
    masks = torch.stack([sized == each for each in there])
    colours = [COLOURS[each % len(COLOURS)] for each in there]
    drawn: Tensor = draw_segmentation_masks(picture, masks, alpha=0.5, colors=list(colours))
    return drawn
