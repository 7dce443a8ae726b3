"""Models in QDQ form: the same codes and values as torch computes on, in integers where a runtime has kernels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from subjects import subject_of
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitq.errors import UnsupportedError
from vitq.methods import registry
from vitq.methods.bits import Bits
from vitq.methods.repq_vit.log_quantizers import LogQuantizer
from vitq.methods.toolkit.layers import QConv2d, QLinear, QMatMul
from vitq.methods.toolkit.modules import set_mode
from vitq.methods.toolkit.observers import MinMax
from vitq.methods.toolkit.quantizers import UniformQuantizer

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx

from vitq.benchmarks.runtimes.onnx_export.export import to_onnx, unsupported
from vitq.benchmarks.runtimes.onnx_runtime import runtime as onnx_runtime
from vitq.benchmarks.runtimes.onnx_runtime import session_of

CPU = torch.device("cpu")
ROUNDED = {"rounded_zero_point": True}


def images(n: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def quantized(method: str, bits: str, **options) -> nn.Module:
    torch.manual_seed(0)
    made = VisionTransformer(img_size=32, patch_size=8, embed_dim=64, depth=2, num_heads=2, num_classes=10).eval()
    if method == "fp32":
        return made
    batches = [(images(8, seed=1), torch.arange(8))]
    subject = subject_of(made, batches, forward=lambda model, batch: model(batch[0]))
    chosen = registry.load(method)
    return chosen.quantize(subject, Bits.parse(bits), chosen.Options(**options)).model.eval()


def run(model: nn.Module, x: torch.Tensor, **how) -> torch.Tensor:
    session, _ = session_of(to_onnx(model, x, **how).SerializeToString(), 1, CPU)
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


def stored(model: nn.Module, x: torch.Tensor) -> set[int]:
    graph = to_onnx(model, x).graph
    return {tensor.data_type for tensor in graph.initializer if np.prod(tensor.dims) > 2000}


def fitted(quantizer: UniformQuantizer, shown: torch.Tensor) -> UniformQuantizer:
    quantizer.observe(shown)
    quantizer.fit()
    quantizer.mode = "on"
    return quantizer


def layer(made: nn.Linear | nn.Conv2d, bits: int, x: torch.Tensor, symmetric: bool = False) -> nn.Module:
    grid = MinMax(axis=0, symmetric=symmetric)
    weight = UniformQuantizer(bits, grid, axis=0, symmetric=symmetric, channels=made.weight.shape[0])
    weight, entering = fitted(weight, made.weight.detach()), fitted(UniformQuantizer(bits, MinMax()), x)
    return (QLinear if isinstance(made, nn.Linear) else QConv2d).of(made, weight, entering).eval()


@pytest.mark.parametrize("bits", [2, 4, 6, 8])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("apart", [False, True])
def test_a_layer_gives_the_values_of_its_codes(bits, symmetric, bias, apart):
    x = 3 * torch.randn(5, 7, 24) + 1
    made = nn.Linear(24, 40, bias=bias)
    made.weight.data[:, 0] += 0.7  # zero points of the weight far from the middle
    quantized_layer = layer(made, bits, x / 2, symmetric)
    torch.testing.assert_close(run(quantized_layer, x, zeros_apart=apart), quantized_layer(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("words", [{"stride": 4}, {"padding": 1, "stride": 2}, {"bias": False}])
def test_a_convolution_gives_the_values_of_its_codes(words):
    x = torch.randn(2, 3, 16, 16)
    made = layer(nn.Conv2d(3, 8, 4, **words), 8, x)
    torch.testing.assert_close(run(made, x), made(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bits", [4, 6, 8])
@pytest.mark.parametrize("apart", [False, True])
def test_a_product_of_activations_is_the_same_with_its_zero_points_apart(bits, apart):
    left, right = torch.randn(2, 3, 9, 16) - 0.5, torch.randn(2, 3, 16, 11) + 0.3

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            grids = [fitted(UniformQuantizer(bits, MinMax()), x * 0.8) for x in (left, right)]
            self.product, self.other = QMatMul(*grids), nn.Parameter(right)

        def forward(self, x):
            return self.product(x, 1.0 * self.other)

    both = Both().eval()
    torch.testing.assert_close(run(both, left, zeros_apart=apart), both(left), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("overflow", ["zero", "clip"])
@pytest.mark.parametrize("softmax", [False, True])
def test_logarithmic_grids_are_shifts_with_the_same_codes(bits, steps, overflow, softmax):
    made = LogQuantizer(bits, steps, overflow)
    x = 6 * torch.randn(2, 4, 50)
    made.restore_state({"scale": torch.tensor(0.83)})
    model = nn.Sequential(nn.Softmax(dim=-1) if softmax else nn.ReLU(), made).eval()
    want, got = model(x), run(model, x)
    torch.testing.assert_close(got, want, rtol=2e-6, atol=1e-30)
    assert len(got.unique()) > 3


@pytest.mark.parametrize("bits", [3, 6])
def test_narrow_activations_are_clamped_at_their_own_last_code(bits):
    made = fitted(UniformQuantizer(bits, MinMax()), torch.linspace(-1, 2, 40))
    x = torch.linspace(-9, 9, 1001)
    got = run(made, x)
    torch.testing.assert_close(got, made(x), rtol=1e-6, atol=1e-6)
    assert len(got.unique()) == 2**bits


@pytest.mark.parametrize("zero", [-3.0, 0.0, 255.0, 300.0])
def test_a_grid_away_from_zero_keeps_its_values(zero):
    made = UniformQuantizer(8, MinMax())
    made.restore_state({"scale": torch.tensor(0.1), "zero_point": torch.tensor(zero)})
    x = torch.linspace(-40, 40, 501)
    torch.testing.assert_close(run(made, x), made(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "bits", "options"),
    [
        ("fp32", "FP32", {}), ("minmax", "W8A8", {}), ("minmax", "W4A8", {}), ("minmax", "W6A6", {}),
        ("repq_vit", "W8A8", ROUNDED), ("repq_vit", "W4A4", ROUNDED),
        ("repq_vit", "W8A8", {"layernorm": "channel"}), ("psaq_vit", "W8A8", {"calibration": "real"}),
        ("pmq", "W5A5", {"allocation": "uniform"}),
    ],
)  # fmt: skip
def test_a_models_logits_are_as_near_as_one_step_of_a_grid(method, bits, options):
    made = _uniform_pmq(bits) if method == "pmq" else quantized(method, bits, **options)
    x = images()
    compiled = onnx_runtime.compile(made, x, threads=1, device=CPU)
    with torch.inference_mode():
        want = made(x)
    error = (compiled(x) - want).abs().max() / want.abs().max()
    assert error < {"FP32": 1e-5, "W8A8": 0.03}.get(bits, 0.3)
    assert (compiled.exec == "fp32:onnxruntime") == (method == "fp32")


def _uniform_pmq(bits: str) -> nn.Module:
    made = quantized("fp32", "FP32")
    pmq = registry.load("pmq")
    part = pmq.prepare(made, Bits.parse(bits), pmq.Options(allocation="uniform"))
    set_mode(part, "calibrate")
    with torch.no_grad():
        part(images(8, seed=1))
    return set_mode(part, "on")


def test_onnxruntime_multiplies_integers_and_says_where():
    made = quantized("minmax", "W8A8")
    compiled = onnx_runtime.compile(made, images(), threads=1, device=CPU)
    assert compiled.exec == "int8-kernel:onnxruntime"
    assert compiled.executed()["MatMul"]["int8"] >= 9  # 4 layers of 2 blocks and the head


def test_openvino_multiplies_every_layer_and_product_in_integers():
    pytest.importorskip("openvino")
    from vitq.benchmarks.runtimes.open_vino import runtime

    compiled = runtime.compile(quantized("minmax", "W8A8"), images(), threads=1, device=CPU)
    assert compiled.exec == "int8-kernel:openvino"
    executed = compiled.executed()
    assert set(executed["Linear"]) == set(executed["MatMul"]) == {"int8"}
    assert executed["Linear"]["int8"] >= 9  # 4 layers of 2 blocks and the head; sums for zero points
    assert executed["MatMul"]["int8"] >= 4
    x = images()
    assert (compiled(x) - quantized("minmax", "W8A8")(x)).abs().max() < 0.03


def test_weights_of_4_bit_are_stored_as_int4():
    kinds = onnx.TensorProto
    assert stored(quantized("repq_vit", "W4A4", **ROUNDED), images()) == {kinds.INT4}
    assert stored(quantized("minmax", "W8A8"), images()) == {kinds.INT8}
    assert stored(quantized("fp32", "FP32"), images()) == {kinds.FLOAT}


def test_what_has_no_qdq_form_says_why():
    with pytest.raises(UnsupportedError, match=r"fractional zero point .*rounded_zero_point"):
        to_onnx(quantized("repq_vit", "W8A8"), images())
    assert "no QDQ form" in str(unsupported(nn.Linear(2, 2), "integer-only:torch"))
    off = UniformQuantizer(8, MinMax())
    with pytest.raises(UnsupportedError, match="off"):
        to_onnx(nn.Sequential(off), images())


def test_openvino_sums_long_batches_of_short_rows_in_integers():
    pytest.importorskip("openvino")
    from vitq.benchmarks.runtimes.open_vino import runtime

    x = torch.randn(64, 37, 48)  # its ReduceSum of INT8 is wrong where the first dimension is the longer one
    made = layer(nn.Linear(48, 32), 8, x)
    compiled = runtime.compile(made, x, threads=1, device=CPU)
    assert compiled.executed() == {"Linear": {"int8": 2}}  # the layer, and the sum that its zero points need
    off = (compiled(x) - made(x)).detach().abs().amax(-1)
    assert (off > 1e-4).float().mean() < 1e-2  # what lies between two codes, a step of the grid
    assert off.max() < 0.1
