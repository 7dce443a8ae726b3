"""Relax modules to code for this machine: fused, scheduled where the target is the CPU, and run on its own threads."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import tvm
from torch import Tensor
from torch.utils.dlpack import from_dlpack
from tvm import relax, tirx
from tvm.relax import dpl

from vitq.benchmarks.run.provenance import cpu_flags
from vitq.benchmarks.runtimes.tvm_graphs.schedule import scheduled
from vitq.errors import UnsupportedError

WIDTHS = {"float32": "fp32", "uint8": "int8"}
"""TVM's names of types, and ours; others are called alike."""
ALIGNMENT = 64
"""Bytes at whose multiples TVM wants a tensor to begin; torch's own do, a part of one or of numpy's may not."""


def target_of(device: torch.device, threads: int) -> Any:
    """LLVM for this very CPU, or the CUDA device's own target.

    A CPU's name implies its vector instructions (AVX-512, VNNI); those that a virtual machine hides are taken out.
    """
    if device.type == "cuda":
        return tvm.target.Target.from_device(tvm.cuda(device.index or 0))
    words = {"kind": "llvm", "mcpu": tvm.target.codegen.llvm_get_system_cpu(), "num-cores": threads}
    flags = {flag.replace("_", "") for flag in cpu_flags().split()}
    implied = [str(each) for each in tvm.target.codegen.llvm_get_cpu_features(tvm.target.Target(words))]
    hidden = [each for each in implied if each.startswith(("avx", "amx")) and flags and each not in flags]
    return tvm.target.Target(words | {"mattr": [f"-{each}" for each in hidden]})


def use_threads(count: int) -> None:
    """Start TVM's pool with as many threads; UnsupportedError where it has started with another number.

    By itself TVM takes half of an x86's cores and binds the calling thread to one of them, which would slow down every
    other runtime of the process.
    """
    os.environ.setdefault("TVM_BIND_THREADS", "0")
    os.environ["TVM_NUM_THREADS"] = str(count)
    started = tvm.get_global_func("runtime.NumThreads")()
    if started != count:
        raise UnsupportedError(f"TVM has started on {started} threads in this process, and cannot run on {count}")


class Machine:
    """A compiled module on TVM's virtual machine; images in, the first output out."""

    def __init__(self, module: Any, threads: int, device: torch.device) -> None:
        use_threads(threads)
        self.device = tvm.cuda(device.index or 0) if device.type == "cuda" else tvm.cpu()
        target = target_of(device, threads)
        with target:
            module = lowered(module, device.type)
        self.executed = calls(module)
        self.runner = relax.VirtualMachine(tvm.compile(module, target=target), self.device)

    def __call__(self, images: Tensor) -> Tensor:
        """The output on the CPU, or on the GPU without a copy."""
        images = images.contiguous()
        if images.data_ptr() % ALIGNMENT:
            images = images.clone()
        found = self.runner["main"](tvm.runtime.from_dlpack(images))
        found = found if hasattr(found, "shape") else found[0]
        return from_dlpack(found)


def calls(module: Any) -> dict[str, Counter[str]]:
    """Kernels that one run calls: products by the type of the left operand that they load, and all others."""
    found: dict[str, Counter[str]] = {"MatMul": Counter(), "Kernel": Counter()}
    for block in module["main"].body.blocks:
        for each in (binding.value for binding in block.bindings):
            if isinstance(each, relax.Call) and each.op.same_as(tvm.ir.Op.get("relax.call_tir")):
                left = each.args[1].fields[0].ty.dtype
                product = "matmul" in each.args[0].name_hint
                found["MatMul" if product else "Kernel"][WIDTHS.get(str(left), str(left)) if product else "fused"] += 1
    return found


def lowered(module: Any, kind: str) -> Any:
    """Operators to fused loops; on the CPU scheduled by `schedule`, on a GPU by TVM's own default rules (dlight)."""
    passes = relax.transform
    module = tvm.transform.Sequential(
        [passes.DecomposeOpsForInference(), passes.LegalizeOps(), passes.AnnotateTIROpPattern(),
         passes.FoldConstant(), passes.FuseOps(), passes.FuseTIR(), passes.DeadCodeElimination()]
    )(_elementwise_ends(module))  # fmt: skip
    if kind == "cuda":
        from tvm.s_tir import dlight

        rules = dlight.gpu
        return dlight.ApplyDefaultSchedule(
            rules.Matmul(), rules.GEMV(), rules.Reduction(), rules.GeneralReduction(), rules.Fallback()
        )(module)
    if kind != "cpu":
        raise UnsupportedError(f"TVM runs on the CPU and CUDA here, not on {kind}")
    done = {}
    for name, function in module.functions.items():
        if isinstance(function, tirx.PrimFunc):
            done[name] = scheduled(function).with_attr("global_symbol", name.name_hint)
    for name, function in done.items():
        module[name] = function
    return module


def _elementwise_ends(module: Any) -> Any:
    """The larger or smaller of two tensors, where the ONNX frontend stacks them and reduces, which fuses with none."""
    for reduce, elementwise in (("relax.max", relax.op.maximum), ("relax.min", relax.op.minimum)):
        for wide in ((True, True), (True, False), (False, True), (False, False)):  # whether an operand is broadcast
            operands = dpl.wildcard(), dpl.wildcard()
            stacked = [_broadcast(each) if is_wide else each for each, is_wide in zip(operands, wide, strict=True)]
            pattern = dpl.is_op(reduce)(dpl.is_op("relax.stack")(dpl.is_tuple(stacked)))
            for name, function in module.functions.items():
                if isinstance(function, relax.Function):
                    module[name] = dpl.rewrite_call(pattern, _instead(elementwise, *operands), function)
    return module


def _broadcast(operand: Any) -> Any:
    return dpl.is_op("relax.broadcast_to")(operand, dpl.wildcard())


def _instead(elementwise: Callable[[Any, Any], Any], left: Any, right: Any) -> Callable[[Any, Any], Any]:
    return lambda _, found: elementwise(found[left], found[right])
