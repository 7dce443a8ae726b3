"""What a data-free run leaves behind: images, a contact sheet to look at, and loss curves short enough to record."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vitq.details.psaq_vit import LossCurves
from vitq.errors import MethodInputError
from vitq.methods.architectures.roles import roles_of
from vitq.methods.psaq_vit.image_generation import Curves
from vitq.subject import Batch, InputSpec, Subject

_COLUMNS, _ROWS, _GAP, _CAPTION, _TILE = 8, 2, 4, 16, 112
_CURVE_POINTS = 100


def save_images(images: Tensor, path: Path) -> Path:
    """Write images [B, C, H, W] in normalized space as `images` of a safetensors file; returns the path."""
    save_file({"images": images.detach().cpu().contiguous()}, path)
    return path


def load_images(path: Path, spec: InputSpec) -> Tensor:
    """Images that `save_images` wrote; MethodInputError where the file is none such or of another input size."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise MethodInputError(
            f"images_from {path} cannot be read: give the images.safetensors of an earlier run"
        ) from error
    images = tensors.get("images")
    if images is None or images.ndim != 4 or tuple(images.shape[1:]) != spec.size or not len(images):
        found = None if images is None else list(images.shape)
        raise MethodInputError(f"images_from {path} holds {found}, this model takes images of {list(spec.size)}")
    return images


def contact_sheet(bands: dict[str, Tensor], spec: InputSpec, path: Path) -> Path:
    """PNG of one band a source, 8 images across and 2 down at most, each with its caption; returns the path.

    `bands` are images [B, C, H, W] in normalized space; they are shown as pixels, clipped to 0..1.
    """
    side = max(_TILE, spec.size[1])
    width = _COLUMNS * (side + _GAP) + _GAP
    strips = [_strip(name, images, spec, side, width) for name, images in bands.items()]
    sheet = Image.new("RGB", (width, sum(s.height for s in strips)), "white")
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    sheet.save(path)
    return path


def _strip(name: str, images: Tensor, spec: InputSpec, side: int, width: int) -> Image.Image:
    shown = images[: _COLUMNS * _ROWS].detach().cpu().float()
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (spec.mean, spec.std))
    pixels = ((shown * std + mean).clamp(0, 1) * 255).round().to(torch.uint8)
    pixels = pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels
    rows = -(-len(pixels) // _COLUMNS)
    strip = Image.new("RGB", (width, _CAPTION + rows * (side + _GAP) + _GAP), "white")
    ImageDraw.Draw(strip).text((_GAP, 2), name, fill="black")
    for i, picture in enumerate(pixels):
        tile = Image.fromarray(picture.permute(1, 2, 0).numpy()).resize((side, side), Image.Resampling.NEAREST)
        strip.paste(tile, (_GAP + i % _COLUMNS * (side + _GAP), _CAPTION + _GAP + i // _COLUMNS * (side + _GAP)))
    return strip


def short_curves(curves: Curves) -> LossCurves | None:
    """About 100 points of every curve at most, evenly taken and the last one always, with their iterations.

    A term that joined later than the others is None before; None altogether where there is no curve.
    """
    length = max((len(c) for c in curves.values()), default=0)
    if not length:
        return None
    step = max(1, length // _CURVE_POINTS)
    at = sorted({*range(0, length, step), length - 1})
    whole = {name: [None] * (length - len(curve)) + [round(v, 6) for v in curve] for name, curve in curves.items()}
    taken: dict[str, Any] = {name: [curve[i] for i in at] for name, curve in whole.items()}
    return LossCurves(iteration=[i + 1 for i in at], **taken)


def first_images(subject: Subject, batches: Iterable[Batch], count: int = 16) -> Tensor | None:
    """The first images of the first batch as they enter the part's patch embedding, [n, C, H, W].

    None where there is no batch or no embedding.
    """
    projection = roles_of(subject.part).embedding.projection
    batch = next(iter(batches), None)
    if projection is None or batch is None:
        return None
    seen: list[Tensor] = []
    embedding = subject.part.get_submodule(projection)
    handle = embedding.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach()))
    try:
        with torch.no_grad():
            subject.forward(subject.model, batch)
    finally:
        handle.remove()
    return seen[0][:count].cpu() if seen else None
