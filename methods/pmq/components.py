"""The components that PMQ gives widths to: every layer and attention product of a model, with their costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitq.methods.bits import Bits
from vitq.methods.pmq.clipping import MSEClip
from vitq.methods.toolkit.layers import QConv2d, QLinear, QMatMul
from vitq.methods.toolkit.quantizers import Quantizer, UniformQuantizer
from vitq.methods.toolkit.standard_layers import Layer, quantize_standard_layers
from vitq.subject import Output

Widths = dict[str, tuple[int, int]]
"""Component name to (weight width, activation width); a product has no weight and carries its activation width."""


@dataclass
class Component:
    """A quantized layer or product.

    `weights`: number of weights, 0 for a product. `inputs`: activation elements that enter it, `macs`: its
    multiply-accumulates, both for one image and 0 until `count_costs` has run.
    """

    name: str
    module: QLinear | QConv2d | QMatMul
    weights: int
    inputs: int = 0
    macs: int = 0

    def activations(self) -> list[UniformQuantizer]:
        """The quantizers of its inputs: one of a layer, two of a product."""
        module = self.module
        found = [module.left, module.right] if isinstance(module, QMatMul) else [module.input_quantizer]
        return [q for q in found if isinstance(q, UniformQuantizer)]

    def weight(self) -> UniformQuantizer | None:
        """The quantizer of its weight, None for a product."""
        quantizer = None if isinstance(self.module, QMatMul) else self.module.weight_quantizer
        return quantizer if isinstance(quantizer, UniformQuantizer) else None


def build(part: nn.Module, bits: Bits) -> nn.Module:
    """Base quantizer everywhere at one width: weights per channel, activations per tensor, MSE-searched clipping."""

    def activation() -> Quantizer:
        return UniformQuantizer(bits.a, MSEClip())

    def layer(_: str, module: Layer) -> tuple[Quantizer, Quantizer]:
        rows = module.weight.shape[0]
        return UniformQuantizer(bits.w, MSEClip(axis=0), axis=0, channels=rows), activation()

    quantize_standard_layers(part, layer, lambda _: (activation(), activation()))
    return part


def components(part: nn.Module) -> list[Component]:
    """Every component of what `build` made, in the order of its modules."""
    found = []
    for name, module in part.named_modules():
        if isinstance(module, (QLinear, QConv2d)):
            found.append(Component(name, module, module.weight.numel()))
        elif isinstance(module, QMatMul):
            found.append(Component(name, module, 0))
    return found


@torch.no_grad()
def count_costs(parts: list[Component], forward: Callable[[], Output]) -> int:
    """Fill in inputs and MACs from one forward pass; returns the images in the batch.

    The batch as the task makes it stays closed: the number of images is the first dimension that the first layer sees.
    """
    images = 0
    handles = []

    def note(part: Component) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal images
            images = images or inputs[0].shape[0]
            part.inputs += sum(x.numel() for x in inputs[:2])
            part.macs += _macs(module, inputs[0], output)

        return hook

    for part in parts:
        part.inputs = part.macs = 0
        handles.append(part.module.register_forward_hook(note(part)))
    try:
        forward()
    finally:
        for handle in handles:
            handle.remove()
    for part in parts:
        part.inputs, part.macs = part.inputs // images, part.macs // images
    return images


def _macs(module: nn.Module, x: Tensor, out: Tensor) -> int:
    """Output elements times the products summed in each."""
    if isinstance(module, QConv2d):
        return out.numel() * module.weight[0].numel()
    return out.numel() * x.shape[-1]


def set_width(quantizer: UniformQuantizer, bits: int) -> None:
    """Give a quantizer that has observed its tensor another width, with the grid searched for it."""
    quantizer.bits = bits
    quantizer.set_grid(*quantizer.grid.grid(bits))


def apply(parts: list[Component], widths: Widths) -> None:
    """Set every component's widths and switch its quantizers on."""
    for part in parts:
        w, a = widths[part.name]
        weight = part.weight()
        for quantizer, bits in [(q, a) for q in part.activations()] + ([(weight, w)] if weight else []):
            set_width(quantizer, bits)
            quantizer.mode = "on"


def give_widths(parts: list[Component], widths: Widths) -> None:
    """Set every component's widths and leave the grids, which a saved model brings."""
    for part in parts:
        w, a = widths[part.name]
        weight = part.weight()
        for quantizer in part.activations():
            quantizer.bits = a
        if weight is not None:
            weight.bits = w


def clip(quantizer: UniformQuantizer) -> MSEClip:
    """A component's observer, with its type."""
    if not isinstance(quantizer.grid, MSEClip):
        raise TypeError("a PMQ quantizer searches its clipping; this one has another observer")
    return quantizer.grid


def bitops(parts: list[Component], widths: Widths) -> int:
    """BitOPs of one image: MACs times both operands' widths, summed over the components."""
    return sum(p.macs * (widths[p.name][0] if p.weights else widths[p.name][1]) * widths[p.name][1] for p in parts)
