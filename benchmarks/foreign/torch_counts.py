"""What a model that torch runs weighs and multiplies, as far as its tensors and operators tell.

Sizes are those of its tensors; of a tensor that stands for codes and grids (torchao's), of these. MACs are what torch's
own counter finds while it runs; operators of libraries are unknown to it, so that where there are any nothing is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vitq.benchmarks.foreign.model import Facts
from vitq.benchmarks.foreign.widths import FLOAT, Counted, Width, label_of, of_codes
from vitq.benchmarks.measure.conventions import Product, bitops, ops
from vitq.benchmarks.measure.macs import count_macs, explicit_copy
from vitq.record import Operations, Size


def counted_program(module: nn.Module, facts: Facts, *, quantized: bool) -> Facts:
    """The facts of a traced or scripted model: `quantized` where it has operators on packed integers."""
    if quantized:
        why = "packed size and operations are not counted: its integers are inside operators that do not show them"
        return replace(facts, unknown=(why,))
    tensors = list({id(t): t for t in (*module.parameters(), *module.buffers())}.values())
    size = _size(sum(t.numel() for t in tensors), sum(map(stored_bytes, tensors)))
    narrow = any(stored_bytes(t) < t.numel() for t in tensors if t.numel()) or any(
        not t.is_floating_point() and t.element_size() == 1 and t.dtype != torch.bool and t.ndim > 1 for t in tensors
    )
    return replace(facts, size=size, bits="?" if narrow else "FP32", exec="?:torch" if narrow else "fp32:torch")


def with_operations(run: Callable[[Tensor], Tensor], facts: Facts, size: tuple[int, int, int]) -> Facts:
    """The facts with the operations that torch counts in one pass; `size` is [C, H, W] of an image."""
    if facts.operations is not None or facts.unknown or facts.runtime != "torch":
        return facts
    batch = facts.batch or 1
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):  # fused, not counted
        run(torch.zeros(batch, *size))
    macs = counter.get_total_flops() // 2 // batch
    if not macs:
        return replace(facts, unknown=("operations are not counted: torch's counter knows none of its operators",))
    if facts.bits != "FP32":
        return replace(facts, unknown=("operations are not counted: the widths of its products are not known",))
    return replace(facts, operations=Operations(macs=macs, bitops=macs * 1024, ops=float(macs)))


def counted_state(model: nn.Module, facts: Facts, plain: Callable[[], nn.Module]) -> Facts:
    """The facts of a model of a known architecture whose weights may be torchao's; `plain` builds it without them."""
    tensors = list({id(t): t for t in (*model.parameters(), *model.buffers())}.values())
    size = _size(sum(p.numel() for p in model.parameters()), sum(map(stored_bytes, tensors)))
    original = explicit_copy(plain())
    shape = _input_of(original)
    macs = count_macs(original, torch.empty(1, *shape, device="meta"), lambda module, images: module(images))
    held = dict(model.named_parameters())
    found = [_product(path, count, held.get(f"{path}.weight")) for path, count in macs.items()]
    products = [each.product for each in found]
    total = sum(product.macs for product in products)
    operations = Operations(macs=total, bitops=round(bitops(products)), ops=ops(products))
    bits = label_of(found)
    exec = "fp32:torch" if bits == "FP32" else "torchao:torch"
    return replace(facts, size=size, operations=operations, bits=bits, exec=exec, sides=shape[1:])


def _product(path: str, macs: int, weight: Tensor | None) -> Counted:
    if weight is None or not is_codes(weight):
        return Counted(Product(path, macs, 32, 32, 0 if weight is None else weight.numel(), 0), proven=True)
    width = _width(weight)
    product = Product(path, macs, 8 if _quantizes_input(weight) else 32, width.bits, weight.numel(), 0)
    return Counted(product, width.proven)


def is_codes(tensor: Tensor) -> bool:
    """Whether a tensor stands for codes and grids, as torchao's do."""
    return type(tensor) not in (Tensor, nn.Parameter) and hasattr(tensor, "__tensor_flatten__")


def parts_of(tensor: Tensor) -> Iterator[Tensor]:
    """The plain tensors that a tensor is made of."""
    if not is_codes(tensor):
        yield tensor
        return
    for name in tensor.__tensor_flatten__()[0]:  # type: ignore[attr-defined]
        yield from parts_of(getattr(tensor, name))


def stored_bytes(tensor: Tensor) -> int:
    """What a tensor takes, all its parts together."""
    return sum(part.numel() * part.element_size() for part in parts_of(tensor))


def _width(weight: Tensor) -> Width:
    """Of the codes: the bits an element of the largest integer part, proven where a byte is one code and needs all."""
    codes = max(
        (part for part in parts_of(weight) if not part.is_floating_point()), key=lambda t: t.numel(), default=None
    )
    if codes is None:
        return FLOAT
    bits = max(1, round(8 * codes.numel() * codes.element_size() / weight.numel()))
    if (bits, codes.element_size()) != (8, 1):
        return Width(bits, proven=False)
    return of_codes(float(codes.min()), float(codes.max()), bits)


def _quantizes_input(weight: Tensor) -> bool:
    """Whether the tensor's own product rounds its input to 8 bits first."""
    return getattr(weight, "act_quant_kwargs", None) is not None or hasattr(weight, "input_quant_func")


def _input_of(model: nn.Module) -> tuple[int, int, int]:
    size = model.pretrained_cfg["input_size"]  # type: ignore[index]
    return int(size[0]), int(size[1]), int(size[2])


def _size(params: int, stored: int) -> Size | None:
    return Size(params=params, fp32_mb=params * 4 / 1e6, packed_mb=stored / 1e6) if params else None
