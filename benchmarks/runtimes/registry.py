"""Runtimes by name, ours and those of other packages' entry points; a name imports nothing until it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitq.registry import Registry

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
        "tvm": "vitq.benchmarks.runtimes.tvm_models:runtime",
        "tvm-integer": "vitq.benchmarks.runtimes.tvm_models:integer_runtime",
        "onnxruntime-integer": "vitq.benchmarks.runtimes.onnxruntime_integer:runtime",
    },
    group="vitq.runtimes",
)


def load(name: str) -> Runtime:
    """A runtime; BadInputError names the nearest ones of an unknown name."""
    return RUNTIMES.load(name)
