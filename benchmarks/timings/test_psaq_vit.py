"""Time of PSAQ-ViT's kernel density, 32 images of 224x224 through a ViT-Tiny: 12 layers of 196 patches.

`density`: value and gradient of the 12 layers' entropies, from their similarities. `step`: one whole iteration of
image generation, the model's forward and backward pass included. Each is timed as it is and in the direct form of the
paper's steps under autograd, in one run; the ratio is in the result's extra info. Run with `--benchmark-only`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import pytest
import timm
import torch
from torch import Tensor

from vitq.methods.architectures.explicit import make_explicit
from vitq.methods.psaq_vit import patch_similarity as ps
from vitq.methods.psaq_vit.image_generation import frozen, total_variation

LAYERS, IMAGES, PATCHES = 12, 32, 196


def direct_entropy(similarity: Tensor, bandwidth: float = 0.01, points: int = 10, *_: object) -> Tensor:
    """Kernel density over N'^2 values x 10 points, built whole and kept for the backward pass; of no windows."""
    grid = ps.density_grid(similarity, points)
    distance = grid - similarity.flatten(1).unsqueeze(-1)
    kernels = torch.exp(-(distance**2) / (2 * bandwidth**2)) / (math.sqrt(2 * math.pi) * bandwidth)
    return ps.differential_entropy(kernels.mean(1), grid)


def seconds(run: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    """As the smoke suite's workers have it."""
    torch.set_num_threads(1)


def test_density(benchmark) -> None:  # type: ignore[no-untyped-def]
    """At least 3 times faster than the direct form, same gradient to 1e-4."""
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(IMAGES, 3, 1, 64, generator=generator)
    outputs = common + torch.randn(IMAGES, 3, PATCHES + 1, 64, generator=generator)
    similarity = ps.patch_similarity(outputs).requires_grad_()

    def layers(form: Callable[[Tensor], Tensor]) -> list[Tensor]:
        return [torch.autograd.grad(form(similarity), similarity)[0] for _ in range(LAYERS)]

    layers(ps.similarity_entropy)
    direct = min(seconds(lambda: layers(direct_entropy)) for _ in range(2))
    benchmark.pedantic(lambda: layers(ps.similarity_entropy), rounds=5)
    ratio = direct / benchmark.stats.stats.min
    benchmark.extra_info.update(direct_seconds=direct, direct_over_fast=ratio)
    fast, plain = layers(ps.similarity_entropy)[0], layers(direct_entropy)[0]
    assert (fast - plain).norm() <= 1e-4 * plain.norm()
    assert ratio >= 3


def test_step(benchmark, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """How much of that a whole iteration keeps; no claim is made of it."""
    torch.manual_seed(0)
    model = make_explicit(timm.create_model("vit_tiny_patch16_224", pretrained=False).eval())
    images = torch.randn(IMAGES, 3, 224, 224, requires_grad=True)

    def step() -> None:
        with frozen(model), ps.PatchEntropy(model, 0.01, 10, "first") as entropy:
            logits = model(images)
            loss = logits.logsumexp(1).mean() - entropy.take() + 0.05 * total_variation(images)
            torch.autograd.grad(loss, images)

    step()
    benchmark.pedantic(step, rounds=2)
    monkeypatch.setattr(ps, "similarity_entropy", direct_entropy)
    direct = seconds(step)
    benchmark.extra_info.update(direct_seconds=direct, direct_over_fast=direct / benchmark.stats.stats.min)
