"""Weights clipped where each output channel's squared error is least; activations over their plain ranges."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vitq.details import Details
from vitq.methods.base import Quantized
from vitq.methods.bits import Bits
from vitq.methods.cards import all_cards
from vitq.methods.toolkit.calibration import run_calibration
from vitq.methods.toolkit.layers import QConv2d, QLinear
from vitq.methods.toolkit.modules import fit_all, set_mode
from vitq.methods.toolkit.observers import MinMax, affine_grid, uniform_error
from vitq.methods.toolkit.quantizers import UniformQuantizer
from vitq.methods.toolkit.standard_layers import Layer, quantize_standard_layers
from vitq.subject import Subject
from vitq_plugin.clipped.options import Options


def clipped_grid(weight: Tensor, bits: int, narrowest: int) -> tuple[Tensor, Tensor]:
    """Scale and zero point [channels] of least squared error, of ranges from 100 % to `narrowest` % of a channel's."""
    rows = weight.flatten(1)
    shares = [share / 100 for share in range(100, narrowest - 1, -1)]
    grids = [affine_grid(rows.amin(1) * share, rows.amax(1) * share, bits) for share in shares]
    best = torch.stack([uniform_error(rows, *grid, bits) for grid in grids]).argmin(0, keepdim=True)
    scale, zero = (torch.stack(each).gather(0, best)[0] for each in zip(*grids, strict=True))
    return scale, zero


def unsupported(bits: Bits, options: Options) -> str | None:
    """Ranges that are none, and widths that the card does not serve."""
    if not 1 <= options.narrowest <= 100:
        return "clipped.narrowest is a percentage, 1 to 100"
    return all_cards()["clipped"].supports.refuses(bits)


def prepare(part: nn.Module, bits: Bits, options: Options) -> nn.Module:  # noqa: ARG001
    """Quantized layers and products with unfitted grids."""

    def activation() -> UniformQuantizer:
        return UniformQuantizer(bits.a, MinMax())

    def layer(_: str, module: Layer) -> tuple[UniformQuantizer, UniformQuantizer]:
        return UniformQuantizer(bits.w, MinMax(axis=0), axis=0, channels=module.weight.shape[0]), activation()

    quantize_standard_layers(part, layer, lambda _: (activation(), activation()))
    return part


def restore(part: nn.Module, bits: Bits, options: Options, facts: dict[str, Any]) -> nn.Module:  # noqa: ARG001
    """The finished part's modules, to be filled from a saved model."""
    return set_mode(prepare(part, bits, options), "on")


@torch.no_grad()
def quantize(subject: Subject, bits: Bits, options: Options) -> Quantized:
    """Ranges of the model in floating point over all batches, then the grids of weights."""
    part = set_mode(prepare(subject.part, bits, options), "observe")
    layers = [module for module in part.modules() if isinstance(module, (QLinear, QConv2d))]
    for layer in layers:
        layer.weight_quantizer.observe(layer.weight)  # type: ignore[union-attr]
    run_calibration(subject)
    fit_all(part)
    for layer in layers:
        layer.weight_quantizer.set_grid(*clipped_grid(layer.weight, bits.w, options.narrowest))  # type: ignore[union-attr,operator]
    return Quantized(subject.put(set_mode(part, "on")), Details())
