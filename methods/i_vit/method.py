"""I-ViT: integer-only inference of vision transformers by quantization-aware training (arXiv 2207.01405).

From the FP model to the integers: `network.Network` wires nodes, a file an operator (`linear`, `softmax`, `sums`, ...),
which compute in float32 what the integers will give; calibration finds ranges; training moves weights and ranges with
straight-through gradients; `integer.integer` turns every node into its integer form: int8 weights, int32 biases and
dyadic numbers. Two arithmetics: `paper`, which has that integer form, and `release`, what the authors' code computes,
which stays a float32 simulation. The network stands in the place of the part that is quantized, a classifier or a
backbone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vitq.details.i_vit import Details, Epoch
from vitq.errors import MethodInputError
from vitq.methods.base import Quantized
from vitq.methods.bits import Bits
from vitq.methods.cards import all_cards
from vitq.methods.i_vit.checks import refuse_too_wide, refuse_unfit_grids, refuse_zero_gammas
from vitq.methods.i_vit.curves import operator_errors
from vitq.methods.i_vit.forms import Forms
from vitq.methods.i_vit.grids import Output
from vitq.methods.i_vit.integer import integer
from vitq.methods.i_vit.network import Network
from vitq.methods.i_vit.nodes import IntegerNode
from vitq.methods.i_vit.options import Options
from vitq.methods.training.trainer import Recipe, train
from vitq.options import without_effect
from vitq.subject import Batch, Subject

CHECKPOINT = "training.pt"
"""The training checkpoint among the artifacts; a killed run goes on from it."""


def recipe(options: Options) -> Recipe:
    """How to train, in float32: the released code's schedule and groups."""
    by_epochs = options.schedule == "released"
    return Recipe(
        epochs=options.epochs, lr=options.lr, weight_decay=options.weight_decay, decay_vectors=False, amp=False,
        schedule="epochs" if by_epochs else "steps", min_lr=options.lr / 15 if by_epochs else 0.0,
    )  # fmt: skip


def forms_of(options: Options) -> Forms:
    """The form of every operator."""
    return Forms(
        options.arithmetic, frozenset(options.paper_operators), options.softmax, options.gelu, options.layernorm,
        options.rounding, options.softmax_bits,
    )  # fmt: skip


def unsupported(bits: Bits, options: Options) -> str | None:  # noqa: ARG001
    """Every width but W8A8, as the card says."""
    return all_cards()["i_vit"].supports.refuses(bits)


def prepare(part: nn.Module, bits: Bits, options: Options) -> Network:  # noqa: ARG001
    """The trainable form with unset ranges; UnsupportedError for what has no integer operators (`served`)."""
    return refuse_too_wide(Network(part, forms_of(options), options.drop_path))


def _outputs(network: nn.Module) -> list[Output]:
    return [m for m in network.modules() if isinstance(m, Output)]


@torch.no_grad()
def calibrate(network: Network, subject: Subject) -> int:
    """Ranges from one pass over the calibration batches, each quantized with the ranges so far; the batches' number.

    The network stands in `subject.model`, which is run.
    """
    for output in _outputs(network):
        output.observing = True
    batches = 0
    for batch in subject.calibration():
        subject.forward(subject.model, batch)
        batches += 1
        subject.progress("calibrate", batches, 0)
    for output in _outputs(network):
        output.observing = False
    if not batches:
        raise MethodInputError("i_vit needs at least one calibration batch; there was none")
    return batches


def _loss(subject: Subject, teacher: nn.Module | None) -> Callable[[nn.Module, Batch], Tensor]:
    """The loss of the whole model, in which the network that is trained stands."""

    def loss(_: nn.Module, batch: Batch) -> Tensor:
        output = subject.forward(subject.model, batch)
        if teacher is None:
            return subject.loss(output, batch)
        with torch.no_grad():
            target = subject.forward(teacher, batch)
        return subject.distill(output, target)

    return loss


def _train(network: Network, teacher: nn.Module | None, subject: Subject, options: Options) -> list[Epoch]:
    """Train the network alone; what else the model has stays in eval mode and as it is."""
    if options.epochs == 0:
        return []
    if subject.training is None:
        raise MethodInputError("i_vit trains, and this task has no training data: set epochs to 0")
    subject.model.requires_grad_(False)
    network.requires_grad_(True)
    history = train(
        network, recipe(options), subject.training, _loss(subject, teacher), seed=subject.seed,
        checkpoint=subject.artifacts / CHECKPOINT, progress=subject.progress,
    )  # fmt: skip
    return [Epoch.model_validate(row) for row in history]


def quantize(subject: Subject, bits: Bits, options: Options) -> Quantized:
    """Calibrate, train, and turn into integers where the arithmetic is the paper's."""
    teacher = copy.deepcopy(subject.model).eval().requires_grad_(False) if options.distill and options.epochs else None
    network = prepare(subject.part, bits, options).eval()
    subject.put(network)
    refuse_zero_gammas(network)
    unset = options.arithmetic == "release" and options.epochs > 0  # the released training starts from unset ranges
    batches = 0 if unset else calibrate(network, subject)
    history = _train(network, teacher, subject, options)
    network.eval().requires_grad_(False)
    with torch.no_grad():
        subject.forward(subject.model, subject.example())  # every node notes the scales that it is given
    facts = {"size": list(network.seen_size())}
    refuse_zero_gammas(network)
    refuse_unfit_grids(network)
    (subject.artifacts / CHECKPOINT).unlink(missing_ok=True)  # three times the model's size, and of no use any more
    details = Details(
        without_effect=without_effect(options, _unread(options)), calibration_batches=batches, training=history,
        operators=operator_errors(network),
    )  # fmt: skip
    if options.arithmetic == "release":
        return Quantized(subject.model, details, exec="fake-quant", facts=facts)
    return Quantized(subject.put(integer(network)), details, exec="integer-only:torch", facts=facts)


def _unread(options: Options) -> set[str]:
    """Options that nothing reads in a run with these."""
    unread = set() if options.epochs else {"lr", "schedule", "weight_decay", "drop_path", "distill"}
    unread |= {"paper_operators"} if options.arithmetic == "paper" else set()
    return unread | ({"softmax_bits"} if options.softmax == "log_int" else set())


def restore(part: nn.Module, bits: Bits, options: Options, facts: dict[str, Any]) -> Network:
    """The finished form on an architecture with any weights, which computes once it has the state of a saved model.

    `facts` holds the `size`, [C, H, W], of the images that the part was given.
    """
    network = prepare(part, bits, options).eval().requires_grad_(False)
    if options.arithmetic == "release":
        return network
    for parameter in network.parameters():
        parameter.zero_()  # what they hold does not matter, and could be no number
    for output in _outputs(network):
        output.take(torch.ones(()))
    form = integer(network, tuple(facts["size"]))
    for node in form.modules():
        if isinstance(node, IntegerNode):
            node.wait()
    return form
