"""Patch similarity, kernel density and entropy: the released code's values, and the direct form's gradient."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from vitq.methods import patch_similarity as ps
from vitq.methods.explicit import attentions, make_explicit


@pytest.fixture(scope="module")
def parts(shared: Path) -> dict[str, Tensor]:
    return load_file(shared / "vectors" / "psaq_vit_parts.safetensors")


def direct_entropy(similarity: Tensor, bandwidth: float = 0.01, points: int = 10) -> Tensor:
    """The sheet's steps 3 and 4 as written, under autograd."""
    grid = ps.density_grid(similarity.float(), points).to(similarity.dtype)
    distance = grid - similarity.flatten(1).unsqueeze(-1)
    kernels = torch.exp(-(distance**2) / (2 * bandwidth**2)) / (math.sqrt(2 * math.pi) * bandwidth)
    return ps.differential_entropy(kernels.mean(1), grid)


def test_similarity_density_and_entropy_are_the_released_codes(parts: dict[str, Tensor]) -> None:
    similarity = ps.patch_similarity(parts["attn_v"])
    grid = ps.density_grid(similarity)
    density = ps.kernel_density(similarity, grid)
    torch.testing.assert_close(similarity, parts["similarity"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(grid.expand_as(parts["density_grid"]), parts["density_grid"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(density, parts["density"], rtol=1e-5, atol=4e-5)
    exact = ps.kernel_density(parts["similarity"], parts["density_grid"][0])
    torch.testing.assert_close(exact, parts["density"], rtol=1e-5, atol=1e-6)
    for entropy in (ps.differential_entropy(exact, grid), ps.similarity_entropy(parts["similarity"])):
        torch.testing.assert_close(entropy, parts["differential_entropy"][0], rtol=1e-5, atol=0)


def outputs(images: int, heads: int, tokens: int, width: int, spread: float, seed: int) -> Tensor:
    """Attention outputs whose patches share a common part, more alike the smaller `spread`."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(images, heads, 1, width, generator=generator)
    return common + spread * torch.randn(images, heads, tokens, width, generator=generator)


@settings(max_examples=20, deadline=None)
@given(
    images=st.integers(1, 5),
    tokens=st.integers(3, 40),
    spread=st.floats(0.05, 4),
    bandwidth=st.sampled_from([0.005, 0.01, 0.1]),
    points=st.integers(2, 12),
    seed=st.integers(0, 1000),
)
def test_value_and_gradient_equal_the_direct_forms(
    images: int, tokens: int, spread: float, bandwidth: float, points: int, seed: int
) -> None:
    found = []
    for form, dtype in ((ps.similarity_entropy, torch.float32), (direct_entropy, torch.float64)):
        x = outputs(images, 2, tokens, 8, spread, seed)
        similarity = ps.patch_similarity(x).to(dtype).requires_grad_()
        entropy = form(similarity, bandwidth, points)
        (gradient,) = torch.autograd.grad(entropy, similarity)
        found.append((entropy.double().detach(), gradient.double()))
    (fast, fast_gradient), (direct, direct_gradient) = found
    assert abs(fast - direct) <= 1e-4 * max(1.0, abs(float(direct)))
    assert (fast_gradient - direct_gradient).norm() <= 1e-4 * direct_gradient.norm() + 1e-9


def test_gradient_reaches_the_attention_output() -> None:
    gradients = []
    for form in (ps.similarity_entropy, direct_entropy):
        x = outputs(6, 3, 50, 16, 1.0, 0).requires_grad_()
        form(ps.patch_similarity(x)).backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4 * float(gradients[1].abs().max()))


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    similarity = ps.patch_similarity(outputs(7, 2, 20, 8, 1.0, 3))
    whole = ps.similarity_entropy(similarity)
    monkeypatch.setitem(ps._CHUNK, "cpu", 1)
    torch.testing.assert_close(ps.similarity_entropy(similarity), whole, rtol=1e-5, atol=1e-6)


def test_nothing_as_large_as_the_direct_form_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    n, points, largest = 48, 10, []
    original = torch.exp_

    def watched(x: Tensor) -> Tensor:
        largest.append(x.numel())
        return original(x)

    monkeypatch.setattr(torch.Tensor, "exp_", watched)
    monkeypatch.setitem(ps._CHUNK, "cpu", 50_000)
    similarity = ps.patch_similarity(outputs(64, 1, n + 1, 8, 1.0, 0)).requires_grad_()
    ps.similarity_entropy(similarity, points=points).backward()
    assert sum(largest) == 64 * points * n * (n + 1) // 2  # every pair once
    assert max(largest) <= 50_000


@pytest.mark.parametrize(("drop_token", "tokens"), [("first", 15), ("class", 16)])
def test_swin_windows_lose_their_first_token_only_as_released(
    drop_token: ps.DropToken, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    entropy = ps.similarity_entropy
    monkeypatch.setattr(ps, "similarity_entropy", lambda g, h, k: (sizes.append(g.shape[-1]), entropy(g, h, k))[1])
    swin = SwinTransformer(img_size=16, patch_size=2, window_size=4, embed_dim=8, depths=(2,), num_heads=(2,))
    model = make_explicit(swin.eval())
    with ps.PatchEntropy(model, 0.01, 10, drop_token) as seen:
        model(torch.randn(2, 3, 16, 16))
        assert seen.take().ndim == 0
    assert sizes == [tokens] * len(attentions(model)) == [tokens] * 2


def test_hooks_are_gone_afterwards() -> None:
    model = make_explicit(VisionTransformer(img_size=8, patch_size=4, embed_dim=8, depth=1, num_heads=1).eval())
    with ps.PatchEntropy(model, 0.01, 10, "first"):
        pass
    assert not any(module._forward_hooks for module in model.modules())
