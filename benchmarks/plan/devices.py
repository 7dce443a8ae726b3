"""The devices a cell may run on: cpu, cuda, and cuda:N where the machine has them."""

from __future__ import annotations

import os
import re

from vitq.errors import BadInputError
from vitq.words import short

_CUDA = re.compile(r"cuda(?::(0|[1-9][0-9]{0,3}))?")


def check_device(device: str, here: bool = True) -> None:
    """Raise BadInputError for any other word, and for a card that is not `here`; torch is asked for CUDA alone."""
    if device == "cpu":
        return
    word = _CUDA.fullmatch(device)
    if word is None:
        raise BadInputError(f"no device is called {short(device)}: give cpu, cuda or cuda:N")
    if not here:
        return
    import torch

    count = torch.cuda.device_count()
    if int(word[1] or 0) >= count:
        there = ", ".join(["cpu", *(f"cuda:{i}" for i in range(count))])
        raise BadInputError(f"device {device} is not here: this machine has {there}")


def cards(device: str, jobs: int) -> tuple[str, ...]:
    """The GPUs to place so many cells at once on, as CUDA_VISIBLE_DEVICES names them; none where there is no choice."""
    if device != "cuda" or jobs == 1:
        return ()
    import torch

    count = torch.cuda.device_count()
    named = [word.strip() for word in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if word.strip()]
    return tuple(named[:count] or map(str, range(count))) if count > 1 else ()
