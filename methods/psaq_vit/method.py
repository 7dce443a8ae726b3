"""PSAQ-ViT: patch similarity aware data-free quantization of vision transformers (arXiv 2203.02250).

Images are generated from the FP model (image_generation.py, patch_similarity.py), then calibrate a plain quantizer
(psaq_nodes.py) in one forward pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vitq.errors import MethodInputError
from vitq.methods.base import Quantized
from vitq.methods.bits import Bits
from vitq.methods.cards import all_cards
from vitq.methods.psaq_vit.artifacts import contact_sheet, first_images, load_images, save_images, short_curves
from vitq.methods.psaq_vit.image_generation import Generated, ImageRecipe, gaussian_images, generate
from vitq.methods.psaq_vit.nodes import RESIDUAL, calibrate, quantize_nodes, require_attention
from vitq.methods.toolkit import devices
from vitq.methods.toolkit.layers import set_mode
from vitq.options import without_effect
from vitq.subject import Batch, Subject


@dataclass(frozen=True)
class Options(ImageRecipe):
    """PSAQ-ViT's options: those of image generation, and

    Attributes:
        calibration: what sets the ranges: generated images, Gaussian noise N(0, 1), or the real calibration set.
        residual: whether the residual sums are quantized (as in the paper) or stay in floating point.
        images_from: `images.safetensors` of an earlier run, to calibrate on instead of generating anew.
    """

    calibration: Literal["generated", "gaussian", "real"] = "generated"
    residual: Literal["quantized", "fp"] = "quantized"
    images_from: str | None = None


def unsupported(bits: Bits, options: Options) -> str | None:  # noqa: ARG001
    """Widths outside the card's."""
    return all_cards()["psaq_vit"].supports.refuses(bits)


def prepare(model: nn.Module, bits: Bits, options: Options) -> nn.Module:
    """Quantized layers and nodes with unfitted grids; UnsupportedError for a model without attention."""
    return quantize_nodes(model, bits, RESIDUAL if options.residual == "fp" else ())


def restore(model: nn.Module, bits: Bits, options: Options, facts: dict[str, Any]) -> nn.Module:  # noqa: ARG001
    """The finished model's modules, every quantizer on and without a grid until `saving.fill` gives it one."""
    return set_mode(prepare(model, bits, options), "on")


def quantize(job: Subject, options: Options) -> Quantized:
    """Get calibration images, one FP forward pass for the ranges, then weights and activations on together."""
    check_choices(options)
    model = require_attention(job.model)
    started = devices.clock(job.device)
    source = calibration_images(job, model, options)
    generated_seconds = devices.clock(job.device) - started
    files, shown = keep_images(job, model, source)
    started = devices.clock(job.device)
    batches = image_batches(job, source.images) if source else job.calibration()
    model = prepare(model, job.bits, options)
    residuals = calibrate(model, job.forward, batches)
    details: dict[str, Any] = {
        "calibration": options.calibration,
        "without_effect": without_effect(options, _unread(options)),
        "residual": options.residual,
        "images": shown,
        "seconds": {"images": generated_seconds, "calibrate": devices.clock(job.device) - started},
        "residual_ranges": residuals,
    }
    return Quantized(model, details | describe(source, options), files)


def _unread(options: Options) -> set[str]:
    """Options that this run reads nothing of: images that are not generated have no recipe."""
    if options.calibration == "generated" and options.images_from is None:
        return set()
    return options.generation_fields() | ({"images"} if options.calibration == "real" else set())


def check_choices(options: ImageRecipe) -> None:
    """Raise MethodInputError, with the allowed words, for an option that is none of its choices."""
    choices = {"calibration": ("generated", "gaussian", "real"), "residual": ("quantized", "fp")}
    choices |= {"drop_token": ("first", "class"), "generation": ("adaptive", "psaq_vit")}
    for name, allowed in choices.items():
        if getattr(options, name, allowed[0]) not in allowed:
            raise MethodInputError(f"{name} is {getattr(options, name)!r}: give one of {', '.join(allowed)}")


def calibration_images(job: Subject, model: nn.Module, options: Options) -> Generated | None:
    """The images that set the ranges, or None where the real calibration set does."""
    if options.images_from is not None:
        if options.calibration != "generated":
            raise MethodInputError("images_from replaces generated images: leave it out, or calibration: generated")
        images = load_images(Path(options.images_from), job.input)
        if len(images) != options.images:
            raise MethodInputError(f"images_from holds {len(images)} images and images is {options.images}: set images")
        return Generated(images)
    if options.calibration == "real":
        return None
    if options.calibration == "generated":
        return generate(job, model, options)
    if options.images < 1:
        raise MethodInputError(f"images is {options.images}: give at least 1 image to calibrate on")
    return Generated(gaussian_images(options.images, job.input, torch.Generator().manual_seed(job.seed)))


def image_batches(job: Subject, images: Tensor) -> Iterable[Batch]:
    """The images as ONE batch of the task's own form, which ranges are taken from."""
    return [job.synthesize(images.to(job.device), torch.Generator().manual_seed(job.seed))]


def keep_images(job: Subject, model: nn.Module, source: Generated | None) -> tuple[dict[str, Path], int | None]:
    """Save the images, and a contact sheet beside Gaussian noise and real images; files by name, number of images.

    Real images are only looked at, for the sheet's last band; without a calibration set the band is left out.
    """
    noise = gaussian_images(16, job.input, torch.Generator().manual_seed(job.seed))
    real = first_images(model, job.forward, job.look())
    bands = {"Gaussian noise N(0, 1)": noise} | ({} if real is None else {"real images": real})
    files: dict[str, Path] = {}
    if source is not None:
        files["images"] = save_images(source.images, job.artifacts / "images.safetensors")
        if source.curves:
            bands = {"generated": source.images} | bands
    files["contact_sheet"] = contact_sheet(bands, job.input, job.artifacts / "contact_sheet.png")
    return files, None if source is None else len(source.images)


def describe(source: Generated | None, options: ImageRecipe) -> dict[str, Any]:
    """Curves, facts and the recipe of generated images, for the record; empty for other images."""
    if source is None or not source.curves:
        return {}
    recipe = {f.name: getattr(options, f.name) for f in fields(ImageRecipe)}
    return {"curves": short_curves(source.curves), "facts": source.facts, "recipe": recipe}
