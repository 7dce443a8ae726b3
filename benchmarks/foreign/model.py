"""A foreign model as a module that takes images and gives logits, and the facts that are known of its file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from vitq.errors import BadInputError
from vitq.record import Operations, Size

Run = Callable[[Tensor], Tensor]
"""Images [B, 3, H, W] float32 to logits [B, classes]."""


@dataclass(frozen=True)
class Facts:
    """What a file says of itself, and what could be counted in it.

    Attributes:
        format: onnx, openvino, torchscript, torch.export, state-dict, or module for one in memory.
        made_by: who wrote it, as far as the file says.
        bytes, sha256: of the file with all that belongs to it.
        runtime, version: what computes it.
        exec: how it computes, as a latency row names it.
        bits: widths of most products' operands, W4A8; FP32; `?` where they cannot be told.
        batch: the batch that it is fixed to, None for any.
        sides: height and width of its input, None for any.
        written: metadata of the file that vitq may read (see `inputs`).
        size, operations: None where they could not be counted; `unknown` says why.
        operators: how many products run at which width, by kind, in what the runtime executes.
    """

    path: Path
    format: str
    made_by: str
    bytes: int
    sha256: str
    runtime: str
    version: str
    exec: str = "?"
    bits: str = "?"
    batch: int | None = None
    sides: tuple[int | None, int | None] = (None, None)
    written: Mapping[str, str] = field(default_factory=dict)
    size: Size | None = None
    operations: Operations | None = None
    unknown: tuple[str, ...] = ()
    operators: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


class ForeignModel(nn.Module):
    """Images [B, 3, H, W] to logits [B, classes] as float32; a file fixed to a batch is fed padded ones.

    `num_classes` is how many classes it tells apart, once `probe` has seen them.
    """

    num_classes: int

    def __init__(self, run: Run, facts: Facts) -> None:
        super().__init__()
        self.run, self.facts = run, facts

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes]."""
        images = images.detach().float().cpu().contiguous()
        size = self.facts.batch
        if size is None:
            return self._checked(self.run(images), len(images))
        parts = [images[start : start + size] for start in range(0, len(images), size)]
        return torch.cat([self._padded(part, size) for part in parts])

    def _padded(self, images: Tensor, size: int) -> Tensor:
        lacking = size - len(images)
        padded = torch.cat([images, images.new_zeros(lacking, *images.shape[1:])]) if lacking else images
        return self._checked(self.run(padded), size)[: len(images)]

    def _checked(self, logits: Tensor, count: int) -> Tensor:
        if logits.ndim != 2 or len(logits) != count:
            raise BadInputError(
                f"{self.facts.path.name} gives {list(logits.shape)} for {count} images: logits [{count}, classes] are "
                "wanted"
            )
        return logits.detach().float().clone()  # a runtime may write the next output into the same memory

    def probe(self, size: tuple[int, int, int]) -> ForeignModel:
        """Run it once on images of this size [C, H, W]: whether it takes a batch of two, or one image alone.

        BadInputError, in one line, where it takes neither or gives no logits.
        """
        try:
            self.num_classes = self._classes(size)
        except Exception as error:  # whatever a runtime raises
            if self.facts.batch is not None or not self._takes_one(size):
                if isinstance(error, BadInputError):
                    raise
                first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
                raise BadInputError(f"{self.facts.path.name} does not take images of {list(size)}: {first}") from None
        return self

    def _takes_one(self, size: tuple[int, int, int]) -> bool:
        """Whether it takes images one by one: what was traced with one image may have that number inside."""
        before, self.facts = self.facts, replace(self.facts, batch=1)
        try:
            self.num_classes = self._classes(size)
        except Exception:  # told by who asked
            self.facts = before
            return False
        return True

    def _classes(self, size: tuple[int, int, int]) -> int:
        with torch.inference_mode():
            return int(self(torch.zeros(2, *size)).shape[1])
