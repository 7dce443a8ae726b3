"""The one training loop: AdamW, warm-up and cosine, mixed precision, clipping, resuming, several processes.

Resuming is exact because an epoch depends on nothing but the state a checkpoint holds: the model's state_dict (running
ranges and the like must be buffers), the optimizer, and random generators that every epoch seeds anew from
(seed, epoch, rank). A run that was killed continues from its last finished epoch and ends in the same bits on the CPU.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from operator import length_hint
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vitq.errors import MethodInputError
from vitq.methods.toolkit import devices
from vitq.methods.training import checkpoints
from vitq.methods.training.distributed import Ranks, join
from vitq.subject import Batch, Progress, silent

Loss = Callable[[nn.Module, Batch], Tensor]
History = list[dict[str, float]]


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


def train(
    model: nn.Module,
    recipe: Recipe,
    batches: Callable[[int], Iterator[Batch]],
    loss: Loss,
    *,
    seed: int,
    checkpoint: Path | None = None,
    progress: Progress = silent,
    on_epoch: Callable[[int, nn.Module], dict[str, float]] | None = None,
    parameters: Iterable[nn.Parameter] | None = None,
) -> History:
    """Train `model` in place and return one row an epoch: `epoch`, mean `loss`, last `lr`, and what `on_epoch` gives.

    Args:
        model: trained on the device it is on; put in train mode for epochs, in eval mode for `on_epoch`, and back into
            the mode it came in at the end.
        recipe: how to train; 0 epochs leave the model alone.
        batches: the batches of one epoch, given its number: everything about them must follow from that number. With
            several processes each must be given the same ones; of every `world` batches each process takes one.
        loss: a scalar of (model, batch), averaged over the batch; random choices in it come from the global generators.
        seed: with the epoch and the rank, seeds the global generators, which are put back afterwards.
        checkpoint: a file written after every epoch, from which a second call with the same recipe, seed and
            parameters continues; None keeps nothing.
        progress: called as ("train", step, steps).
        on_epoch: called after every epoch on every process, its numbers join the row.
        parameters: what to train; default every parameter that requires a gradient.

    Raises:
        MethodInputError: nothing to train, no batch, a checkpoint of another run, or a loss that is not finite.
    """
    named = _select(model, parameters)
    mode, chosen = model.training, {id(p) for p in named.values()}
    frozen = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        run = _Run(model, recipe, named, seed, checkpoint)
        run.resume()
        if len(run.history) < recipe.epochs:
            run.count(batches)
        for epoch in range(len(run.history), recipe.epochs):
            with _seeded(seed, epoch, run.ranks.rank, run.device):
                row = run.epoch(epoch, batches(epoch), loss, progress)
                if on_epoch is not None:
                    row |= on_epoch(epoch, model.eval())
            run.history.append(row)
            run.save()
        return run.history
    finally:
        model.train(mode)
        for parameter in frozen:
            parameter.requires_grad_(True)


def _select(model: nn.Module, parameters: Iterable[nn.Parameter] | None) -> dict[str, nn.Parameter]:
    wanted = None if parameters is None else {id(p) for p in parameters}
    named = {n: p for n, p in model.named_parameters() if p.requires_grad and (wanted is None or id(p) in wanted)}
    if not named or (wanted is not None and len(named) < len(wanted)):
        raise MethodInputError(
            f"{len(named)} parameters of the model can be trained: pass ones that require a gradient"
        )
    return named


def _groups(parameters: list[nn.Parameter], recipe: Recipe) -> list[dict[str, Any]]:
    """The parameters with weight decay, and without it where the recipe spares vectors."""
    if recipe.decay_vectors:
        return [{"params": parameters}]
    decayed, spared = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": spared, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


class _LossModule(nn.Module):
    """The loss as a module's forward pass, so that DistributedDataParallel sees every parameter that it uses."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, loss: Loss, batch: Batch) -> Tensor:
        return loss(self.model, batch)


