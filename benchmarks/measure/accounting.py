"""Size and operations of a quantized model, counted from its architecture and the widths its layers declare.

BitOPs = sum over products of MACs * b_left * b_right; a product in floating point is 32 x 32.
OPs = BOPs/64 + FLOPs (Bi-Real Net, arXiv 1808.00278; ReActNet, arXiv 2003.03488): BOPs are the binary operations of
products with both operands quantized, FLOPs the MACs of all others. A product of m by k bits is m*k binary ones
(DoReFa-Net, arXiv 1606.06160), so one of 1 x 1 bit costs 1/64 and one of 8 x 8 as much as in floating point.

A detector's heads run on as many proposals as its configuration keeps: all of them in each box head, and in each mask
head as many as detections are kept. So Mask R-CNN with Swin-T at 1280x800 has 266.55 G MACs: backbone 95.57, of which
attention products 3.11, FPN 53.08, RPN 50.62, box head 14.30, mask head 52.99. mmengine's analysis gives 267.01 G: the
same products to the last one, and 0.43 G of LayerNorm and 0.02 G of resampling beside, which are no MACs here. The Swin
authors print 267 G. UPerNet with Swin-T at 2048x512 has 944.39 G; mmengine gives 945.66 G, with 0.69 G of norms and
0.59 G of resampling and pooling, and the authors print 945 G.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from vitq.benchmarks.measure import conventions
from vitq.benchmarks.measure.macs import Forward, count_macs, explicit_copy
from vitq.benchmarks.measure.sizes import Stored, parameter_count, stored_tensors
from vitq.errors import UnsupportedError
from vitq.methods.architectures.explicit import MatMul
from vitq.methods.architectures.roles import Roles, roles_of
from vitq.methods.bits import Bits
from vitq.methods.toolkit.stored import HasOperands
from vitq.record import Operations, Size
from vitq.subject import Batch

FP = (32.0, 32.0)


class LayerRow(NamedTuple):
    """One row of the per-layer table; a row without MACs holds only what ships (norms, positions, grids)."""

    path: str
    kind: str
    macs: int
    left_bits: float
    right_bits: float
    weight_params: int
    packed_bytes: int


class Account(NamedTuple):
    """Size, operations and the table they are summed from."""

    size: Size
    operations: Operations
    layers: list[LayerRow]


def account(fp_model: nn.Module, quantized_model: nn.Module, sample: Batch, bits: Bits, forward: Forward) -> Account:
    """Count a quantized model against the FP model it came from; neither is changed, both may be on the meta device.

    MACs are those of the FP model's explicit form in `forward` on `sample`, a batch of one sample on the meta device.
    The width of each product's operands is what the quantized model's module of the same path says. ValueError when
    widths are declared where the FP model has no product, since they would be lost in silence.
    """
    explicit = explicit_copy(fp_model)
    macs = count_macs(explicit, sample, forward)
    widths, roles = operand_widths(explicit, quantized_model, macs), _known_roles(explicit)
    products = [
        conventions.Product(
            path, count, *widths.get(path, FP), *_elements(explicit.get_submodule(path)), conventions.where(roles, path)
        )
        for path, count in macs.items()
    ]
    stored = stored_tensors(quantized_model)
    return Account(_size(roles, products, stored, bits), _operations(products), layer_rows(explicit, products, stored))


def _known_roles(explicit: nn.Module) -> Roles:
    """The model's roles; none of a network that no adapter knows, which FP32 alone is counted of."""
    try:
        return roles_of(explicit)
    except UnsupportedError:
        return Roles(family="", model=explicit, blocks=(), norm_feeds=())


def _elements(module: nn.Module) -> tuple[int, int]:
    held = dict(module.named_parameters(recurse=False))
    return tuple(held[name].numel() if name in held else 0 for name in ("weight", "bias"))  # type: ignore[return-value]


def _size(roles: Roles, products: Sequence[conventions.Product], stored: Sequence[Stored], bits: Bits) -> Size:
    params = parameter_count(roles.model)
    size = Size(params=params, fp32_mb=params * 4 / 1e6, packed_mb=sum(tensor.bytes for tensor in stored) / 1e6)
    return size.model_copy(update={"conventions": conventions.sizes(size, products, roles, bits)})


def _operations(products: Sequence[conventions.Product]) -> Operations:
    counted = Operations(
        macs=sum(p.macs for p in products), bitops=round(conventions.bitops(products)), ops=conventions.ops(products)
    )
    return counted.model_copy(update={"conventions": conventions.operations(counted, products)})


def operand_widths(explicit: nn.Module, quantized: nn.Module, macs: dict[str, int]) -> dict[str, tuple[float, float]]:
    """Widths that the quantized model declares, by the path of a product of the explicit FP model.

    Modules that only quantize (sums, norms) may declare widths too; they multiply nothing. ValueError for widths at a
    path the FP model does not have, or above products that have paths of their own.
    """
    known = dict(explicit.named_modules())
    widths: dict[str, tuple[float, float]] = {}
    for path, module in quantized.named_modules():
        if not isinstance(module, HasOperands):
            continue
        if path in macs:
            widths[path] = module.operand_bits()
        elif path not in known or any(other.startswith(f"{path}." if path else "") for other in macs):
            raise ValueError(
                f"{type(module).__name__} at {path!r} declares operand widths, but the explicit FP model multiplies "
                "nothing there: declare them where it does"
            )
    return widths


def layer_rows(
    explicit: nn.Module, products: Sequence[conventions.Product], stored: Sequence[Stored]
) -> list[LayerRow]:
    """One row a product, in the order of the model, then a row for each other module that ships something.

    MACs and bytes of the rows add up to the totals.
    """
    held: dict[str, int] = defaultdict(int)
    for tensor in stored:
        held[tensor.path] += tensor.bytes
    rows = [
        LayerRow(p.path, _kind(explicit, p.path), p.macs, p.left_bits, p.right_bits, p.weight, held.pop(p.path, 0))
        for p in products
    ]
    return rows + [LayerRow(path, _kind(explicit, path), 0, *FP, 0, size) for path, size in held.items()]


_KINDS: dict[type[nn.Module], str] = {
    nn.Linear: "linear", nn.Conv2d: "conv2d", nn.ConvTranspose2d: "conv2d", MatMul: "matmul", nn.LayerNorm: "norm",
    nn.modules.batchnorm._BatchNorm: "norm",
}  # fmt: skip


def _kind(explicit: nn.Module, path: str) -> str:
    try:
        module = explicit.get_submodule(path)
    except AttributeError:
        return "quantizer"  # only the quantized model has this module
    return next((kind for served, kind in _KINDS.items() if isinstance(module, served)), "other")
