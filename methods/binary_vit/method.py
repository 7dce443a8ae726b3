"""BinaryViT (arXiv 2305.14730): a fully binarized ViT, reconstructed; no code of it was ever released.

Weights and activations of every block, attention products included, become one bit. The baseline of the literature is
joined by the paper's two parts: a gradient regularization scheme (GRS) that keeps latent weights away from the
boundary of the sign, and an activation shift module (ASM) that moves every channel before its sign is taken.
"""

from __future__ import annotations

import copy
from dataclasses import fields
from typing import Any

import torch
from torch import nn

from vitq.details.binary_vit import ActivationMeans, Details, Epoch, Weights
from vitq.errors import MethodInputError, UnsupportedError
from vitq.methods.architectures.roles import Attention, Roles, roles_of
from vitq.methods.base import Quantized
from vitq.methods.binary_vit import diagnostics, packed
from vitq.methods.binary_vit.binarize import Binarizer
from vitq.methods.binary_vit.layers import BinaryLinear, BinaryMatMul
from vitq.methods.binary_vit.options import Options
from vitq.methods.binary_vit.training import Training
from vitq.methods.bits import Bits
from vitq.methods.cards import all_cards
from vitq.methods.toolkit.modules import replace_modules
from vitq.options import without_effect
from vitq.subject import Subject

__all__ = ["Options", "calibrate", "channel_means", "prepare", "quantize", "restore", "unsupported"]


def unsupported(bits: Bits, options: Options) -> str | None:  # noqa: ARG001
    """Anything but W1A1, as the card says."""
    return all_cards()["binary_vit"].supports.refuses(bits)


def prepare(part: nn.Module, bits: Bits, options: Options) -> nn.Module:
    """The training form: linears of blocks and mergings and attention products binary; the rest stays FP.

    Patch embedding, norms and head are the rest. Raises UnsupportedError for other widths than W1A1 and for a part
    without attention that is known.
    """
    reason = unsupported(bits, options)
    if reason is not None:
        raise UnsupportedError(f"{reason}, not {bits}")
    roles = roles_of(part)
    products = {path: module for each in roles.attentions for path, module in _products(roles, each, options.asm)}
    linears = binary_linears(roles)

    def swap(path: str, module: nn.Module) -> nn.Module | None:
        if path in linears and isinstance(module, nn.Linear):
            return BinaryLinear.of(module, options.asm)
        return products.get(path)

    return replace_modules(part, swap)


def binary_linears(roles: Roles) -> set[str]:
    """Paths of the layers whose weights become binary: those of every block and every merging."""
    blocks = ((b.attention.qkv, b.attention.proj, b.mlp.fc1, b.mlp.fc2) for b in roles.blocks)
    return {path for paths in blocks for path in paths} | {merging.reduction for merging in roles.mergings}


def _products(roles: Roles, attention: Attention, asm: bool) -> list[tuple[str, nn.Module]]:
    """The two binary products of an attention, by the paths of those they replace."""
    weight = roles.module(attention.qkv).get_parameter("weight")
    width = weight.shape[0] // (3 * attention.heads)
    made = (
        (attention.qk, BinaryMatMul.query_key(attention.heads, width, asm)),
        (attention.av, BinaryMatMul.attention_value(attention.heads, width, asm)),
    )
    return [(path, module.to(weight.device)) for path, module in made]


def quantize(subject: Subject, bits: Bits, options: Options) -> Quantized:
    """Binarize, train, pack."""
    if subject.training is None and options.epochs:
        raise MethodInputError("binary_vit trains, and the task has no training data: give some, or set epochs to 0")
    teacher = copy.deepcopy(subject.model).eval().requires_grad_(False)
    part = prepare(subject.part, bits, options)
    subject.put(part).requires_grad_(False)
    part.requires_grad_(True)
    calibrate(subject)
    before = diagnostics.weight_histogram(part)
    history = Training(subject, options, teacher).run() if options.epochs else []
    details = Details(
        without_effect=without_effect(options, _unread(options)),
        training=[Epoch.model_validate(row) for row in history],
        weights=Weights(before=before, after=diagnostics.weight_histogram(part)),
        flipped_share=[row["flipped_share"] for row in history],
        activation_means=channel_means(subject),
    )
    return Quantized(subject.put(packed.pack(part.requires_grad_(False))), details, exec="xnor:torch")


def restore(part: nn.Module, bits: Bits, options: Options, facts: dict[str, Any]) -> nn.Module:  # noqa: ARG001
    """The packed form, its signs and scales to come from `saving.fill`."""
    return packed.pack(prepare(part, bits, options).requires_grad_(False))


def _unread(options: Options) -> set[str]:
    """Options that this run reads nothing of: a model that is not trained has no recipe."""
    trained = {f.name for f in fields(Options)} - {"asm", "epochs"}
    return (set() if options.grs else {"grs_weight"}) if options.epochs else trained


def calibrate(subject: Subject) -> None:
    """Start the scale of every binarizer from the first calibration batch (BiT), in the order of the model."""
    binarizers = {path: module for path, module in subject.part.named_modules() if isinstance(module, Binarizer)}
    for module in binarizers.values():
        module.calibrating = True
    batch = next(iter(subject.calibration()), None)
    if batch is None:
        raise MethodInputError("binary_vit starts its scales from a calibration batch: the calibration set is empty")
    with torch.no_grad():
        subject.forward(subject.model.eval(), batch)
    unseen = [path for path, module in binarizers.items() if module.calibrating]
    if unseen:
        raise MethodInputError(f"{unseen[0]} saw no tensor in the calibration pass; the forward pass leaves it out")


def channel_means(subject: Subject) -> ActivationMeans:
    """Channel means of every binarized input before and after the shift, over the first calibration batch."""
    with torch.no_grad(), diagnostics.ChannelMeans(subject.part) as means:
        subject.forward(subject.model.eval(), next(iter(subject.calibration())))
    return means.summary()
