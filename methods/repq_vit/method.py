"""RepQ-ViT: Scale Reparameterization for Post-Training Quantization of Vision Transformers (arXiv 2212.08254).

Quantization and inference are decoupled: LayerNorm's output is calibrated per channel and attention on a log-sqrt2
grid, then both are reparameterized into what hardware runs, a per-tensor grid and shifts by powers of two.
The defaults are what the released code does; the card says where that differs from the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vitq.errors import MethodInputError
from vitq.methods.base import Quantized
from vitq.methods.bits import Bits
from vitq.methods.cards import all_cards
from vitq.methods.repq_vit.layernorm_reparam import give_bias, layernorm_pairs, reparameterize
from vitq.methods.repq_vit.log_quantizers import LogQuantizer
from vitq.methods.toolkit.layers import QLinear, grids, set_mode
from vitq.methods.toolkit.observers import PercentileMSE
from vitq.methods.toolkit.quantizers import Quantizer, UniformQuantizer
from vitq.methods.toolkit.standard_layers import Layer, quantize_places
from vitq.options import without_effect
from vitq.subject import Subject


@dataclass(frozen=True)
class Options:
    """What the released code does by default.

    Attributes:
        log_code_overflow: what becomes of attention below the log grid's last code: 0 (released) or that code (paper).
        rounded_zero_point: round the mean zero point of the reparameterized LayerNorm (False in the released code).
        layernorm: grid of LayerNorm's output: reparameterized, per channel left as it is, or per tensor from the start.
        softmax: grid of attention.
    """

    log_code_overflow: Literal["zero", "clip"] = "zero"
    rounded_zero_point: bool = False
    layernorm: Literal["reparam", "channel", "layer"] = "reparam"
    softmax: Literal["log_sqrt2", "log2", "uniform"] = "log_sqrt2"


PATCH_EMBED_BITS = 8
"""Width of the image entering the patch-embed convolution, whatever the cell's (released code)."""


def unsupported(bits: Bits, options: Options) -> str | None:  # noqa: ARG001
    """Widths outside 2..8, as the card says."""
    return all_cards()["repq_vit"].supports.refuses(bits)


def prepare(model: nn.Module, bits: Bits, options: Options) -> nn.Module:
    """Quantized layers and products as the finished model has them, grids unfitted.

    Raises UnsupportedError where no attention is served or a LayerNorm has nothing to rescale.
    """

    def activation() -> Quantizer:
        return UniformQuantizer(bits.a, PercentileMSE())

    def layer(_: str, module: Layer) -> tuple[Quantizer, Quantizer]:
        weight = UniformQuantizer(bits.w, PercentileMSE(axis=0), axis=0, channels=module.weight.shape[0])
        convolution = isinstance(module, nn.Conv2d)
        return weight, UniformQuantizer(PATCH_EMBED_BITS, PercentileMSE()) if convolution else activation()

    def product(name: str) -> tuple[Quantizer, Quantizer]:
        return _attention(bits.a, options) if name.endswith(".av") else activation(), activation()

    quantize_places(model, layer, product)
    for pair in layernorm_pairs(model):
        if options.layernorm == "reparam":
            give_bias(pair.layer)
        elif options.layernorm == "channel":
            _per_channel(pair.layer)
    return model


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


def restore(model: nn.Module, bits: Bits, options: Options, facts: dict[str, Any]) -> nn.Module:  # noqa: ARG001
    """The finished model's modules, every quantizer on and without a grid until `saving.fill` gives it one."""
    return set_mode(prepare(model, bits, options), "on")


@torch.no_grad()
def quantize(job: Subject, options: Options) -> Quantized:
    """First pass, reparameterization, second search of the weights that it changed.

    The released code runs the calibration batch a second time after reparameterizing. Nothing is read from that pass
    but the new weights, which need no batch: their search alone is the second pass here, with the same result.
    """
    model = prepare(job.model, job.bits, options)
    pairs = list(layernorm_pairs(model)) if options.layernorm == "reparam" else []
    inputs = [_per_channel(pair.layer) for pair in pairs]
    job.progress("calibrate", 0, 2)
    _first_pass(job, model)
    job.progress("calibrate", 1, 2)
    flat = 0
    for pair, quantizer in zip(pairs, inputs, strict=True):
        constants = quantizer.grid.constants if isinstance(quantizer.grid, PercentileMSE) else None
        flat += 0 if constants is None else int((~constants.isnan()).sum())
        grid = reparameterize(pair, quantizer.scale, quantizer.zero_point, options.rounded_zero_point, constants)
        quantizer.set_grid(*grid)
        _search_weight(pair.layer)
    job.progress("calibrate", 2, 2)
    return Quantized(model, details=_details(model, options, len(pairs), flat))


def _details(model: nn.Module, options: Options, pairs: int, constant: int) -> dict[str, Any]:
    """What the record says: how much was read, which zero points came out, and options that nothing read.

    Zero points of reparameterized inputs lie in the codes' range, unless a channel far from zero drew them out of it.
    """
    zeros = [float(q.zero_point) for p in layernorm_pairs(model) if (q := _tensor_grid(p.layer)) is not None]
    unread = {"rounded_zero_point"} if options.layernorm != "reparam" else set()
    unread |= {"log_code_overflow"} if options.softmax == "uniform" else set()
    return {
        "calibration_batches": 1,
        "reparameterized_layernorms": pairs,
        "constant_channels": constant,
        "layernorm_zero_points": [min(zeros), max(zeros)] if zeros else None,
        "without_effect": without_effect(options, unread),
    }


def _tensor_grid(layer: nn.Linear) -> UniformQuantizer | None:
    quantizer = getattr(layer, "input_quantizer", None)
    return quantizer if isinstance(quantizer, UniformQuantizer) and quantizer.zero_point.ndim == 0 else None


def _search_weight(layer: nn.Linear) -> None:
    assert isinstance(layer, QLinear)
    assert layer.weight_quantizer is not None
    layer.weight_quantizer.observe(layer.weight)
    layer.weight_quantizer.fit()


def _first_pass(job: Subject, model: nn.Module) -> None:
    """One forward pass of the first calibration batch fixes all grids in order, each on already-quantized inputs.

    A quantizer that is used several times in one pass keeps the grid of its first use.
    """
    batch = next(iter(job.calibration()), None)
    if batch is None:
        raise MethodInputError("RepQ-ViT needs one calibration batch; there was none")

    names = {quantizer: name for name, quantizer in grids(model).items()}
    at: list[str] = []

    def enter(quantizer: Quantizer, _: tuple[Tensor, ...]) -> None:
        at[:] = [names[quantizer]]

    def fixed(quantizer: Quantizer, _: tuple[Tensor, ...], __: Tensor) -> None:
        quantizer.mode = "on"

    set_mode(model, "calibrate")
    hooks = [hook for m in names for hook in (m.register_forward_pre_hook(enter), m.register_forward_hook(fixed))]
    try:
        job.forward(model, batch)
    except MethodInputError as error:
        raise MethodInputError(f"{at[0]}: {error}" if at else str(error)) from error
    finally:
        for hook in hooks:
            hook.remove()
    unused = [name for quantizer, name in names.items() if quantizer.mode != "on"]
    if unused:
        raise MethodInputError(f"{unused[0]} saw no tensor in the calibration pass; the forward pass leaves it out")
