"""The plain baseline: uniform asymmetric grids over plain ranges, weights per output channel, activations per tensor.

It quantizes the places that RepQ-ViT quantizes, with none of what RepQ-ViT adds: no percentiles, no LayerNorm
reparameterization, no logarithmic grid for attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from vitq.methods.base import Job, MethodInputError, Quantized
from vitq.methods.bits import Bits
from vitq.methods.cards import all_cards
from vitq.methods.toolkit.layers import QConv2d, QLinear, fit_all, set_mode
from vitq.methods.toolkit.observers import MinMax
from vitq.methods.toolkit.quantizers import Quantizer, UniformQuantizer
from vitq.methods.toolkit.standard_layers import Layer, quantize_places


@dataclass(frozen=True)
class Options:
    """No option."""


def unsupported(bits: Bits, options: Options) -> str | None:  # noqa: ARG001
    """Widths outside 2..8, as the card says."""
    return all_cards()["minmax"].supports.refuses(bits)


def prepare(model: nn.Module, bits: Bits, options: Options) -> nn.Module:  # noqa: ARG001
    """Quantized layers and products with unfitted grids; UnsupportedError where no attention is served."""

    def layer(_: str, module: Layer) -> tuple[Quantizer, Quantizer]:
        rows = module.weight.shape[0]
        return UniformQuantizer(bits.w, MinMax(axis=0), axis=0, channels=rows), activation()

    def activation() -> Quantizer:
        return UniformQuantizer(bits.a, MinMax())

    return quantize_places(model, layer, lambda _: (activation(), activation()))


def restore(model: nn.Module, bits: Bits, options: Options, facts: dict[str, Any]) -> nn.Module:  # noqa: ARG001
    """The finished model's modules, every quantizer on and without a grid until `saving.fill` gives it one."""
    return set_mode(prepare(model, bits, options), "on")


@torch.no_grad()
def quantize(job: Job, options: Options) -> Quantized:
    """Ranges over all calibration batches of the FP model, then every grid is fixed at once."""
    model = prepare(job.model, job.bits, options)
    set_mode(model, "observe")
    batches = 0
    for batch in job.calibration():
        job.forward(model, batch)
        batches += 1
        job.progress("calibrate", batches, 0)
    if batches == 0:
        raise MethodInputError("minmax needs at least one calibration batch; there was none")
    for module in model.modules():
        if isinstance(module, (QLinear, QConv2d)) and module.weight_quantizer is not None:
            module.weight_quantizer.observe(module.weight)
    fit_all(model)
    set_mode(model, "on")
    return Quantized(model, details={"calibration_batches": batches})
