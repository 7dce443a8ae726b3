"""The state of one training run, its single steps and epochs, and its checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from operator import length_hint
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vitq.errors import MethodInputError
from vitq.methods.toolkit import devices
from vitq.methods.training import checkpoints
from vitq.methods.training.distributed import Ranks, join
from vitq.methods.training.recipe import Recipe, learning_rate
from vitq.subject import Batch, Progress

Loss = Callable[[nn.Module, Batch], Tensor]
History = list[dict[str, float]]


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


class Run:
    """One training run: model, optimizer, precision, processes, and the history so far, as a checkpoint holds it."""

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
