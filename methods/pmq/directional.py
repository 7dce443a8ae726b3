"""Sensitivity along the quantization error itself, from the same single backward pass.

A quantizer that moves T to Q_b(T) moves the mask of every element from 1 to Q_b(T_j) / T_j. To first order the loss of
image i changes by

    dL_i(T, b) = sum_j dL_i/dm_j (Q_b(T_j) / T_j - 1) = <dL_i/dT, Q_b(T) - T>,      Omega(T, b) = mean_i dL_i(T, b)^2

a quadratic form of the empirical Fisher matrix in the direction of the error. A product of norms takes the error as
independent of the gradient and of itself; a clipped outlier, or a GELU output with three codes left, is neither.
For a weight the error reaches image i as x_i (Q_b(W) - W)^T, one product a width. A layer that runs several times an
image, as a head does over a pyramid's levels, has its changes summed image by image; rows that belong to no image by
their place, as a detector's proposals, are taken as independent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitq.methods.pmq.components import Component, clip
from vitq.methods.pmq.sensitivity import LossOf, Table, by_image, check_gradients
from vitq.methods.toolkit.layers import QConv2d, QLinear, QMatMul
from vitq.methods.toolkit.quantizers import UniformQuantizer

Key = tuple[str, str, int, int]
"""Component, kind of operand, its number of that kind (a product has two activations), and width."""
Changes = dict[Key, list[Tensor]]
"""dL_i of every image, [images], or of every row of what belongs to no image, one a call."""


def directional(parts: Sequence[Component], loss: LossOf, images: int, widths: Sequence[int]) -> Table:
    """Omega of every component, operand and width; the model's quantizers are off.

    MethodInputError where every gradient vanishes or one is not finite.
    """
    changes: Changes = {}
    watched: list[Tensor] = []
    handles = []
    for part in parts:
        for number, quantizer in enumerate(part.activations()):
            hook = _activation(part, number, changes, watched, images, widths)
            handles.append(quantizer.register_forward_hook(hook))
        if not isinstance(part.module, QMatMul):
            handles.append(part.module.register_forward_hook(_weight(part, changes, images, widths)))
    try:
        with torch.enable_grad():
            torch.autograd.grad(loss(), watched, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    rows: Table = {}
    for part in parts:
        rows[part.name] = {}
        for kind, count in operands(part).items():
            found = {b: [changes.get((part.name, kind, i, b), []) for i in range(count)] for b in widths}
            rows[part.name][kind] = {b: _omega(calls, images) for b, calls in found.items()}
    check_gradients(omega for row in rows.values() for kind in row.values() for omega in kind.values())
    return rows


def operands(part: Component) -> dict[Literal["weight", "activation"], int]:
    """How many operands of each kind a component has."""
    activations: dict[Literal["weight", "activation"], int] = {"activation": len(part.activations())}
    return activations | ({"weight": 1} if part.weights else {})


def _error(quantizer: UniformQuantizer, x: Tensor, bits: int) -> Tensor:
    """Q_b(x) - x on the grid searched for this width."""
    trial = UniformQuantizer(bits, clip(quantizer), quantizer.axis)
    trial.set_grid(*clip(quantizer).grid(bits))
    return trial.fake_quant(x) - x


def _add(changes: Changes, key: Key, product: Tensor, images: int) -> None:
    """Note the change of each image; gradients of a mean over the batch are those of image i divided by `images`."""
    changes.setdefault(key, []).append(by_image(product, images).sum(1) * images)


def _omega(operands: Sequence[Sequence[Tensor]], images: int) -> float:
    """mean_i dL_i^2, summed over operands: dL_i is over all calls of one; of rows, the sum of squares over `images`."""
    total = torch.zeros(())
    for calls in operands:
        whole = [call for call in calls if len(call) == images]
        squares = [sum(whole[1:], whole[0]).square().mean()] if whole else []
        squares += [call.square().sum() / images for call in calls if len(call) != images]
        for square in squares:
            total = total.to(square.device) + square
    return float(total)


def _activation(part: Component, number: int, changes: Changes, watched: list[Tensor], images: int,
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
                    _add(changes, (part.name, "activation", number, bits), product, images)

        passed.register_hook(arrive)  # type: ignore[no-untyped-call]
        return passed

    return hook


def _weight(part: Component, changes: Changes, images: int, widths: Sequence[int]) -> Callable[..., None]:
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
                    _add(changes, (part.name, "weight", 0, bits), gradient * moved, images)

        output.register_hook(arrive)  # type: ignore[no-untyped-call]

    return hook
