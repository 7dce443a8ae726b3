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
        "openvino": "vitq.benchmarks.runtimes.open_vino:runtime",
        "numba": "vitq.benchmarks.runtimes.numba_integer:runtime",
        "numba-xnor": "vitq.benchmarks.runtimes.numba_xnor:runtime",
        "triton": "vitq.benchmarks.runtimes.triton_integer:runtime",
        "triton-xnor": "vitq.benchmarks.runtimes.triton_xnor:runtime",
    },
    group="vitq.runtimes",
)


def load(name: str) -> Runtime:
    """A runtime; BadInputError names the nearest ones of an unknown name."""
    return RUNTIMES.load(name)
