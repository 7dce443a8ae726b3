"""How to train: the numbers of a recipe, and the learning rate that they give each step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from vitq.errors import MethodInputError


@dataclass(frozen=True)
class Recipe:
    """How to train; in float32 unless `amp` asks for mixed precision, which only GPUs have (`devices.mixed_precision`).

    `lr` is the peak, for the batch that `batches` gives times the number of processes; `warmup_epochs` may be a
    fraction; `clip_norm` is the largest L2 norm of all gradients together. Mixed precision is bfloat16, or float16 with
    loss scaling where the GPU has no bfloat16. `schedule` is by steps, or by epochs as timm's recipes have it: epoch
    e > 0 at the rate of e - 1, since they move on after an epoch. `decay_vectors`: whether weight decay acts on biases
    and norms (parameters of one dimension), which timm's recipes spare.
    """

    epochs: int
    lr: float
    weight_decay: float = 0.0
    warmup_epochs: float = 0.0
    min_lr: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float | None = None
    amp: bool = False
    schedule: Literal["steps", "epochs"] = "steps"
    decay_vectors: bool = True

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.lr <= 0 or not 0 <= self.warmup_epochs <= max(self.epochs, 0):
            raise MethodInputError(
                f"epochs {self.epochs}, lr {self.lr}, warmup_epochs {self.warmup_epochs}: "
                "want epochs >= 0, lr > 0 and warm-up within the epochs"
            )
        if self.schedule == "epochs" and self.warmup_epochs:
            raise MethodInputError("a schedule by epochs has no warm-up: set warmup_epochs to 0")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise MethodInputError(f"clip_norm is {self.clip_norm}: give a positive norm, or none for no clipping")


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Learning rate of a step (from 0): linear to `lr` over the warm-up, then a half cosine down to `min_lr`.

    By epochs the cosine moves once an epoch. SGDR (Loshchilov and Hutter, 2017), equation 5 without restarts.
    """
    if recipe.schedule == "epochs":
        progress = max(step // steps_per_epoch - 1, 0) / recipe.epochs
        return recipe.min_lr + (recipe.lr - recipe.min_lr) * (1 + math.cos(math.pi * progress)) / 2
    warmup, total = round(recipe.warmup_epochs * steps_per_epoch), recipe.epochs * steps_per_epoch
    if step < warmup:
        return recipe.lr * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return recipe.min_lr + (recipe.lr - recipe.min_lr) * (1 + math.cos(math.pi * progress)) / 2
