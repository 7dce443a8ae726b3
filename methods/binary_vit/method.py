"""BinaryViT (arXiv 2305.14730): a fully binarized ViT, reconstructed; no code of it was ever released.

Weights and activations of every block, attention products included, become one bit. The baseline of the literature is
joined by the paper's two parts: a gradient regularization scheme (GRS) that keeps latent weights away from the
boundary of the sign, and an activation shift module (ASM) that moves every channel before its sign is taken.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from vitq.errors import MethodInputError, UnsupportedError
from vitq.methods.architectures.explicit import attentions, make_explicit
from vitq.methods.base import Quantized
from vitq.methods.binary_vit import diagnostics, packed
from vitq.methods.binary_vit.binarize import Binarizer
from vitq.methods.binary_vit.layers import BinaryLinear, BinaryMatMul
from vitq.methods.bits import Bits
from vitq.methods.toolkit.layers import replace_modules
from vitq.methods.training.trainer import History, Recipe, train
from vitq.options import without_effect
from vitq.subject import Batch, Subject

_INSIDE_BLOCKS = re.compile(r"(^|\.)(blocks|layers|stages)\.\d+\.")


@dataclass(frozen=True)
class Options:
    """Defaults are the full recipe; the card names the source of each, and the short recipes of the suites.

    `grs` and `asm` off give the paper's baseline. `grs_weight` is GRS's pull at the end of training, in units of a
    row's mean absolute gradient; it grows linearly from 0. `distillation` trains on the FP model's outputs, without it
    on labels. The task's metrics are taken every `validate_every` epochs and at the end. 0 epochs binarize without
    training.
    """

    grs: bool = True
    asm: bool = True
    grs_weight: float = 1.0
    distillation: bool = True
    epochs: int = 300
    lr: float = 5e-4
    weight_decay: float = 0.0
    warmup_epochs: float = 0.0
    min_lr: float = 0.0
    clip_norm: float | None = None
    validate_every: int = 10

    def recipe(self) -> Recipe:
        """What of the options the trainer needs."""
        return Recipe(
            self.epochs, self.lr, self.weight_decay, self.warmup_epochs, self.min_lr, clip_norm=self.clip_norm
        )


def unsupported(bits: Bits, options: Options) -> str | None:  # noqa: ARG001
    """Only W1A1 has a meaning."""
    return None if (bits.w, bits.a) == (1, 1) else f"BinaryViT is binary: it has W1A1 alone, not {bits}"


def prepare(model: nn.Module, bits: Bits, options: Options) -> nn.Module:
    """The training form: block linears and attention products binary; patch embedding, norms and head stay FP.

    Raises UnsupportedError for other widths than W1A1 and for a model without attention that is known.
    """
    reason = unsupported(bits, options)
    if reason is not None:
        raise UnsupportedError(reason)
    make_explicit(model)
    found = attentions(model)
    if not found:
        raise UnsupportedError("BinaryViT needs a transformer: this model has no attention that can be made explicit")
    for attention in found.values():
        _binarize_products(attention, options.asm)

    def swap(name: str, module: nn.Module) -> nn.Module | None:
        inside = type(module) is nn.Linear and _INSIDE_BLOCKS.search(name)
        return BinaryLinear.of(module, options.asm) if inside else None  # type: ignore[arg-type]

    return replace_modules(model, swap)


def _binarize_products(attention: Any, asm: bool) -> None:
    heads, device = attention.num_heads, attention.qkv.weight.device
    width = attention.qkv.out_features // (3 * heads)
    attention.qk = BinaryMatMul.query_key(heads, width, asm).to(device)
    attention.av = BinaryMatMul.attention_value(heads, width, asm).to(device)


def quantize(job: Subject, options: Options) -> Quantized:
    """Binarize, train, pack."""
    if job.training is None and options.epochs:
        raise MethodInputError("binary_vit trains, and the task has no training data: give some, or set epochs to 0")
    teacher = copy.deepcopy(job.model).eval().requires_grad_(False)
    model = prepare(job.model, job.bits, options).requires_grad_(True)
    calibrate(model, job)
    before = diagnostics.weight_histogram(model)
    history = _Training(job, options, model, teacher).run() if options.epochs else []
    details = {
        "training": history,
        "without_effect": without_effect(options, _unread(options)),
        "weights": {"before": before, "after": diagnostics.weight_histogram(model)},
        "flipped_share": [row["flipped_share"] for row in history],
        "activation_means": _channel_means(model, job),
    }
    return Quantized(packed.pack(model.requires_grad_(False)), details, exec="xnor:torch")


def restore(model: nn.Module, bits: Bits, options: Options, facts: dict[str, Any]) -> nn.Module:  # noqa: ARG001
    """The packed form, its signs and scales to come from `saving.fill`."""
    return packed.pack(prepare(model, bits, options).requires_grad_(False))


def _unread(options: Options) -> set[str]:
    """Options that this run reads nothing of: a model that is not trained has no recipe."""
    trained = {f.name for f in fields(Options)} - {"asm", "epochs"}
    return (set() if options.grs else {"grs_weight"}) if options.epochs else trained


def calibrate(model: nn.Module, job: Subject) -> None:
    """Start the scale of every binarizer from the first calibration batch (BiT), in the order of the model."""
    for module in model.modules():
        if isinstance(module, Binarizer):
            module.calibrating = True
    batch = next(iter(job.calibration()), None)
    if batch is None:
        raise MethodInputError("binary_vit starts its scales from a calibration batch: the calibration set is empty")
    with torch.no_grad():
        job.forward(model.eval(), batch)
    unseen = [name for name, module in model.named_modules() if isinstance(module, Binarizer) and module.calibrating]
    if unseen:
        raise MethodInputError(f"{unseen[0]} saw no tensor in the calibration pass; the forward pass leaves it out")


def _channel_means(model: nn.Module, job: Subject) -> dict[str, Any]:
    with torch.no_grad(), diagnostics.ChannelMeans(model) as means:
        job.forward(model.eval(), next(iter(job.calibration())))
    return means.summary()


class _Training:
    """One training run: what happens at the start of an epoch, the loss, and what an epoch's row holds."""

    def __init__(self, job: Subject, options: Options, model: nn.Module, teacher: nn.Module) -> None:
        self.job, self.options, self.model, self.teacher = job, options, model, teacher
        self.signs: dict[str, Tensor] = {}

    def run(self) -> History:
        """Train, with a checkpoint that goes when training has ended."""
        checkpoint = self.job.artifacts / "training.pt"
        history = train(
            self.model,
            self.options.recipe(),
            self.batches,
            self.loss,
            seed=self.job.seed,
            checkpoint=checkpoint,
            progress=self.job.progress,
            on_epoch=self.on_epoch,
        )
        checkpoint.unlink(missing_ok=True)
        return history

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The epoch's batches; sets GRS's pull for it and remembers the signs it starts from."""
        pull = self.options.grs_weight * epoch / max(1, self.options.epochs - 1) if self.options.grs else 0.0
        for module in self.model.modules():
            if isinstance(module, BinaryLinear):
                module.pull = pull
        self.signs = diagnostics.weight_signs(self.model)
        assert self.job.training is not None
        return self.job.training(epoch)

    def loss(self, student: nn.Module, batch: Batch) -> Tensor:
        """Against the teacher's outputs (ReActNet's distributional loss), or against labels."""
        output = self.job.forward(student, batch)
        if not self.options.distillation:
            return self.job.loss(output, batch)
        with torch.no_grad():
            target = self.job.forward(self.teacher, batch)
        return self.job.distill(output, target)

    def on_epoch(self, epoch: int, model: nn.Module) -> dict[str, float]:
        """Share of signs that flipped, and the task's metrics when they are due."""
        row = {"flipped_share": diagnostics.flipped_share(self.signs, diagnostics.weight_signs(model))}
        last = epoch == self.options.epochs - 1
        if self.job.validate is not None and (last or (epoch + 1) % self.options.validate_every == 0):
            with torch.no_grad():
                row |= self.job.validate(model)
        return row
