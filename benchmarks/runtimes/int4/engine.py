"""The engine: a fake-quantized model whose linear layers, patches and attention products run on INT8 kernels."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any, cast

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from vitq.benchmarks.runtimes.base import Executed
from vitq.benchmarks.runtimes.int4 import grids
from vitq.benchmarks.runtimes.int4.blocks import Int8Block, fuses
from vitq.benchmarks.runtimes.int4.layers import Int8Linear, Int8MatMul, Int8Patches, Work
from vitq.benchmarks.runtimes.int4.refusals import refusal
from vitq.benchmarks.runtimes.int4.tile import VNNI
from vitq.benchmarks.runtimes.numba_threads import use_threads
from vitq.errors import UnsupportedError
from vitq.methods.toolkit.layers import QConv2d, QLinear, QMatMul
from vitq.methods.toolkit.modules import replace_modules

FLOAT = {nn.Linear: "Linear", nn.Conv2d: "Conv", nn.LayerNorm: "LayerNorm", nn.Softmax: "Softmax", nn.GELU: "Gelu"}
"""What runs in floating point beside the products, by the operator's name."""


class Engine:
    """A fake-quantized model compiled for the CPU; `exec` and calls as `Compiled` has them.

    `plain` leaves vector instructions of INT8 unused, as on a CPU without them: the same integers, in more time.
    """

    exec = "int8-kernel:numba"

    def __init__(self, model: nn.Module, threads: int, plain: bool = not VNNI) -> None:
        reason = refusal(model)
        if reason is not None:
            raise UnsupportedError(reason)
        self.threads, self.count = threads, Counter[tuple[str, str]]()
        self.work = Work(threads, plain)
        self.model = replace_modules(replace_modules(copy.deepcopy(model).eval(), self._fuse), self._swap)
        # torch's idle threads spin for a while, on the cores that a kernel runs on next
        self.alone = any(isinstance(module, Int8Block) for module in self.model.modules())

    def _fuse(self, _: str, module: nn.Module) -> nn.Module | None:
        """A whole block on fused kernels."""
        if not isinstance(module, Block) or not fuses(module):
            return None
        made, attention = Int8Block(module, self.work), cast("Any", module.attn)
        for layer in (attention.qkv, attention.proj, module.mlp.fc1, module.mlp.fc2):
            self.count["Linear", _width(layer)] += 1
        self.count["MatMul", "int8"] += 1 if made.wide else 2
        self.count["MatMul", "fp32"] += int(made.wide)
        for kind, number in (("LayerNorm", 2), ("Softmax", 1), ("Gelu", 1)):
            self.count[kind, "fp32"] += number
        return made

    def _swap(self, _: str, module: nn.Module) -> nn.Module | None:
        if isinstance(module, (QLinear, QConv2d)) and module.input_quantizer is not None:
            self.count["Linear" if isinstance(module, QLinear) else "Conv", _width(module)] += 1
            return Int8Linear(module, self.work) if isinstance(module, QLinear) else Int8Patches(module, self.work)
        if isinstance(module, QMatMul):
            made = self._product(module)
            self.count["MatMul", "fp32" if made is None else "int8"] += 1
            return made
        return None

    def _product(self, module: QMatMul) -> nn.Module | None:
        """The product's INT8 form, or None where a grid has none."""
        if grids.input_reason(module.right) or grids.attention_reason(module.left):
            return None
        return Int8MatMul(module, self.work)

    @property
    def weight_bytes(self) -> int:
        """Bytes that the codes of all INT8 layers take in memory."""
        return sum(module.weight_bytes for module in self.model.modules() if isinstance(module, Int8Linear))

    def __call__(self, images: Tensor) -> Tensor:
        """The model's output as float32; its integers are the fake-quantized model's, its sums are rounded once."""
        use_threads(self.threads)
        before = torch.get_num_threads()
        torch.set_num_threads(1 if self.alone else before)
        try:
            with torch.inference_mode():
                found: Tensor = self.model(images)
        finally:
            torch.set_num_threads(before)
        return found.float()

    def executed(self) -> Executed:
        """Products by width as they were replaced, and what is left in floating point."""
        found: dict[str, dict[str, int]] = {}
        for (kind, width), count in self.count.items():
            if count:
                found.setdefault(kind, {})[width] = count
        for module in self.model.modules():
            kind = next((name for of, name in FLOAT.items() if isinstance(module, of)), "")
            if kind:
                found.setdefault(kind, {}).setdefault("fp32", 0)
                found[kind]["fp32"] += 1
        return found


def _width(layer: Any) -> str:
    return "int8 (int4 storage)" if layer.weight_quantizer.bits <= 4 else "int8"
