"""PSAQ-ViT: patch similarity aware data-free quantization of vision transformers (arXiv 2203.02250).

Images are generated from the FP model (image_generation.py, patch_similarity.py), then calibrate a plain quantizer
(nodes.py) in one forward pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitq.details.psaq_vit import Details, Facts, Recipe, Seconds
from vitq.errors import MethodInputError
from vitq.methods.architectures.roles import roles_of
from vitq.methods.base import Quantized
from vitq.methods.bits import Bits
from vitq.methods.cards import all_cards
from vitq.methods.psaq_vit.artifacts import contact_sheet, first_images, load_images, save_images, short_curves
from vitq.methods.psaq_vit.image_generation import Generated, gaussian_images, generate
from vitq.methods.psaq_vit.nodes import calibrate, quantize_nodes
from vitq.methods.psaq_vit.options import ImageRecipe, Options
from vitq.methods.toolkit import devices
from vitq.methods.toolkit.modules import set_mode
from vitq.options import without_effect
from vitq.subject import Batch, Subject


def unsupported(bits: Bits, options: Options) -> str | None:  # noqa: ARG001
    """Widths outside the card's."""
    return all_cards()["psaq_vit"].supports.refuses(bits)


def prepare(part: nn.Module, bits: Bits, options: Options) -> nn.Module:
    """Quantized layers and nodes with unfitted grids; UnsupportedError for a part without attention."""
    return restore_nodes(part, bits, options, {})


def restore(part: nn.Module, bits: Bits, options: Options, facts: dict[str, Any]) -> nn.Module:
    """The finished part's modules, every quantizer on and without a grid until `saving.fill` gives it one."""
    return set_mode(restore_nodes(part, bits, options, facts), "on")


def restore_nodes(part: nn.Module, bits: Bits, options: Options, facts: dict[str, Any]) -> nn.Module:
    """Quantized layers and nodes, less those that calibration never reached, as the facts of a run say."""
    return quantize_nodes(part, bits, ["sums"] if options.residual == "fp" else [], facts.get("unreached", ()))


def quantize(subject: Subject, bits: Bits, options: Options) -> Quantized:
    """Get calibration images, one FP forward pass for the ranges, then weights and activations on together."""
    roles_of(subject.part)
    started = devices.clock(subject.device)
    source = calibration_images(subject, options)
    generated_seconds = devices.clock(subject.device) - started
    files = keep_images(subject, source)
    started = devices.clock(subject.device)
    batches = image_batches(subject, source.images) if source else subject.calibration()
    part = prepare(subject.part, bits, options)
    model = subject.put(part)
    seen = calibrate(part, lambda batch: subject.forward(model, batch), batches)
    details = Details(
        **describe(source, options),
        without_effect=without_effect(options, _unread(options, subject.draws_labels)),
        residual_ranges=seen.residual_ranges,
        calibration=options.calibration,
        residual=options.residual,
        seconds=Seconds(images=generated_seconds, calibrate=devices.clock(subject.device) - started),
    )
    return Quantized(model, details, files, facts=seen.facts)


def _unread(options: Options, draws_labels: bool) -> set[str]:
    """Options that this run reads nothing of: images that are not generated have no recipe, some tasks no labels."""
    if options.calibration == "generated" and options.images_from is None:
        return set() if draws_labels else {"one_hot_weight"}
    return options.generation_fields() | ({"images"} if options.calibration == "real" else set())


def calibration_images(subject: Subject, options: Options) -> Generated | None:
    """The images that set the ranges, or None where the real calibration set does."""
    if options.images_from is not None:
        return _earlier_images(subject, options, options.images_from)
    if options.calibration == "real":
        return None
    if options.calibration == "generated":
        return generate(subject, options)
    options.check_images()
    generator = torch.Generator().manual_seed(subject.seed)
    return Generated(gaussian_images(options.images, subject.input, generator))


def _earlier_images(subject: Subject, options: Options, file: str) -> Generated:
    """The images of an earlier run; MethodInputError where they are not those that the options say."""
    if options.calibration != "generated":
        raise MethodInputError("images_from replaces generated images: leave it out, or calibration: generated")
    images = load_images(Path(file), subject.input)
    if len(images) != options.images:
        raise MethodInputError(f"images_from holds {len(images)} images and images is {options.images}: set images")
    return Generated(images)


def image_batches(subject: Subject, images: Tensor) -> Iterable[Batch]:
    """The images as ONE batch of the task's own form, which ranges are taken from."""
    return [subject.synthesize(images.to(subject.device), torch.Generator().manual_seed(subject.seed))]


def keep_images(subject: Subject, source: Generated | None) -> dict[str, Path]:
    """Save the images, and a contact sheet beside Gaussian noise and real images; files by name.

    The subject's model is still in full precision. Real images are only looked at, for the sheet's last band; without a
    calibration set the band is left out.
    """
    noise = gaussian_images(16, subject.input, torch.Generator().manual_seed(subject.seed))
    real = first_images(subject, subject.look())
    bands = {"Gaussian noise N(0, 1)": noise} | ({} if real is None else {"real images": real})
    files: dict[str, Path] = {}
    if source is not None:
        files["images"] = save_images(source.images, subject.artifacts / "images.safetensors")
        if source.curves:
            bands = {"generated": source.images} | bands
    files["contact_sheet"] = contact_sheet(bands, subject.input, subject.artifacts / "contact_sheet.png")
    return files


def describe(source: Generated | None, options: ImageRecipe) -> dict[str, Any]:
    """What the details of both versions say of images: their number, and of generated ones curves, facts and recipe."""
    if source is None:
        return {"images": None}
    if source.target is None:
        return {"images": len(source.images)}
    return {
        "images": len(source.images),
        "curves": short_curves(source.curves),
        "facts": Facts(total_variation_target=source.target),
        "recipe": Recipe(**{name: getattr(options, name) for name in Recipe.model_fields}),
    }
