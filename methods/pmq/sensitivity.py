"""Sensitivity of every component to every width: PMQ's, in one backward pass, and a leave-one-out search's.

With a mask m on the elements of a tensor T, at m = 1, dL/dm = T * dL/dT (SNIP, Lee et al., 2019, equation 3). A
perturbation of relative size r = ||T - Q_b(T)|| / ||T||, spread over the elements in proportion to them and
independent from one to the next, changes the loss by ||dL/dm|| r in root mean square. Errors of that kind add in
squares. Hence

    Omega(T, b) = mean_i <dL_i/dT, Q_b(T) - T>^2                  (`directional`: see there)
    Omega(T, b) = (||dL/dm||_2 * ||T - Q_b(T)|| / ||T||)^2        (`squared`)
    Omega(T, b) = ||dL/dm||_2 * ||T - Q_b(T)|| / ||T||            (`relative`: adds the sizes themselves)
    Omega(T, b) = ||dL/dm||_1 * ||T - Q_b(T)||                    (`absolute`: SNIP's sum, the plain perturbation)

summed over the operands of a component, and over components. An activation's norm is taken image by image and summed
(L is a mean over the batch, and images are perturbed independently); a weight has one gradient for the batch. What
belongs to no image by its place, as the proposals of a detector, whose number differs, is taken row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor

from vitq.errors import MethodInputError
from vitq.methods.pmq.components import Component, clip, set_width
from vitq.methods.pmq.options import Perturbation
from vitq.methods.toolkit.layers import QMatMul
from vitq.methods.toolkit.quantizers import UniformQuantizer

Table = dict[str, dict[Literal["weight", "activation"], dict[int, float]]]
"""Component name to operand to width to expected change of the loss; no `weight` for a product."""
LossOf = Callable[[], Tensor]


def connection(parts: Sequence[Component], loss: LossOf, images: int, order: int) -> dict[UniformQuantizer, float]:
    """||dL/dm|| of every operand, L1 or L2 by `order`, from one forward and one backward pass.

    `loss()` runs the model on the calibration batch; its quantizers are off. MethodInputError where every gradient
    vanishes or one is not finite.
    """
    found: dict[UniformQuantizer, Tensor] = {}
    watched: list[Tensor] = []
    handles = [q.register_forward_hook(_mask(found, watched, images, order)) for p in parts for q in p.activations()]
    weights = [(p.weight(), p.module.weight.requires_grad_()) for p in parts if not isinstance(p.module, QMatMul)]
    try:
        with torch.enable_grad():
            value = loss()
            gradients = torch.autograd.grad(value, [*(w for _, w in weights), *watched], allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    for (quantizer, weight), gradient in zip(weights, gradients, strict=False):
        if quantizer is not None and gradient is not None:
            found[quantizer] = torch.linalg.vector_norm(gradient * weight.detach(), order)
    sizes = {quantizer: float(size) for quantizer, size in found.items()}
    check_gradients(sizes.values())
    return sizes


def _mask(
    found: dict[UniformQuantizer, Tensor], watched: list[Tensor], images: int, order: int
) -> Callable[..., Tensor]:
    """A forward hook of an activation's quantizer that takes ||x * dL/dx|| when the gradient arrives.

    The tensor joins `watched`: autograd walks only to what it is asked for, and nothing else needs the image's.
    """

    def hook(quantizer: UniformQuantizer, _: tuple[Tensor, ...], output: Tensor) -> Tensor:
        shown = output.detach()
        passed = output.view_as(output) if output.requires_grad else output.detach().requires_grad_()
        watched.append(passed)

        def arrive(gradient: Tensor) -> None:
            each = torch.linalg.vector_norm(by_image(gradient * shown, images), order, dim=1)
            found[quantizer] = found.get(quantizer, 0) + each.sum()

        passed.register_hook(arrive)  # type: ignore[no-untyped-call]
        return passed

    return hook


def by_image(x: Tensor, images: int) -> Tensor:
    """[images, elements]; row by row, [rows, elements], where the rows are no multiple of the images."""
    return x.reshape(images, -1) if len(x) and len(x) % images == 0 else x.flatten(1)


def check_gradients(sizes: Iterable[float]) -> None:
    """MethodInputError where all sensitivities are zero or one is not finite."""
    total = sum(sizes)
    if not total > 0 or total == float("inf"):
        raise MethodInputError(
            "the loss of the calibration batch has no usable gradient (the model fits it perfectly, or overflows); "
            "set the option `labels: random`"
        )


def table(parts: Sequence[Component], sizes: dict[UniformQuantizer, float], widths: Sequence[int],
          perturbation: Perturbation) -> Table:  # fmt: skip
    """Omega of every component, operand and width from connection sensitivities and what the observers saw."""

    def omega(quantizer: UniformQuantizer, bits: int, elements: int) -> float:
        error = clip(quantizer).error(bits)
        if perturbation == "absolute":
            error *= clip(quantizer).norm() * elements**0.5
        product = sizes.get(quantizer, 0.0) * error
        return product**2 if perturbation == "squared" else product

    rows: Table = {}
    for part in parts:
        inputs = part.activations()
        share = part.inputs // len(inputs)
        rows[part.name] = {"activation": {b: sum(omega(q, b, share) for q in inputs) for b in widths}}
        weight = part.weight()
        if weight is not None:
            rows[part.name]["weight"] = {b: omega(weight, b, part.weights) for b in widths}
    return rows


@torch.no_grad()
def leave_one_out(parts: Sequence[Component], loss: LossOf, widths: Sequence[int],
                  step: Callable[[int, int], None]) -> tuple[Table, int]:  # fmt: skip
    """Increase of the loss when one operand group of one component alone is quantized: a forward pass each.

    Returns the table and the number of forward passes. The model's quantizers are off before and after.
    """
    rows: Table = {part.name: {} for part in parts}
    trials = [(p, "activation", p.activations()) for p in parts] + [
        (p, "weight", [p.weight()]) for p in parts if p.weights
    ]
    base, passes = float(loss()), 1
    for part, operand, quantizers in trials:
        increase = {}
        for bits in widths:
            increase[bits] = _with([q for q in quantizers if q is not None], bits, loss) - base
            passes += 1
            step(passes, len(trials) * len(widths) + 1)
        rows[part.name]["weight" if operand == "weight" else "activation"] = increase
    return rows, passes


def _with(quantizers: list[UniformQuantizer], bits: int, loss: LossOf) -> float:
    for quantizer in quantizers:
        set_width(quantizer, bits)
        quantizer.mode = "on"
    value = float(loss())
    for quantizer in quantizers:
        quantizer.mode = "off"
    return value
