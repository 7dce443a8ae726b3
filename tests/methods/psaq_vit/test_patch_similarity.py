"""Patch similarity, kernel density and entropy: the released code's values, and the direct form's gradient."""

from __future__ import annotations

import math
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import read
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from vitq.methods.architectures.explicit import make_explicit
from vitq.methods.architectures.roles import roles_of
from vitq.methods.psaq_vit import patch_similarity as ps


@pytest.fixture(scope="module")
def parts() -> dict[str, Tensor]:
    return read("psaq_vit.safetensors")[0]


def direct_entropy(similarity: Tensor, bandwidth: float = 0.01, points: int = 10, windows: int = 1) -> Tensor:
    """The sheet's steps 3 and 4 as written, under autograd."""
    grid = ps.density_grid(similarity.float(), points).to(similarity.dtype)
    distance = grid - similarity.reshape(len(similarity) // windows, -1).unsqueeze(-1)
    kernels = torch.exp(-(distance**2) / (2 * bandwidth**2)) / (math.sqrt(2 * math.pi) * bandwidth)
    return ps.differential_entropy(kernels.mean(1), grid)


def test_similarity_density_and_entropy_are_the_released_codes(parts: dict[str, Tensor]) -> None:
    similarity = ps.patch_similarity(parts["attn_v"])
    grid = ps.density_grid(similarity)
    density = ps.kernel_density(similarity, grid)
    torch.testing.assert_close(similarity[:1], parts["similarity"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(grid.expand_as(parts["density_grid"]), parts["density_grid"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(density, parts["density"], rtol=1e-5, atol=4e-5)
    exact = ps.kernel_density(parts["similarity"], parts["density_grid"][0])
    torch.testing.assert_close(exact, parts["density"][:1], rtol=1e-5, atol=1e-6)
    for entropy in (ps.differential_entropy(parts["density"], grid), ps.similarity_entropy(similarity)):
        torch.testing.assert_close(entropy, parts["differential_entropy"][0], rtol=1e-5, atol=0)


def test_windows_of_an_image_have_one_density_as_released(parts: dict[str, Tensor]) -> None:
    x = parts["windows_attn_v"].clone().requires_grad_()
    windows = len(x) // int(parts["windows_images"])
    similarity = ps.patch_similarity(x)
    grid = ps.density_grid(similarity)
    density = ps.kernel_density(similarity, grid, windows=windows)
    torch.testing.assert_close(grid, parts["windows_density_grid"], rtol=1e-5, atol=0)
    torch.testing.assert_close(density, parts["windows_density"], rtol=1e-5, atol=1e-6)
    entropy = ps.similarity_entropy(similarity, windows=windows)
    torch.testing.assert_close(entropy, parts["windows_differential_entropy"], rtol=1e-5, atol=0)
    (gradient,) = torch.autograd.grad(entropy, x)
    expected = parts["windows_gradient"]
    # the released gradient itself is 3e-5 (relative norm) from the same formulas in float64
    assert (gradient[: len(expected)] - expected).norm() <= 2e-5 * expected.norm()
    alone = ps.similarity_entropy(ps.patch_similarity(x.detach()))
    assert abs(alone - entropy.detach()) > 0.1  # a density a window is another loss


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
    windows=st.integers(1, 4),
    limit=st.sampled_from([1, 5000, 2**18]),
    seed=st.integers(0, 1000),
)
def test_value_and_gradient_equal_the_direct_forms(
    images: int, tokens: int, spread: float, bandwidth: float, points: int, windows: int, limit: int, seed: int
) -> None:
    """Whether images are taken several at a time, one at a time, or in pieces that are gone over twice."""
    found = []
    for form, dtype in ((ps.similarity_entropy, torch.float32), (direct_entropy, torch.float64)):
        x = outputs(images * windows, 2, tokens, 8, spread, seed)
        similarity = ps.patch_similarity(x).to(dtype).requires_grad_()
        with mock.patch.dict(ps._CHUNK, cpu=limit), mock.patch.dict(ps._WHOLE, cpu=limit):
            entropy = form(similarity, bandwidth, points, windows)
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
    monkeypatch.setattr(
        ps, "similarity_entropy", lambda g, h, k, w, i: (sizes.append(g.shape[-1]), entropy(g, h, k, w, i))[1]
    )
    swin = SwinTransformer(img_size=16, patch_size=2, window_size=4, embed_dim=8, depths=(2,), num_heads=(2,))
    model = make_explicit(swin.eval())
    with ps.PatchEntropy(model, 0.01, 10, drop_token) as seen:
        model(torch.randn(2, 3, 16, 16))
        assert seen.take().ndim == 0
    assert sizes == [tokens] * len(roles_of(model).attentions) == [tokens] * 2


def test_hooks_are_gone_afterwards() -> None:
    model = make_explicit(VisionTransformer(img_size=8, patch_size=4, embed_dim=8, depth=1, num_heads=1).eval())
    with ps.PatchEntropy(model, 0.01, 10, "first"):
        pass
    assert not any(module._forward_hooks for module in model.modules())


@torch.no_grad()
def test_a_model_takes_one_density_an_image_from_what_enters_it() -> None:
    torch.manual_seed(0)
    swin = SwinTransformer(img_size=16, patch_size=2, window_size=4, embed_dim=8, depths=(2, 1), num_heads=(2, 2))
    for parameter in swin.parameters():
        parameter.normal_()
    model, taken = make_explicit(swin.eval()), []
    for attention in roles_of(model).attentions:
        model.get_submodule(attention.av).register_forward_hook(lambda _m, _i, out: taken.append(out))
    with ps.PatchEntropy(model, 0.01, 10, "first") as seen:
        model(torch.randn(3, 3, 16, 16))
        total = seen.take()
    assert [len(out) for out in taken] == [12, 12, 3]
    direct = [direct_entropy(ps.patch_similarity(out), windows=len(out) // 3) for out in taken]
    torch.testing.assert_close(total, torch.stack(direct).sum(), rtol=1e-4, atol=1e-5)
    assert abs(total - sum(direct_entropy(ps.patch_similarity(out)) for out in taken)) > 0.01


def test_patches_that_are_all_alike_have_no_entropy_and_no_gradient() -> None:
    for x in (torch.zeros(4, 2, 9, 8), torch.ones(4, 2, 9, 8)):
        x.requires_grad_()
        entropy = ps.similarity_entropy(ps.patch_similarity(x), windows=2)
        (gradient,) = torch.autograd.grad(entropy, x)
        assert torch.isfinite(entropy)
        assert torch.isfinite(gradient).all()


def test_rows_that_are_no_whole_images_are_refused() -> None:
    with pytest.raises(ValueError, match="whole number of images"):
        ps.similarity_entropy(torch.eye(4).expand(6, 4, 4), windows=4)


def patches_alone(similarity: Tensor, inside: Tensor, bandwidth: float, points: int) -> Tensor:
    """The sheet's steps 3 and 4 under autograd, over the pairs of patches that an image's windows hold."""
    both = inside[:, :, None] & inside[:, None, :]
    given = similarity.view(-1, *both.shape)[:, both]
    grid = ps.density_grid(given.float(), points).to(given.dtype)
    kernels = torch.exp(-((grid - given[:, :, None]) ** 2) / (2 * bandwidth**2)) / (math.sqrt(2 * math.pi) * bandwidth)
    return ps.differential_entropy(kernels.mean(1), grid)


@settings(max_examples=20, deadline=None)
@given(
    images=st.integers(1, 4),
    tokens=st.integers(3, 30),
    windows=st.integers(1, 4),
    bandwidth=st.sampled_from([0.01, 0.1]),
    limit=st.sampled_from([1, 5000, 2**18]),
    seed=st.integers(0, 1000),
)
def test_padding_is_no_patch(images: int, tokens: int, windows: int, bandwidth: float, limit: int, seed: int) -> None:
    """Value and gradient are those of the patches alone, even if a window holds none; padding has no gradient."""
    inside = torch.rand(windows, tokens, generator=torch.Generator().manual_seed(seed)) < 0.5
    inside[0, :2] = True
    if windows > 1:
        inside[-1] = False
    similarity = ps.patch_similarity(outputs(images * windows, 2, tokens + 1, 8, 1.0, seed))
    fast, direct = similarity.clone().requires_grad_(), similarity.double().requires_grad_()
    with mock.patch.dict(ps._CHUNK, cpu=limit), mock.patch.dict(ps._WHOLE, cpu=limit):
        found = ps.similarity_entropy(fast, bandwidth, 10, windows, inside)
    expected = patches_alone(direct, inside, bandwidth, 10)
    found.backward()
    expected.backward()
    torch.testing.assert_close(found.detach().double(), expected.detach(), rtol=1e-4, atol=1e-4)
    assert fast.grad is not None
    assert direct.grad is not None
    assert (fast.grad.double() - direct.grad).norm() <= 1e-4 * direct.grad.norm() + 1e-9
    outside = ~(inside[:, :, None] & inside[:, None, :])
    assert not fast.grad.view(images, *outside.shape)[:, outside].any()


def test_a_mask_of_patches_only_changes_nothing() -> None:
    similarity = ps.patch_similarity(outputs(6, 2, 20, 8, 1.0, 0))
    masked = ps.similarity_entropy(similarity, windows=3, inside=torch.ones(3, 19, dtype=torch.bool))
    torch.testing.assert_close(masked, ps.similarity_entropy(similarity, windows=3), rtol=1e-5, atol=1e-6)
