"""Binary layers: gradients against the definitions, and the packed form against the training form, bit for bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vitq.methods.binary_vit import packed
from vitq.methods.binary_vit.binarize import ProbabilityBinarizer, SignBinarizer, sign, weight_sign
from vitq.methods.binary_vit.layers import BinaryLinear, BinaryMatMul

sizes = st.integers(1, 40)
seeds = st.integers(0, 2**31)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _linear(inputs: int, outputs: int, seed: int, asm: bool = True, bias: bool = True) -> BinaryLinear:
    generator = _generator(seed)
    linear = torch.nn.Linear(inputs, outputs, bias=bias)
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return _randomize(BinaryLinear.of(linear, asm), generator)


def _randomize(module: torch.nn.Module, generator: torch.Generator) -> torch.nn.Module:
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith(("shift", "adapt", "log_scale")):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return module


def test_sign_has_no_zero() -> None:
    assert sign(torch.tensor([-2.0, -0.0, 0.0, 1e-30, -1e-30])).tolist() == [-1, 1, 1, 1, -1]


@given(seeds, st.floats(0.1, 4.0))
def test_activation_gradient_is_bi_real_nets_piecewise_quadratic_stretched_by_the_scale(seed: int, a: float) -> None:
    binarizer = SignBinarizer((5,), asm=False)
    with torch.no_grad():
        binarizer.log_scale.fill_(a).log_()
    x = (torch.randn(7, 5, generator=_generator(seed)) * 2).requires_grad_()
    (binarizer(x) * binarizer.scale()).sum().backward()
    u = x.detach() / binarizer.scale().detach()
    expected = torch.where(u.abs() > 1, 0.0, torch.where(u <= 0, 2 + 2 * u, 2 - 2 * u))
    torch.testing.assert_close(x.grad, expected, rtol=1e-4, atol=1e-5)


def test_weight_gradient_is_the_clipped_straight_through_estimator_of_the_scaled_sign() -> None:
    layer = _linear(9, 4, 0, asm=False)
    with torch.no_grad():
        layer.weight[0] *= 5
    x = torch.randn(6, 3, 9, generator=_generator(1))
    upstream = torch.randn(6, 3, 4, generator=_generator(2))
    (layer(x) * upstream).sum().backward()
    weight = layer.weight.detach().clone().requires_grad_()
    centred = weight - weight.detach().mean(1, keepdim=True)
    clipped = centred.clamp(-1, 1)
    straight = (layer.row_scale() * sign(centred)).detach() + clipped - clipped.detach()
    (((layer.input(x).detach() * layer.input.scale().detach()) @ straight.T) * upstream).sum().backward()
    assert (layer.weight.grad == 0).any()
    torch.testing.assert_close(layer.weight.grad, weight.grad, rtol=1e-4, atol=1e-5)


def test_scale_and_shift_gradients_follow_from_the_definitions() -> None:
    layer = _linear(9, 4, 3)
    x = torch.randn(6, 3, 9, generator=_generator(4))
    layer(x).sum().backward()
    y = layer(x).detach() - layer.bias.detach()
    torch.testing.assert_close(layer.input.log_scale.grad, y.sum().reshape(1), rtol=1e-4, atol=1e-4)
    leaf = layer.input.shifted(x).detach().requires_grad_()
    codes = SignBinarizer((9,), asm=False)
    codes.log_scale = layer.input.log_scale
    (
        codes(leaf) @ (sign(layer.weight - layer.weight.mean(1, keepdim=True)).T * layer.factor()).detach()
    ).sum().backward()
    torch.testing.assert_close(layer.input.shift.grad, leaf.grad.sum((0, 1)), rtol=1e-4, atol=1e-4)
    adapt = (leaf.grad * x.mean(1, keepdim=True)).sum((0, 1))
    torch.testing.assert_close(layer.input.adapt.grad, adapt, rtol=1e-4, atol=1e-4)


def test_shift_can_centre_every_channel_of_every_input() -> None:
    binarizer = SignBinarizer((5,), asm=True)
    x = torch.randn(3, 11, 5, generator=_generator(5)) + torch.arange(5.0)
    assert torch.equal(binarizer.shifted(x), x)
    with torch.no_grad():
        binarizer.adapt.fill_(-1)
    assert binarizer.shifted(x).mean(1).abs().max() < 1e-5


def test_probabilities_become_zero_or_a_with_bits_straight_through_gradient() -> None:
    binarizer = ProbabilityBinarizer()
    with torch.no_grad():
        binarizer.log_scale.fill_(0.2).log_()
    p = torch.tensor([0.01, 0.05, 0.11, 0.15, 0.7], requires_grad=True)
    codes = binarizer(p)
    assert codes.tolist() == [0, 0, 1, 1, 1]
    assert binarizer.bits(p).float().tolist() == codes.tolist()
    (codes * binarizer.scale()).sum().backward()
    assert p.grad.tolist() == pytest.approx([1, 1, 1, 1, 0], rel=1e-5)
    in_a = -0.01 / 0.2 - 0.05 / 0.2 + (1 - 0.11 / 0.2) + (1 - 0.15 / 0.2) + 1  # code - p / a below a, 1 above
    assert binarizer.log_scale.grad.item() == pytest.approx(0.2 * in_a, rel=1e-4)


def test_regularization_pulls_latent_weights_into_two_modes_and_leaves_other_gradients_alone() -> None:
    weight = torch.nn.Parameter(torch.randn(4, 200, generator=_generator(6)) * 0.05)
    noise = _generator(7)

    def near(pull: float) -> tuple[float, float]:
        w = torch.nn.Parameter(weight.detach().clone())
        optimizer = torch.optim.AdamW([w], lr=1e-3, weight_decay=0.0)
        start, flips = None, 0
        for _ in range(300):
            scale = w.detach().abs().mean(1, keepdim=True)
            signs = weight_sign(w, scale, pull)
            flips += 0 if start is None else int((signs != start).sum())
            start = signs.detach()
            optimizer.zero_grad()
            (signs * torch.randn(signs.shape, generator=noise)).sum().backward()
            optimizer.step()
        centred = w.detach() - w.detach().mean(1, keepdim=True)
        return float((centred.abs() < 0.25 * w.detach().abs().mean(1, keepdim=True)).float().mean()), flips / 300

    without, with_pull = near(0.0), near(4.0)
    assert with_pull[0] < 0.25 * without[0]
    assert with_pull[1] < 0.5 * without[1]


def test_regularization_term_is_the_documented_one() -> None:
    w = torch.randn(3, 8, generator=_generator(8)).mul_(0.3).requires_grad_()
    scale = w.detach().abs().mean(1, keepdim=True)
    upstream = torch.randn(3, 8, generator=_generator(9))
    gradients = []
    for pull in (0.0, 2.5):
        w.grad = None
        (weight_sign(w, scale, pull) * upstream).sum().backward()
        gradients.append(w.grad.clone())
    centred = w.detach() - w.detach().mean(1, keepdim=True)
    force = centred / scale - sign(centred)
    expected = gradients[0] + 2.5 * gradients[0].abs().mean(1, keepdim=True) * force
    torch.testing.assert_close(gradients[1], expected)


@given(st.integers(1, 5), st.integers(1, 150), seeds)
def test_packing_and_unpacking_are_inverse(rows: int, k: int, seed: int) -> None:
    bits = torch.rand(rows, k, generator=_generator(seed)) < 0.5
    words = packed.pack_bits(bits)
    assert words.dtype == torch.uint8
    assert words.shape == (rows, -(-k // 8))
    assert torch.equal(packed.unpack_bits(words, k), bits)
    assert torch.equal(packed.popcount(packed.wide(words)).sum(1), bits.sum(1))


@given(sizes, sizes, st.integers(1, 150), seeds, st.sampled_from([-1.0, 0.0]))
def test_counting_bits_gives_the_integer_product(n: int, m: int, k: int, seed: int, low: float) -> None:
    generator = _generator(seed)
    left, right = (torch.rand(rows, k, generator=generator) < 0.5 for rows in (n, m))
    exact = (left.long() if low == 0 else 2 * left.long() - 1) @ (2 * right.long() - 1).T
    words = packed.pack_bits(left), packed.pack_bits(right)
    assert torch.equal(packed.popcount_product(*words, k, low).long(), exact)
    assert torch.equal(packed.product(*words, k, low, "matmul").long(), exact)


def test_counting_in_pieces_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [packed.pack_bits(torch.rand(2, 3, 9, 70, generator=_generator(s)) < 0.5) for s in (0, 1)]
    whole = packed.popcount_product(*words, 70, -1.0)
    monkeypatch.setattr(packed, "CHUNK", 1)
    assert torch.equal(packed.popcount_product(*words, 70, -1.0), whole)


def _both_kernels(module: torch.nn.Module, *inputs: Tensor) -> list[Tensor]:
    results = []
    for kernel in ("popcount", "matmul"):
        module.kernel = kernel
        results.append(module(*inputs))
    return results


@settings(deadline=None)
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 70), sizes, seeds, st.booleans(), st.booleans())
def test_packed_linear_equals_the_training_form(
    batch: int, tokens: int, inputs: int, outputs: int, seed: int, asm: bool, bias: bool
) -> None:
    layer = _linear(inputs, outputs, seed, asm, bias)
    x = torch.randn(batch, tokens, inputs, generator=_generator(seed + 1))
    with torch.no_grad():
        expected = layer(x)
        for y in _both_kernels(packed.PackedLinear(layer), x):
            assert torch.equal(y, expected)


@settings(deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 30), st.integers(1, 40), seeds, st.booleans())
def test_packed_attention_products_equal_the_training_form(
    batch: int, heads: int, tokens: int, width: int, seed: int, asm: bool
) -> None:
    generator = _generator(seed)
    q, k, v = (torch.randn(batch, heads, tokens, width, generator=generator) for _ in range(3))
    p = torch.randn(batch, heads, tokens, tokens, generator=generator).softmax(-1)
    qk = _randomize(BinaryMatMul.query_key(heads, width, asm), generator)
    av = _randomize(BinaryMatMul.attention_value(heads, width, asm), generator)
    with torch.no_grad():
        av.left.log_scale.fill_(2 / tokens).log_()
        for layer, pair in ((qk, (q, k.mT)), (av, (p, v))):
            expected = layer(*pair)
            for y in _both_kernels(packed.PackedMatMul(layer), *pair):
                assert torch.equal(y, expected)


def test_layers_say_what_they_are_and_how_they_ship() -> None:
    layer = _linear(20, 6, 0)
    assert layer.operand_bits() == packed.PackedLinear(layer).operand_bits() == (1, 1)
    assert layer.packed_tensors() == packed.PackedLinear(layer).packed_tensors()
    rows = {row.name: (row.numel, row.bits) for row in layer.packed_tensors()}
    assert rows == {
        "weight": (120, 1), "weight scale": (6, 32), "bias": (6, 32), "activation scale": (1, 32), "shift": (40, 32)
    }  # fmt: skip
    product = BinaryMatMul.attention_value(2, 4, asm=True)
    assert product.operand_bits() == packed.PackedMatMul(product).operand_bits() == (1, 1)
    assert sum(row.numel for row in product.packed_tensors()) == 2 + 2 * 8
    assert packed.PackedMatMul(product).packed_tensors() == product.packed_tensors()
