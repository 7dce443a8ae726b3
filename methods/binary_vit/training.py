"""BinaryViT's training: the pull of GRS in each epoch, the loss, and what an epoch's row of the curve holds."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from vitq.methods.binary_vit import diagnostics
from vitq.methods.binary_vit.layers import BinaryLinear
from vitq.methods.binary_vit.options import Options
from vitq.methods.training.trainer import History, Recipe, train
from vitq.subject import Batch, Subject


def recipe(options: Options) -> Recipe:
    """What of the options the trainer needs."""
    return Recipe(
        options.epochs,
        options.lr,
        options.weight_decay,
        options.warmup_epochs,
        options.min_lr,
        clip_norm=options.clip_norm,
    )


class Training:
    """One training run of a subject whose part is in training form; `teacher` is the whole FP model.

    Only the part is trained and put into train mode: what lies outside the scope stays as it came.
    """

    def __init__(self, subject: Subject, options: Options, teacher: nn.Module) -> None:
        self.subject, self.options, self.teacher = subject, options, teacher
        self.signs: dict[str, Tensor] = {}

    def run(self) -> History:
        """Train, with a checkpoint that goes when training has ended."""
        checkpoint = self.subject.artifacts / "training.pt"
        history = train(
            self.subject.part,
            recipe(self.options),
            self.batches,
            self.loss,
            seed=self.subject.seed,
            checkpoint=checkpoint,
            progress=self.subject.progress,
            on_epoch=self.on_epoch,
        )
        checkpoint.unlink(missing_ok=True)
        return history

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The epoch's batches; sets GRS's pull for it and remembers the signs it starts from."""
        pull = self.options.grs_weight * epoch / max(1, self.options.epochs - 1) if self.options.grs else 0.0
        for module in self.subject.part.modules():
            if isinstance(module, BinaryLinear):
                module.pull = pull
        self.signs = diagnostics.weight_signs(self.subject.part)
        assert self.subject.training is not None
        return self.subject.training(epoch)

    def loss(self, part: nn.Module, batch: Batch) -> Tensor:  # noqa: ARG002  (the part lies in the subject's model)
        """Against the teacher's outputs (ReActNet's distributional loss), or against labels."""
        output = self.subject.forward(self.subject.model, batch)
        if not self.options.distillation:
            return self.subject.loss(output, batch)
        with torch.no_grad():
            target = self.subject.forward(self.teacher, batch)
        return self.subject.distill(output, target)

    def on_epoch(self, epoch: int, part: nn.Module) -> dict[str, float]:
        """Share of signs that flipped, and the task's metrics when they are due."""
        row = {"flipped_share": diagnostics.flipped_share(self.signs, diagnostics.weight_signs(part))}
        last = epoch == self.options.epochs - 1
        if self.subject.validate is not None and (last or (epoch + 1) % self.options.validate_every == 0):
            with torch.no_grad():
                row |= self.subject.validate(self.subject.model)
        return row
