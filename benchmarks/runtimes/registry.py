"""Runtimes by name, ours and those of other packages' entry points; a name imports nothing until it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitq.registry import OURS, Registry

if TYPE_CHECKING:
    from vitq.benchmarks.runtimes.base import Runtime

RUNTIMES: Registry[Runtime] = Registry(
    "runtime",
    {
        "torch": "vitq.benchmarks.runtimes.torch_eager:runtime",
        "torch-compile": "vitq.benchmarks.runtimes.torch_compile:runtime",
        "torch-bf16": "vitq.benchmarks.runtimes.torch_bf16:runtime",
        "openvino": "vitq.benchmarks.runtimes.open_vino:runtime",
        "numba": "vitq.benchmarks.runtimes.numba_integer:runtime",
        "numba-xnor": "vitq.benchmarks.runtimes.numba_xnor:runtime",
        "numba-int8": "vitq.benchmarks.runtimes.numba_int8:runtime",
        "tvm": "vitq.benchmarks.runtimes.tvm_models:runtime",
        "tvm-integer": "vitq.benchmarks.runtimes.tvm_models:integer_runtime",
        "onnxruntime-integer": "vitq.benchmarks.runtimes.onnxruntime_integer:runtime",
        "triton": "vitq.benchmarks.runtimes.triton_integer:runtime",
        "triton-xnor": "vitq.benchmarks.runtimes.triton_xnor:runtime",
    },
    group="vitq.runtimes",
)

PACKAGES = {
    "torch": ("torch",), "torch-compile": ("torch",), "torch-bf16": ("torch",), "openvino": ("openvino",),
    "numba": ("numba",), "numba-xnor": ("numba",), "numba-int8": ("numba",), "tvm": ("apache-tvm",),
    "tvm-integer": ("apache-tvm", "onnx"), "onnxruntime-integer": ("onnxruntime", "onnx"),
    "triton": ("triton", "torch"), "triton-xnor": ("triton", "torch"),
}  # fmt: skip
"""Distributions that compute in our runtimes: their versions are part of what decides a latency row."""


def packages_of(name: str) -> tuple[str, ...]:
    """The distributions that compute in a runtime: another package's runtime is that package."""
    offer = RUNTIMES.offer(name)
    return PACKAGES[name] if offer.distribution == OURS else (offer.distribution,)


def load(name: str) -> Runtime:
    """A runtime; BadInputError names the nearest ones of an unknown name."""
    return RUNTIMES.load(name)
