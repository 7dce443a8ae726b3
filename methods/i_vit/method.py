"""I-ViT: integer-only inference of vision transformers by quantization-aware training (arXiv 2207.01405).

From the FP model to the integers: `model.build` wires the network from nodes (`products`, `functions`, `sums`), which
compute in float32 what the integers will give; calibration finds ranges; training moves weights and ranges with
straight-through gradients; `integer.integer` turns the result into int8 weights, int32 biases and dyadic numbers. Two
arithmetics: `paper`, which has that integer form, and `release`, what the authors' code computes, which stays a
float32 simulation.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vitq.errors import MethodInputError
from vitq.methods.base import Quantized
from vitq.methods.bits import Bits
from vitq.methods.cards import all_cards
from vitq.methods.i_vit.checks import refuse_unfit_grids, refuse_zero_gammas
from vitq.methods.i_vit.curves import operator_errors
from vitq.methods.i_vit.grids import Output
from vitq.methods.i_vit.integer import integer
from vitq.methods.i_vit.integer_grids import IntegerNode
from vitq.methods.i_vit.model import build
from vitq.methods.i_vit.network import Network
from vitq.methods.i_vit.plan import OPERATORS, Plan
from vitq.methods.training.trainer import Recipe, train
from vitq.subject import Batch, Subject


@dataclass(frozen=True)
class Options:
    """What can be chosen; defaults are the paper's, or the released code's where the paper is silent (see the card).

    Attributes:
        arithmetic: `paper`, exact integers, or `release`, the released code's float32 simulation.
        epochs: of quantization-aware training; 0 is post-training quantization.
        lr: peak learning rate of AdamW with cosine decay.
        schedule: of the rate: `released`, once an epoch to lr/15, or `smooth`, every step to 0.
        weight_decay: of AdamW; biases and norms are spared.
        drop_path: rate at the last block, rising linearly from 0 at the first; in training only.
        distill: train on the FP model's outputs instead of labels.
        softmax: Shiftmax, or what the ablation puts in its place.
        gelu: ShiftGELU, or I-BERT's polynomial.
        layernorm: I-LayerNorm, or the L1 norm.
        rounding: of dyadic requantization; `floor` is the paper's printed formula.
        softmax_bits: width of the probabilities; none means the arithmetic's own.
        paper_operators: operators that take the paper's form within `release`, to see what each costs.
    """

    arithmetic: Literal["paper", "release"] = "paper"
    epochs: int = 30
    lr: float = 1e-6
    schedule: Literal["released", "smooth"] = "released"
    weight_decay: float = 1e-4
    drop_path: float = 0.1
    distill: bool = False
    softmax: Literal["shiftmax", "polynomial", "log_int"] = "shiftmax"
    gelu: Literal["shift", "polynomial"] = "shift"
    layernorm: Literal["integer", "l1"] = "integer"
    rounding: Literal["nearest", "floor"] = "nearest"
    softmax_bits: int | None = None
    paper_operators: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = sorted(set(self.paper_operators) - set(OPERATORS))
        if unknown:
            raise MethodInputError(f"paper_operators holds {unknown}; known: {', '.join(OPERATORS)}")
        if self.softmax_bits not in (None, 8, 16):
            raise MethodInputError(f"softmax_bits is {self.softmax_bits}: give 8, 16 or none")
        if self.epochs < 0 or not 0 <= self.drop_path < 1:
            raise MethodInputError(
                f"epochs {self.epochs}, drop_path {self.drop_path}: want epochs >= 0, 0 <= drop_path < 1"
            )

    def recipe(self) -> Recipe:
        """How to train, in float32: the released code's schedule and groups."""
        by_epochs = self.schedule == "released"
        return Recipe(
            epochs=self.epochs, lr=self.lr, weight_decay=self.weight_decay, decay_vectors=False, amp=False,
            schedule="epochs" if by_epochs else "steps", min_lr=self.lr / 15 if by_epochs else 0.0,
        )  # fmt: skip

    def plan(self) -> Plan:
        """The form of every operator."""
        return Plan(
            self.arithmetic, frozenset(self.paper_operators), self.softmax, self.gelu, self.layernorm, self.rounding,
            self.softmax_bits,
        )  # fmt: skip


