"""Several processes training one model: who am I, which batches are mine, and one state for all.

torchrun sets WORLD_SIZE, RANK, LOCAL_RANK and the master's address; without them there is one process and nothing
here does anything.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vitq.errors import MethodInputError
from vitq.methods.toolkit import devices
from vitq.subject import Batch


@dataclass(frozen=True)
class Ranks:
    """This process among all: `rank` 0 of `world` 1 when it is alone."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and reports progress."""
        return self.rank == 0

    def share(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Every `world`-th batch from `rank` on; an incomplete last round is dropped, so that all take as many."""
        while len(round_ := list(islice(batches, self.world))) == self.world:
            yield round_[self.rank]

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a tensor over all processes, the same on each."""
        if self.world > 1:
            dist.all_reduce(value)
            value = value / self.world
        return value

    def from_first(self, value: Any) -> Any:
        """Rank 0's object on every rank."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def share_buffers(self, model: nn.Module) -> None:
        """Give every process rank 0's buffers (running ranges saw different batches on each)."""
        if self.world > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)


def local_device(device: torch.device) -> torch.device:
    """This process's GPU under torchrun, `cuda:LOCAL_RANK`; `device` itself on the CPU or with one process.

    Raises MethodInputError where torchrun's variables make no sense or the machine has fewer GPUs than processes.
    """
    if device.type != "cuda" or _number("WORLD_SIZE", 1) == 1:
        return device
    rank, gpus = _number("LOCAL_RANK", None), torch.cuda.device_count()
    if rank >= gpus:
        raise MethodInputError(
            f"process {rank} of this machine has no GPU of its own, for there are {gpus}: start one process a GPU"
        )
    return torch.device("cuda", rank)


def join(device: torch.device) -> Ranks:
    """Join the processes that torchrun started (NCCL on GPUs, Gloo on CPUs), once; alone without torchrun.

    A process takes its GPU for its own before NCCL starts: else all of them put what NCCL needs on the first one.
    Raises MethodInputError when a GPU process would train on another process's GPU.
    """
    if _number("WORLD_SIZE", 1) == 1 and not dist.is_initialized():
        return Ranks()
    if device != local_device(device):
        raise MethodInputError(f"under torchrun this process must train on {local_device(device)}, not on {device}")
    devices.use(device)
    if not dist.is_initialized():
        on_gpu = device.type == "cuda"
        dist.init_process_group("nccl" if on_gpu else "gloo", device_id=device if on_gpu else None)
        atexit.register(_leave)
    return Ranks(dist.get_rank(), dist.get_world_size())


def _number(name: str, default: int | None) -> int:
    """A number that torchrun puts into the environment; MethodInputError where it is none, or absent and needed."""
    said = os.environ.get(name, "" if default is None else str(default))
    if not said.isdecimal():
        raise MethodInputError(f"{name} is {said!r} in the environment: start the processes with torchrun, or unset it")
    return int(said)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
