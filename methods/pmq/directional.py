"""Sensitivity along the quantization error itself, from the same single backward pass.

A quantizer that moves T to Q_b(T) moves the mask of every element from 1 to Q_b(T_j) / T_j. To first order the loss of
image i changes by

    dL_i(T, b) = sum_j dL_i/dm_j (Q_b(T_j) / T_j - 1) = <dL_i/dT, Q_b(T) - T>,      Omega(T, b) = mean_i dL_i(T, b)^2

a quadratic form of the empirical Fisher matrix in the direction of the error. A product of norms takes the error as
independent of the gradient and of itself; a clipped outlier, or a GELU output with three codes left, is neither.
For a weight the error reaches image i as x_i (Q_b(W) - W)^T, one product a width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitq.methods.pmq.components import Component, clip
from vitq.methods.pmq.sensitivity import LossOf, Table, check_gradients
from vitq.methods.toolkit.layers import QConv2d, QLinear, QMatMul
from vitq.methods.toolkit.quantizers import UniformQuantizer

Squares = dict[tuple[str, str, int], Tensor]


def directional(parts: Sequence[Component], loss: LossOf, images: int, widths: Sequence[int]) -> Table:
    """Omega of every component, operand and width; the model's quantizers are off.

    MethodInputError where every gradient vanishes or one is not finite.
    """
    squares: Squares = {}
    watched: list[Tensor] = []
    handles = []
    for part in parts:
        for quantizer in part.activations():
            handles.append(quantizer.register_forward_hook(_activation(part, squares, watched, images, widths)))
        if not isinstance(part.module, QMatMul):
            handles.append(part.module.register_forward_hook(_weight(part, squares, images, widths)))
    try:
        with torch.enable_grad():
            torch.autograd.grad(loss(), watched, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    found = {key: float(value) for key, value in squares.items()}
    check_gradients(found.values())
    rows: Table = {}
    for part in parts:
        rows[part.name] = {"activation": {b: found.get((part.name, "activation", b), 0.0) for b in widths}}
        if part.weights:
            rows[part.name]["weight"] = {b: found.get((part.name, "weight", b), 0.0) for b in widths}
    return rows


def _error(quantizer: UniformQuantizer, x: Tensor, bits: int) -> Tensor:
    """Q_b(x) - x on the grid searched for this width."""
    trial = UniformQuantizer(bits, clip(quantizer), quantizer.axis)
    trial.set_grid(*clip(quantizer).grid(bits))
    return trial.fake_quant(x) - x


def _add(squares: Squares, key: tuple[str, str, int], product: Tensor, images: int) -> None:
    """Add mean_i dL_i^2; gradients of a mean over the batch are those of image i divided by `images`."""
    change = product.reshape(images, -1).sum(1) * images
    squares[key] = squares.get(key, torch.zeros_like(change[0])) + change.square().mean()


def _activation(part: Component, squares: Squares, watched: list[Tensor], images: int,
                widths: Sequence[int]) -> Callable[..., Tensor]:  # fmt: skip
    """A forward hook of an activation's quantizer that measures every width when the gradient arrives.

    The tensor joins `watched`: autograd walks only to what it is asked for, and nothing else needs the image's.
    """

    def hook(quantizer: UniformQuantizer, _: tuple[Tensor, ...], output: Tensor) -> Tensor:
        shown = output.detach()
        passed = output.view_as(output) if output.requires_grad else output.detach().requires_grad_()
        watched.append(passed)

        def arrive(gradient: Tensor) -> None:
            with torch.no_grad():
                for bits in widths:
                    product = gradient * _error(quantizer, shown, bits)
                    _add(squares, (part.name, "activation", bits), product, images)

        passed.register_hook(arrive)  # type: ignore[no-untyped-call]
        return passed

    return hook


def _weight(part: Component, squares: Squares, images: int, widths: Sequence[int]) -> Callable[..., None]:
    """A forward hook of a layer that measures every width of its weight when the output's gradient arrives."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x, quantizer = inputs[0].detach(), part.weight()
        if quantizer is None or not isinstance(module, (QLinear, QConv2d)):
            return

        def arrive(gradient: Tensor) -> None:
            with torch.no_grad():
                for bits in widths:
                    error = _error(quantizer, module.weight.detach(), bits)
                    moved = module._conv_forward(x, error, None) if isinstance(module, QConv2d) else F.linear(x, error)
                    _add(squares, (part.name, "weight", bits), gradient * moved, images)

        output.register_hook(arrive)  # type: ignore[no-untyped-call]

    return hook