def unsupported(bits: Bits, options: Options) -> str | None:  # noqa: ARG001
    """Every width but W8A8, as the card says."""
    return all_cards()["i_vit"].supports.refuses(bits)


def prepare(model: nn.Module, bits: Bits, options: Options) -> Network:  # noqa: ARG001
    """The trainable form with unset ranges; UnsupportedError for a model that is neither ViT, DeiT nor Swin."""
    return build(model, options.plan(), options.drop_path)


def _outputs(model: nn.Module) -> list[Output]:
    return [m for m in model.modules() if isinstance(m, Output)]


@torch.no_grad()
def calibrate(model: Network, job: Subject) -> int:
    """Ranges from one pass over the calibration batches, each quantized with the ranges so far; the batches' number."""
    for output in _outputs(model):
        output.observing = True
    batches = 0
    for batch in job.calibration():
        job.forward(model, batch)
        batches += 1
        job.progress("calibrate", batches, 0)
    for output in _outputs(model):
        output.observing = False
    if not batches:
        raise MethodInputError("i_vit needs at least one calibration batch; there was none")
    return batches


def _loss(job: Subject, teacher: nn.Module | None) -> Callable[[nn.Module, Batch], Tensor]:
    def loss(model: nn.Module, batch: Batch) -> Tensor:
        output = job.forward(model, batch)
        if teacher is None:
            return job.loss(output, batch)
        with torch.no_grad():
            target = job.forward(teacher, batch)
        return job.distill(output, target)

    return loss


CHECKPOINT = "training.pt"
"""The training checkpoint among the artifacts; a killed run goes on from it."""


def _train(model: Network, teacher: nn.Module | None, job: Subject, options: Options) -> list[dict[str, float]]:
    if options.epochs == 0:
        return []
    if job.training is None:
        raise MethodInputError("i_vit trains, and this task has no training data: set epochs to 0")
    model.requires_grad_(True)
    return train(
        model, options.recipe(), job.training, _loss(job, teacher), seed=job.seed,
        checkpoint=job.artifacts / CHECKPOINT, progress=job.progress,
    )  # fmt: skip


def quantize(job: Subject, options: Options) -> Quantized:
    """Calibrate, train, and turn into integers where the arithmetic is the paper's."""
    teacher = copy.deepcopy(job.model).eval().requires_grad_(False) if options.distill and options.epochs else None
    model = prepare(job.model, job.bits, options).eval()
    refuse_zero_gammas(model)
    unset = options.arithmetic == "release" and options.epochs > 0  # the released training starts from unset ranges
    batches = 0 if unset else calibrate(model, job)
    history = _train(model, teacher, job, options)
    model.eval().requires_grad_(False)
    model.note_scales(job.input.size)
    refuse_zero_gammas(model)
    refuse_unfit_grids(model)
    (job.artifacts / CHECKPOINT).unlink(missing_ok=True)  # three times the model's size, and of no use any more
    details = {"calibration_batches": batches, "training": history, "operators": operator_errors(model)}
    facts = {"size": list(job.input.size)}
    if options.arithmetic == "release":
        return Quantized(model, details, exec="fake-quant", facts=facts)
    return Quantized(integer(model, job.input.size), details, exec="integer-only:torch", facts=facts)


def restore(model: nn.Module, bits: Bits, options: Options, facts: dict[str, Any]) -> Network:
    """The finished form on an architecture with any weights, which computes once it has the state of a saved model.

    `facts` holds the image's `size`, [C, H, W].
    """
    network = prepare(model, bits, options).eval().requires_grad_(False)
    if options.arithmetic == "release":
        return network
    for parameter in network.parameters():
        parameter.zero_()  # what they hold does not matter, and could be no number
    for output in _outputs(network):
        output.take(torch.ones(()))
    channels, height, width = facts["size"]
    form = integer(network, (channels, height, width))
    for node in form.modules():
        if isinstance(node, IntegerNode):
            node.wait()
    return form
