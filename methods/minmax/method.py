"""The plain baseline: uniform asymmetric grids over plain ranges, weights per output channel, activations per tensor.

It quantizes the layers and products that RepQ-ViT quantizes, with none of what RepQ-ViT adds: no percentiles, no
LayerNorm reparameterization, no logarithmic grid for attention.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from vitq.details.minmax import Details
from vitq.methods.architectures.roles import Roles
from vitq.methods.base import Quantized
from vitq.methods.bits import Bits
from vitq.methods.cards import all_cards
from vitq.methods.minmax.options import Options
from vitq.methods.toolkit.calibration import run_calibration
from vitq.methods.toolkit.layers import QConv2d, QLinear
from vitq.methods.toolkit.modules import set_mode
from vitq.methods.toolkit.observers import MinMax
from vitq.methods.toolkit.quantizers import Quantizer, UniformQuantizer
from vitq.methods.toolkit.standard_layers import Layer, quantize_standard_layers
from vitq.methods.toolkit.unreached import fit_reached, leave_out, say
from vitq.subject import Subject


def unsupported(bits: Bits, options: Options) -> str | None:  # noqa: ARG001
    """Widths outside 2..8, as the card says."""
    return all_cards()["minmax"].supports.refuses(bits)


def prepare(part: nn.Module, bits: Bits, options: Options) -> nn.Module:  # noqa: ARG001
    """Quantized layers and products with unfitted grids; UnsupportedError where no attention is served."""
    _replace(part, bits)
    return part


def _replace(part: nn.Module, bits: Bits) -> Roles:
    """Replace what is quantized, in place; returns the part's roles."""

    def layer(_: str, module: Layer) -> tuple[Quantizer, Quantizer]:
        rows = module.weight.shape[0]
        return UniformQuantizer(bits.w, MinMax(axis=0), axis=0, channels=rows), activation()

    def activation() -> Quantizer:
        return UniformQuantizer(bits.a, MinMax())

    return quantize_standard_layers(part, layer, lambda _: (activation(), activation()))


def restore(part: nn.Module, bits: Bits, options: Options, facts: dict[str, Any]) -> nn.Module:
    """The finished part's modules, every quantizer on and without a grid until `saving.fill` gives it one."""
    made = prepare(part, bits, options)
    leave_out(made, facts.get("unreached", []))
    return set_mode(made, "on")


@torch.no_grad()
def quantize(subject: Subject, bits: Bits, options: Options) -> Quantized:  # noqa: ARG001
    """Ranges over all calibration batches of the FP model, then every grid is fixed at once."""
    part = subject.part
    roles = _replace(part, bits)
    set_mode(part, "observe")
    batches = run_calibration(subject)
    for module in part.modules():
        if isinstance(module, (QLinear, QConv2d)) and module.weight_quantizer is not None:
            module.weight_quantizer.observe(module.weight)
    unreached = fit_reached(part, roles)
    say(unreached)
    set_mode(part, "on")
    facts = {"unreached": unreached} if unreached else {}
    return Quantized(subject.put(part), Details(calibration_batches=batches), facts=facts)
