"""Quantized layers: weights cached until they change, codes handed out, modules replaced in place."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vitq.errors import MethodInputError
from vitq.methods.architectures.explicit import MatMul
from vitq.methods.toolkit.layers import QConv2d, QLinear, QMatMul
from vitq.methods.toolkit.modules import fit_all, named_quantizers, replace_modules, set_mode
from vitq.methods.toolkit.observers import MinMax, PercentileMSE
from vitq.methods.toolkit.quantizers import UniformQuantizer
from vitq.methods.toolkit.stored import Codes


def rows(n: int, bits: int = 4) -> UniformQuantizer:
    return UniformQuantizer(bits, PercentileMSE(0), 0, channels=n)


def linear() -> QLinear:
    torch.manual_seed(0)
    layer = QLinear.of(nn.Linear(6, 3), rows(3), UniformQuantizer(8, PercentileMSE()))
    set_mode(layer, "calibrate")
    with torch.no_grad():
        layer(torch.randn(5, 6))
    set_mode(layer, "on")
    return layer


def test_a_layer_computes_with_what_its_codes_decode_to() -> None:
    layer, x = linear(), torch.randn(4, 6)
    assert layer.weight_quantizer is not None
    assert layer.input_quantizer is not None
    weight = layer.weight_quantizer.decode(layer.weight_codes())
    with torch.no_grad():
        expected = F.linear(layer.input_quantizer.fake_quant(x), weight, layer.bias)
        assert torch.equal(layer(x), expected)


def test_the_cached_weight_follows_weight_and_grid() -> None:
    layer = linear()
    assert isinstance(layer.weight_quantizer, UniformQuantizer)
    with torch.no_grad():
        first = layer.quantized_weight()
        assert layer.quantized_weight() is first
        layer.weight.mul_(2)
        second = layer.quantized_weight()
        assert not torch.equal(second, first)
        layer.weight_quantizer.set_grid(layer.weight_quantizer.scale * 2, layer.weight_quantizer.zero_point)
        assert not torch.equal(layer.quantized_weight(), second)
        assert torch.equal(copy.deepcopy(layer).quantized_weight(), layer.quantized_weight())


def test_a_weight_cached_in_inference_mode_serves_gradients_later() -> None:
    layer = linear()
    layer.weight.requires_grad_(False)
    with torch.inference_mode():
        layer(torch.randn(2, 6))
    x = torch.zeros(2, 6, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_gradients_reach_the_weight() -> None:
    layer = linear()
    layer(torch.randn(2, 6)).sum().backward()
    assert layer.weight.grad is not None


def test_a_convolution_without_quantizers_is_the_convolution() -> None:
    conv, x = nn.Conv2d(3, 4, 2, stride=2), torch.randn(1, 3, 8, 8)
    assert torch.equal(QConv2d.of(conv, None, None)(x), conv(x))
    with pytest.raises(ValueError, match="not quantized"):
        QConv2d.of(conv, None, None).weight_codes()


def test_replacement_lists_and_sizes() -> None:
    model = nn.Sequential(nn.Linear(6, 3), nn.ModuleDict({"p": MatMul()}))

    def swap(_: str, module: nn.Module) -> nn.Module | None:
        if type(module) is nn.Linear:
            return QLinear.of(module, rows(3), UniformQuantizer(8, PercentileMSE()))
        return QMatMul(UniformQuantizer(4, PercentileMSE()), None) if type(module) is MatMul else None

    replace_modules(model, swap)
    assert list(named_quantizers(model)) == ["0.weight_quantizer", "0.input_quantizer", "1.p.left"]
    layer, product = model[0], model.get_submodule("1.p")
    assert isinstance(layer, QLinear)
    assert isinstance(product, QMatMul)
    assert layer.operand_bits() == (8, 4)
    assert product.operand_bits() == (4, 32)
    assert sum(p.numel * p.bits for p in layer.packed_tensors()) == 18 * 4 + 3 * 32 + 2 * 3 * 32 + 2 * 32


def test_a_quantizer_that_was_shown_nothing_or_nan_is_named_in_one_line() -> None:
    model = nn.ModuleDict({"ran": nn.Linear(2, 2), "idle": nn.Linear(2, 2)})
    replace_modules(
        model, lambda _, m: QLinear.of(m, None, UniformQuantizer(8, MinMax())) if type(m) is nn.Linear else None
    )
    set_mode(model, "observe")
    with torch.no_grad():
        model["ran"](torch.randn(3, 2))
        with pytest.raises(MethodInputError, match=r"^idle\.input_quantizer saw no tensor in calibration"):
            fit_all(model)
        model["ran"](torch.tensor([[1.0, float("nan")]]))
        with pytest.raises(MethodInputError, match=r"^ran\.input_quantizer: .*NaN"):
            fit_all(model)


def test_modes_are_set_in_every_quantizer_of_a_part_and_no_other() -> None:
    model = nn.ModuleList([linear(), linear()])
    assert set_mode(model[0], "off") is model[0]
    modes = {path: quantizer.mode for path, quantizer in named_quantizers(model).items()}
    assert [mode for path, mode in modes.items() if path.startswith("0.")] == ["off", "off"]
    assert [mode for path, mode in modes.items() if path.startswith("1.")] == ["on", "on"]


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_restored_layer_has_the_bits_of_the_saved_one_however_odd_its_rows(symmetric: bool) -> None:
    """Rows far from zero, constant, tiny, of zeros, and a zero point that is no integer: decoded codes say it all."""
    weight = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    weight[1] = 5 + weight[1] * 1e-6
    weight[2], weight[3], weight[4] = 3.0, 0.0, weight[4] * 1e-30
    made = []
    for values in (weight, torch.randn(6, 8)):
        quantizer = UniformQuantizer(4, MinMax(axis=0, symmetric=symmetric), axis=0, symmetric=symmetric, channels=6)
        made.append(QLinear.of(nn.Linear(8, 6, bias=False), quantizer, None))
        made[-1].weight.data = values.clone()
    layer, other = made
    layer.weight_quantizer.observe(weight)
    layer.weight_quantizer.fit()
    if not symmetric:
        layer.weight_quantizer.zero_point[0] += 0.4
    layer.weight_quantizer.mode = "on"
    state = layer.stored_state()
    other.restore_state({k: v.codes if isinstance(v, Codes) else v for k, v in state.items()})
    with torch.no_grad():
        assert torch.equal(other.quantized_weight().view(torch.int32), layer.quantized_weight().view(torch.int32))
    assert torch.equal(other.weight_codes(), layer.weight_codes())
    again = other.stored_state()
    assert again.keys() == state.keys()
    assert again["weight"].bits == state["weight"].bits == (4 if symmetric else 5)