class _Run:
    """The state of one call of `train`."""

    def __init__(
        self, model: nn.Module, recipe: Recipe, named: dict[str, nn.Parameter], seed: int, checkpoint: Path | None
    ) -> None:
        self.model, self.recipe, self.checkpoint = model, recipe, checkpoint
        self.trained = list(named.values())
        self.device = self.trained[0].device
        self.ranks: Ranks = join(self.device)
        self.history: History = []
        self.steps = 0
        self.optimizer = torch.optim.AdamW(
            _groups(self.trained, recipe), lr=recipe.lr, betas=recipe.betas, weight_decay=recipe.weight_decay
        )
        self.dtype = devices.mixed_precision(self.device) if recipe.amp else None
        self.autocast = torch.autocast(self.device.type, self.dtype or torch.bfloat16, enabled=self.dtype is not None)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.signature = {
            "recipe": {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(recipe).items()},
            "seed": seed,
            "processes": self.ranks.world,
            "precision": str(self.dtype or torch.float32).removeprefix("torch."),
            "parameters": sum(p.numel() for p in self.trained),
        }
        self.forward: nn.Module = _LossModule(model)

    def resume(self) -> None:
        """Take over the checkpoint, if there is one, and wrap the model for several processes."""
        read = self.checkpoint is not None and self.ranks.first
        state = checkpoints.load(self.checkpoint, self.signature) if read and self.checkpoint else None
        state = self.ranks.from_first(state)
        if state is not None:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            self.history = state["history"]
        if self.ranks.world > 1:
            self.forward = DistributedDataParallel(self.forward, find_unused_parameters=True)

    def count(self, batches: Callable[[int], Iterator[Batch]]) -> None:
        """Steps an epoch: the iterator's own length (lists, data loaders), or counted by going through it once."""
        first = batches(0)
        n = length_hint(first, -1)
        n = sum(1 for _ in first) if n < 0 else n
        self.steps = n // self.ranks.world
        if self.steps == 0:
            raise MethodInputError(
                f"an epoch has {n} batches for {self.ranks.world} processes: give more training data"
            )

    def epoch(self, epoch: int, batches: Iterator[Batch], loss: Loss, progress: Progress) -> dict[str, float]:
        """One pass over the batches; the row of the history."""
        self.model.train()
        total, taken, lr = torch.zeros((), device=self.device), 0, self.recipe.lr
        for i, batch in enumerate(self.ranks.share(batches)):
            lr = learning_rate(self.recipe, epoch * self.steps + min(i, self.steps - 1), self.steps)
            total += self._step(loss, batch, lr)
            taken += 1
            if self.ranks.first:
                progress("train", epoch * self.steps + min(i + 1, self.steps), self.recipe.epochs * self.steps)
        self.ranks.share_buffers(self.model)
        if not taken:
            raise MethodInputError(f"epoch {epoch} has no batch for each of {self.ranks.world} processes")
        mean = float(self.ranks.mean(total / taken))
        if not math.isfinite(mean):
            raise MethodInputError(f"training diverged: the loss of epoch {epoch} is {mean}; lower lr or set clip_norm")
        return {"epoch": float(epoch), "loss": mean, "lr": lr}

    def _step(self, loss: Loss, batch: Batch, lr: float) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        with self.autocast:
            value: Tensor = self.forward(loss, batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(value).backward()  # type: ignore[no-untyped-call]
        if self.recipe.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.trained, self.recipe.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return value.detach().float()

    def save(self) -> None:
        """Write the checkpoint, on the first process alone."""
        if self.checkpoint is not None and self.ranks.first:
            state = {
                "signature": self.signature,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "history": self.history,
            }
            checkpoints.save(self.checkpoint, state)


@contextmanager
def _seeded(seed: int, epoch: int, rank: int, device: torch.device) -> Iterator[None]:
    """Seed torch, numpy and random from the three numbers; put all back as they were at the end."""
    state = int(np.random.SeedSequence([seed, epoch, rank]).generate_state(1)[0])
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(state)
        random.seed(state)
        np.random.seed(state)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
