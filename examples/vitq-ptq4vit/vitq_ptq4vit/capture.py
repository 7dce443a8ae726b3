"""What the layers of a floating-point model take, give, and how the loss depends on it: for a few layers at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from vitq.errors import MethodInputError, UnsupportedError
from vitq.methods.toolkit.layers import QConv2d, QLinear
from vitq.subject import Batch, Subject
from vitq_ptq4vit.search import Seen

SHARP = 1e4
"""What makes a softmax of noisy logits a class: the chance that the second is within a part of it is nil."""


def sampled_targets(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Logits whose softmax is a class drawn from the softmax of these, for each place of the last dimension or others.

    The largest of logits + Gumbel noise is such a class; no dimension has to be known for that.
    """
    noise = torch.empty(logits.shape).exponential_(generator=generator).log_().neg_()
    return (logits + noise.to(logits)) * SHARP


def seen_by(
    subject: Subject, batches: Sequence[Batch], targets: Sequence[Tensor] | None, layers: dict[str, nn.Module]
) -> dict[str, Seen]:
    """Operands, outputs and gradients of these layers, by path; nothing for one that no batch reaches.

    `targets` are what the outputs are compared with by the task's distillation loss, a batch each; None for no
    gradients. MethodInputError for a layer whose gradient is all zero: every scale would be as good as another.
    """
    parts: dict[str, list[tuple[list[Tensor], Tensor, Tensor | None]]] = {path: [] for path in layers}
    for number, batch in enumerate(batches):
        with _watching(layers, gradients=targets is not None) as calls:
            output = one_tensor(subject.forward(subject.model, batch))
            if targets is not None:
                subject.distill(output, targets[number]).backward()  # type: ignore[no-untyped-call]
        for path, (operands, out) in calls.items():
            parts[path].append((operands, out.detach(), None if targets is None else out.grad))
    return {path: _joined(path, layers[path], found) for path, found in parts.items() if found}


def one_tensor(output: object) -> Tensor:
    """The task's output; UnsupportedError where it is not one tensor of logits."""
    if not isinstance(output, Tensor):
        raise UnsupportedError("PTQ4ViT weighs errors by the gradients of one tensor of logits; this task has several")
    return output


@contextmanager
def _watching(layers: dict[str, nn.Module], gradients: bool) -> Iterator[dict[str, tuple[list[Tensor], Tensor]]]:
    """Within it, what the layers take and give in one forward pass, the results as leaves or nodes of a graph."""
    calls: dict[str, tuple[list[Tensor], Tensor]] = {}

    def watch(path: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def note(_: nn.Module, operands: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if gradients:
                output = output if output.requires_grad else output.detach().requires_grad_()
                output.retain_grad()
            calls[path] = [operand.detach() for operand in operands], output
            return output

        return module.register_forward_hook(note)

    with ExitStack() as stack, torch.set_grad_enabled(gradients):
        for path, module in layers.items():
            stack.callback(watch(path, module).remove)
        yield calls


def _joined(path: str, layer: nn.Module, found: Sequence[tuple[list[Tensor], Tensor, Tensor | None]]) -> Seen:
    operands = [torch.cat(each) for each in zip(*(operands for operands, _, _ in found), strict=True)]
    gradients = [gradient for _, _, gradient in found if gradient is not None]
    output, gradient = torch.cat([out for _, out, _ in found]), torch.cat(gradients) if gradients else None
    if gradient is not None:
        gradient = _normalized(path, gradient)
    if isinstance(layer, (QLinear, QConv2d)):
        features = 1 if isinstance(layer, QConv2d) else output.ndim - 1
        return Seen(operands[0], layer.weight.detach(), output, gradient, features)
    return Seen(operands[0], operands[1], output, gradient, None)


def _normalized(path: str, gradient: Tensor) -> Tensor:
    """The gradient with a largest value of 1, which changes no choice."""
    most = gradient.abs().amax()
    if not bool(most > 0) or not bool(torch.isfinite(most)):
        raise MethodInputError(
            f"{path}: the gradient that weighs errors is zero or not finite, so that all scales are equal; "
            "set gradient: sampled, or other calibration images"
        )
    return gradient / most
