"""PMQ's search beside a leave-one-out search, both in one run on the same model and calibration batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from vitq.methods.bits import Bits
from vitq.methods.pmq import method as pmq
from vitq.methods.pmq.options import Options
from vitq.subject import InputSpec, Subject


def subject() -> Subject:
    """A 6-block ViT on 16 images of 32x32, small enough to search one component at a time."""
    torch.manual_seed(0)
    model = VisionTransformer(img_size=32, patch_size=4, embed_dim=64, depth=6, num_heads=4, num_classes=10).eval()
    batch = (torch.randn(16, 3, 32, 32), torch.arange(16) % 10)

    def synthesize(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return images, torch.randint(10, (images.shape[0],), generator=generator)

    return Subject(
        model=model, calibration=lambda: iter([batch]), example=lambda: batch, digest=str, forward=lambda m, b: m(b[0]),
        loss=lambda out, b: F.cross_entropy(out, b[1]), distance=lambda left, right: (left - right).abs().mean(),
        distill=lambda s, t: F.kl_div(s.log_softmax(-1), t.softmax(-1)), synthesize=synthesize,
        input=InputSpec((3, 32, 32), (0.5,) * 3, (0.5,) * 3),
    )  # fmt: skip


@pytest.mark.benchmark(group="pmq")
def test_search_is_twenty_times_faster_than_leave_one_out(benchmark: Any) -> None:
    """Seconds of sensitivity and frontier against seconds of one forward pass a component, operand and width."""
    options = Options(compare_search=True)
    pmq.quantize(subject(), Bits(4, 4), Options())  # the first call pays for what torch sets up once
    quantized = benchmark.pedantic(lambda: pmq.quantize(subject(), Bits(4, 4), options), rounds=1)
    seconds = quantized.details.search_seconds
    ours = seconds["pareto"] + seconds["frontier"]
    benchmark.extra_info |= {**seconds, "ratio": seconds["leave_one_out"] / ours}
    assert seconds["leave_one_out"] >= 20 * ours
