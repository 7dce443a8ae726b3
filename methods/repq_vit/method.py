"""RepQ-ViT: Scale Reparameterization for Post-Training Quantization of Vision Transformers (arXiv 2212.08254).

Quantization and inference are decoupled: LayerNorm's output is calibrated per channel and attention on a log-sqrt2
grid, then both are reparameterized into what hardware runs, a per-tensor grid and shifts by powers of two.
The defaults are what the released code does; the card says where that differs from the paper.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from vitq.details.repq_vit import Details
from vitq.methods.architectures.roles import Roles, roles_of
from vitq.methods.base import Quantized
from vitq.methods.bits import Bits
from vitq.methods.cards import all_cards
from vitq.methods.repq_vit.first_pass import first_pass
from vitq.methods.repq_vit.layernorm_reparam import Pair, give_bias, layernorm_pairs, reparameterize
from vitq.methods.repq_vit.log_quantizers import LogQuantizer
from vitq.methods.repq_vit.options import Options
from vitq.methods.toolkit.layers import QLinear
from vitq.methods.toolkit.modules import set_mode
from vitq.methods.toolkit.observers import PercentileMSE
from vitq.methods.toolkit.quantizers import Quantizer, UniformQuantizer
from vitq.methods.toolkit.standard_layers import Layer, Product, quantize_standard_layers
from vitq.methods.toolkit.unreached import leave_out
from vitq.options import without_effect
from vitq.subject import Subject

PATCH_EMBED_BITS = 8
"""Width of the image entering the patch-embed convolution, whatever the cell's (released code)."""


def unsupported(bits: Bits, options: Options) -> str | None:  # noqa: ARG001
    """Widths outside 2..8, as the card says."""
    return all_cards()["repq_vit"].supports.refuses(bits)


def prepare(part: nn.Module, bits: Bits, options: Options) -> nn.Module:
    """Quantized layers and products as the finished part has them, grids unfitted.

    Raises UnsupportedError where no attention is served or a LayerNorm has nothing to rescale.
    """
    _replace(part, bits, options)
    return part


def _replace(part: nn.Module, bits: Bits, options: Options) -> Roles:
    """As `prepare`; returns the part's roles."""
    patches = roles_of(part).embedding.projection

    def activation() -> Quantizer:
        return UniformQuantizer(bits.a, PercentileMSE())

    def layer(path: str, module: Layer) -> tuple[Quantizer, Quantizer]:
        weight = UniformQuantizer(bits.w, PercentileMSE(axis=0), axis=0, channels=module.weight.shape[0])
        return weight, UniformQuantizer(PATCH_EMBED_BITS, PercentileMSE()) if path == patches else activation()

    def product(which: Product) -> tuple[Quantizer, Quantizer]:
        return _attention(bits.a, options) if which == "av" else activation(), activation()

    roles = quantize_standard_layers(part, layer, product)
    for pair in layernorm_pairs(roles):
        if options.layernorm == "reparam":
            give_bias(pair.layer)
        elif options.layernorm == "channel":
            _per_channel(pair.layer)
    return roles


def _attention(bits: int, options: Options) -> Quantizer:
    if options.softmax == "uniform":
        return UniformQuantizer(bits, PercentileMSE())
    return LogQuantizer(bits, 2 if options.softmax == "log_sqrt2" else 1, options.log_code_overflow)


def _per_channel(layer: nn.Linear) -> UniformQuantizer:
    """Let the layer's input quantizer search a grid for each channel of the last dimension."""
    assert isinstance(layer, QLinear)
    assert layer.input_quantizer is not None
    bits, channels = layer.input_quantizer.bits, layer.in_features
    layer.input_quantizer = UniformQuantizer(bits, PercentileMSE(axis=-1), axis=-1, channels=channels)
    return layer.input_quantizer


def restore(part: nn.Module, bits: Bits, options: Options, facts: dict[str, Any]) -> nn.Module:
    """The finished part's modules, every quantizer on and without a grid until `saving.fill` gives it one."""
    made = prepare(part, bits, options)
    leave_out(made, facts.get("unreached", []))
    return set_mode(made, "on")


@torch.no_grad()
def quantize(subject: Subject, bits: Bits, options: Options) -> Quantized:
    """First pass, reparameterization, second search of the weights that it changed.

    The released code runs the calibration batch a second time after reparameterizing. Nothing is read from that pass
    but the new weights, which need no batch: their search alone is the second pass here, with the same result.
    """
    part = subject.part
    roles = _replace(part, bits, options)
    pairs = layernorm_pairs(roles)
    rewritten = pairs if options.layernorm == "reparam" else []
    inputs = [_per_channel(pair.layer) for pair in rewritten]
    subject.progress("calibrate", 0, 2)
    unreached = first_pass(subject, roles, shared=options.shared_layers)
    subject.progress("calibrate", 1, 2)
    constant = sum(_rewrite(*one, options) for one in zip(rewritten, inputs, strict=True))
    subject.progress("calibrate", 2, 2)
    details = _details(pairs, options, len(rewritten), constant)
    return Quantized(subject.put(part), details, facts={"unreached": unreached} if unreached else {})


def _rewrite(pair: Pair, quantizer: UniformQuantizer, options: Options) -> int:
    """Reparameterize one LayerNorm and search its layer's weight again; returns how many channels had one value."""
    constants = quantizer.grid.constants if isinstance(quantizer.grid, PercentileMSE) else None
    pair = replace(pair, moved=None) if options.padding == "released" else pair
    grid = reparameterize(pair, quantizer.scale, quantizer.zero_point, options.rounded_zero_point, constants)
    quantizer.set_grid(*grid)
    _search_weight(pair.layer)
    return 0 if constants is None else int((~constants.isnan()).sum())


def _details(pairs: list[Pair], options: Options, rewritten: int, constant: int) -> Details:
    """What the record says: how much was read, which zero points came out, and options that nothing read."""
    zeros = [float(q.zero_point) for pair in pairs if (q := _tensor_grid(pair.layer)) is not None]
    unread = {"rounded_zero_point"} if options.layernorm != "reparam" else set()
    unread |= {"log_code_overflow"} if options.softmax == "uniform" else set()
    return Details(
        calibration_batches=1,
        reparameterized_layernorms=rewritten,
        constant_channels=constant,
        layernorm_zero_points=(min(zeros), max(zeros)) if zeros else None,
        without_effect=without_effect(options, unread),
    )


def _tensor_grid(layer: nn.Linear) -> UniformQuantizer | None:
    quantizer = layer.input_quantizer if isinstance(layer, QLinear) else None
    return quantizer if isinstance(quantizer, UniformQuantizer) and quantizer.zero_point.ndim == 0 else None


def _search_weight(layer: nn.Linear) -> None:
    assert isinstance(layer, QLinear)
    assert layer.weight_quantizer is not None
    layer.weight_quantizer.observe(layer.weight)
    layer.weight_quantizer.fit()
