"""The integer graph: every logit as the integer form's on onnxruntime, no float inside, and what has none says why."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from i_vit_models import SIZE, batches, calibrated, swin, vit

from vitq.errors import UnsupportedError
from vitq.methods.i_vit.dyadic import Dyadic, requantize
from vitq.methods.i_vit.forms import Forms
from vitq.methods.i_vit.grids import Requantize
from vitq.methods.i_vit.integer import integer
from vitq.methods.i_vit.layernorm import IntegerLayerNorm
from vitq.methods.i_vit.network import Network

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx

from vitq.benchmarks.runtimes.integer_graph import arithmetic, dyadic, operators
from vitq.benchmarks.runtimes.integer_graph.graph import Graph, Value
from vitq.benchmarks.runtimes.integer_graph.network import integer_graph
from vitq.benchmarks.runtimes.onnxruntime_integer import runtime

CPU = torch.device("cpu")
INT32 = st.integers(-(2**31), 2**31 - 1)


def network(**words: Any) -> Network:
    forms = {
        key: words.pop(key) for key in ("rounding", "gelu", "softmax", "layernorm", "softmax_bits") if key in words
    }
    return integer(calibrated(vit(**words), Forms(**forms)), SIZE)


def run(model: Any, *inputs: np.ndarray[Any, Any]) -> Any:
    import onnxruntime

    how = onnxruntime.SessionOptions()
    how.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), how, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip([x.name for x in session.get_inputs()], inputs, strict=True)))[0]


def alone(graph: Graph, found: Value, given_codes: torch.Tensor) -> torch.Tensor:
    """A graph of one operator from the input `x`, run on codes."""
    kinds = {torch.int32: onnx.TensorProto.INT32, torch.int64: onnx.TensorProto.INT64}
    entry = onnx.helper.make_tensor_value_info("x", kinds[given_codes.dtype], given_codes.shape)
    out = onnx.helper.make_tensor_value_info(found.name, getattr(onnx.TensorProto, found.kind.upper()), None)
    written = onnx.helper.make_graph(graph.nodes, "one", [entry], [out], graph.constants)
    opset = [onnx.helper.make_opsetid("", 18)]
    made = onnx.helper.make_model(written, opset_imports=opset, ir_version=9)
    return torch.from_numpy(run(made, given_codes.numpy()).astype(np.int64))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("words", [{}, {"embed_dim": 64}, {"embed_dim": 48, "num_heads": 3, "num_classes": 70}])
@pytest.mark.parametrize("rounding", ["nearest", "floor"])
def test_onnxruntime_gives_the_integer_form_s_logits(words: dict[str, Any], batch: int, rounding: str) -> None:
    form, images = network(rounding=rounding, **words), batches(1)[0][0][:batch]
    compiled = runtime.compile(form, images, threads=1, device=CPU)
    assert compiled.exec == "integer-only:onnxruntime"
    for given_images in (images, 40 * images, torch.zeros_like(images), -images):
        assert torch.equal(compiled(given_images), form(given_images))


def test_weights_without_vnni_are_exact_too() -> None:
    form, images = network(), batches(1)[0][0][:2]
    got = run(integer_graph(form, tuple(images.shape), weights="uint8"), images.numpy())
    assert torch.equal(torch.from_numpy(got), form(images))


def test_nothing_between_the_image_and_the_logits_is_a_float() -> None:
    """By shape inference of what is written, and by what onnxruntime says that it ran."""
    images = batches(1)[0][0][:1]
    graph = onnx.shape_inference.infer_shapes(integer_graph(network(), tuple(images.shape)), strict_mode=True).graph
    floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16}
    real = [v.name for v in graph.value_info if v.type.tensor_type.elem_type in floats]
    assert len(graph.value_info) > 400
    assert [node.op_type for node in graph.node if node.output[0] in real] == ["Cast"]  # logits, before their scale
    executed = runtime.compile(network(), images, threads=1, device=CPU).executed()
    assert executed["MatMul"] == {"int8": 2 * 6 + 2}
    assert executed["Quantize"] == {"fp32": 1}
    assert executed["Elementwise"]["fp32"] == 2
    assert set(executed["Elementwise"]) <= {"int8", "int32", "int64", "fp32"}


@settings(deadline=None, max_examples=30)
@given(
    st.lists(INT32, min_size=8, max_size=8),
    st.integers(0, 2**31 - 1),
    st.integers(0, 62),
    st.sampled_from(["nearest", "floor"]),
    st.sampled_from([8, 24, 30]),
)
def test_requantization_is_exact_at_int32_extremes(
    codes: list[int], multiplier: int, shift: int, rounding: Any, bits: int
) -> None:
    number = Requantize(torch.ones(()), bits, rounding)
    number.multiplier.fill_(multiplier)
    number.shift.fill_(shift)
    graph, x = Graph(), torch.tensor(codes, dtype=torch.int32)
    sums = dyadic.of_value(Value("x", "int32", (8,), -(2**31), 2**31 - 1))
    found = dyadic.to_codes(graph, sums, number) if bits == 8 else dyadic.to_wide(graph, sums, number)
    wanted = requantize(x, Dyadic(number.multiplier, number.shift), bits, rounding)
    assert torch.equal(alone(graph, found, x), wanted + (dyadic.ZERO if bits == 8 else 0))


@pytest.mark.parametrize("shift", [1, 40, 54, 55, 62])
def test_a_norm_is_exact_for_slopes_of_any_sign_and_shift(shift: int) -> None:
    found = next(m for m in network().modules() if isinstance(m, IntegerLayerNorm))
    generator = torch.Generator().manual_seed(shift)
    found.multiplier.copy_(torch.randint(-(2**31) + 1, 2**31 - 1, found.multiplier.shape, generator=generator))
    found.bias.copy_(torch.randint(-(2**60), 2**60, found.bias.shape, generator=generator))
    found.shift.fill_(shift)
    x = torch.randint(-(2**23), 2**23, (6, 32), generator=generator, dtype=torch.int32)
    x[0], x[1] = 5, torch.arange(32)  # a row without variance, and one of little
    graph = Graph()
    made = operators.layer_norm(graph, found, Value("x", "int32", (6, 32), -(2**23), 2**23 - 1))
    assert torch.equal(alone(graph, made, x), found(x).to(torch.int64) + dyadic.ZERO)


def test_shifts_and_divisions_floor_below_zero() -> None:
    x, graph = torch.arange(-70, 70, dtype=torch.int64), Graph()
    value = Value("x", "int64", tuple(x.shape), -70, 69)
    assert torch.equal(alone(graph, arithmetic.floor_shift(graph, value, 4), x), x >> 4)
    graph = Graph()
    wanted = torch.div(x, 7, rounding_mode="floor")
    assert torch.equal(alone(graph, arithmetic.floor_divide(graph, value, 7), x), wanted)
    with pytest.raises(ValueError, match="not negative"):
        arithmetic.divide(graph, value, 7)


def test_what_does_not_fit_its_type_is_refused_at_export() -> None:
    graph = Graph()
    value = Value("x", "int32", (2,), -(2**31), 2**31 - 1)
    with pytest.raises(UnsupportedError, match="do not fit int32"):
        arithmetic.add(graph, value, 1)


@pytest.mark.parametrize("words", [{"softmax": "log_int"}, {"gelu": "polynomial"}, {"layernorm": "l1"}])
def test_operators_of_ablations_are_refused(words: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match="the integer graph has"):
        runtime.compile(network(**words), batches(1)[0][0], threads=1, device=CPU)


def test_models_that_are_not_served_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    exec = "integer-only:torch"
    assert "Swin" in str(runtime.unsupported(integer(calibrated(swin(), Forms()), SIZE), exec))
    assert "I-ViT" in str(runtime.unsupported(vit(), exec))
    assert "fp32" in str(runtime.unsupported(network(), "fp32"))
    assert runtime.unsupported(network(), exec) is None
    assert runtime.missing() is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert runtime.missing() == "onnx and onnxruntime not installed: pip install onnx onnxruntime"
