"""How far a fake-quantized model's logits lie from themselves when floating-point sums are rounded otherwise.

A value that lies near the middle of two codes goes to one or the other by its last bit, and every later layer carries
that on: after twelve blocks at W8A8 the logits of a ViT-Tiny differ by a seventh. No other engine can be nearer to ours
than ours is to itself, and none needs to be further away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitq.methods.architectures.explicit import MatMul

NOISE = 1e-7
"""Noise over a tensor's largest value: one unit in the last place of a float32, what another order of a sum, or a zero
point that is added before rounding, makes; such errors go with the largest terms and not with the result."""
IMAGES = 8
"""How many images at least are looked at: which codes flip is chance, and a small model may have none on one image."""
DRAWS = 4
"""How often noise is drawn; the worst draw counts."""
FACTOR = 2.0
"""How many times as far as the worst draw a runtime may be.

The worst of four draws on few images varies by half from one set of draws to the next; a lost zero point or clamp makes
logits that have little to do with ours, which differ by more than their own size.
"""


@dataclass(frozen=True)
class Nearness:
    """Of outputs [N, ...]: root mean square of the difference over that of ours, and on how many of N top-1 agrees.

    `of` is 0 where outputs are feature maps, which have no first class.
    """

    difference: float
    agree: int
    of: int

    def __str__(self) -> str:
        return f"{self.difference:.1e} rms" + (f", top-1 {self.agree}/{self.of}" if self.of else "")

    def within(self, floor: Nearness) -> bool:
        """Whether outputs are as near as noise leaves ours, `FACTOR` times over, one image more or less."""
        lost, allowed = self.of - self.agree, FACTOR * (floor.of - floor.agree) + 1
        return self.difference <= FACTOR * floor.difference and lost <= allowed


def nearness(got: Tensor, ours: Tensor, logits: bool = True) -> Nearness:
    """How near an output is to ours, logits or feature maps; infinitely far where it holds NaN."""
    error = (got.double() - ours.double()).square().mean().sqrt() / ours.double().square().mean().sqrt().clamp(
        min=1e-30
    )
    agree = (got.flatten(1).argmax(1) == ours.flatten(1).argmax(1)).sum() if logits else 0
    return Nearness(float(torch.nan_to_num(error, nan=torch.inf)), int(agree), len(ours) if logits else 0)


def batches_of(example: Tensor, logits: bool = True) -> list[Tensor]:
    """The example and as many batches of noise of its shape as make `IMAGES` images.

    The example alone where outputs are feature maps: one has a million numbers.
    """
    more = range(1, -(-IMAGES // len(example))) if logits else ()
    return [example, *(torch.randn(example.shape, generator=torch.Generator().manual_seed(i)) for i in more)]


@torch.inference_mode()
def noise_floor(
    model: nn.Module, batches: Sequence[Tensor], ours: Tensor, seed: int = 0, logits: bool = True
) -> Nearness:
    """The furthest that `DRAWS` draws of noise carry the model from its own output on these batches.

    Noise is on the images and on what every layer, norm and product gives, where a runtime's sums differ; an image's
    own grid swallows most of what is on the image alone.
    """
    generator = torch.Generator().manual_seed(seed)
    with _noisy(model, generator):
        drawn = [
            nearness(torch.cat([model(_noise(batch, generator)) for batch in batches]), ours, logits)
            for _ in range(DRAWS)
        ]
    return Nearness(max(d.difference for d in drawn), min(d.agree for d in drawn), drawn[0].of)


@contextmanager
def _noisy(model: nn.Module, generator: torch.Generator) -> Iterator[None]:
    kinds = (nn.Linear, nn.Conv2d, nn.LayerNorm, MatMul)
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output: _noise(output, generator))
        for module in model.modules()
        if isinstance(module, kinds)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _noise(x: Tensor, generator: torch.Generator) -> Tensor:
    return x + NOISE * x.abs().amax() * torch.randn(x.shape, generator=generator)
