"""The one training loop: AdamW, warm-up and cosine, mixed precision, clipping, resuming, several processes.

Resuming is exact because an epoch depends on nothing but the state a checkpoint holds: the model's state_dict (running
ranges and the like must be buffers), the optimizer, and random generators that every epoch seeds anew from
(seed, epoch, rank). A run that was killed continues from its last finished epoch and ends in the same bits on the CPU.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

from vitq.errors import MethodInputError
from vitq.methods.training.recipe import Recipe, learning_rate
from vitq.methods.training.run import History, Loss, Run
from vitq.subject import Batch, Progress, silent

__all__ = ["History", "Loss", "Recipe", "learning_rate", "train"]


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
    with _training_only(model, named.values()):
        run = Run(model, recipe, named, seed, checkpoint)
        run.resume()
        if len(run.history) < recipe.epochs:
            run.count(batches)
        for epoch in range(len(run.history), recipe.epochs):
            with _seeded(seed, epoch, run.ranks.rank, run.device):
                row = run.epoch(epoch, batches(epoch), loss, progress)
                if on_epoch is not None:
                    model.eval()  # which in some libraries gives nothing back
                    row |= on_epoch(epoch, model)
            run.history.append(row)
            run.save()
    return run.history


def _select(model: nn.Module, parameters: Iterable[nn.Parameter] | None) -> dict[str, nn.Parameter]:
    wanted = None if parameters is None else {id(p) for p in parameters}
    named = {n: p for n, p in model.named_parameters() if p.requires_grad and (wanted is None or id(p) in wanted)}
    if not named or (wanted is not None and len(named) < len(wanted)):
        raise MethodInputError(
            f"{len(named)} parameters of the model can be trained: pass ones that require a gradient"
        )
    return named


@contextmanager
def _training_only(model: nn.Module, parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """No other parameter asks for a gradient inside; at the end they do again, and the model has the mode it had."""
    mode, chosen = model.training, {id(p) for p in parameters}
    frozen = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        model.train(mode)
        for parameter in frozen:
            parameter.requires_grad_(True)


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
