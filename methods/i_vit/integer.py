"""The integer form: int8 image codes in, int32 logits out, and no floating-point tensor between.

`integer(model)` reads the scales that every node saw and turns it into weights, biases, dyadic numbers and integer
constants, all buffers. Only the image's quantization and one multiplication of the logits are left in floating point.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from vitq.methods.base import UnsupportedError
from vitq.methods.i_vit import nodes, operators_paper
from vitq.methods.i_vit.ablations import IntegerNorm, IntegerOperator
from vitq.methods.i_vit.dyadic import Affine, Dyadic, Rounding, affine_requantize, dyadic, requantize
from vitq.methods.i_vit.model import Network
from vitq.methods.layers import Packed, replace_modules

SUM_HEADROOM = 6
"""An operand of a sum saturates this many bits above the sum, 31 at most."""


def narrow(codes: Tensor, bits: int) -> Tensor:
    """The smallest of int8, int16 and int32 that holds signed codes of this width."""
    return codes.to(torch.int8 if bits <= 8 else torch.int16 if bits <= 16 else torch.int32)


class Requantize(nn.Module):
    """A dyadic number, or one a channel, and the width of its output."""

    multiplier: Tensor
    shift: Tensor

    def __init__(self, ratio: Tensor, bits: int, rounding: Rounding) -> None:
        super().__init__()
        number = dyadic(ratio)
        self.register_buffer("multiplier", number.multiplier)
        self.register_buffer("shift", number.shift)
        self.bits, self.rounding = bits, rounding

    def wide(self, codes: Tensor) -> Tensor:
        """int64 codes, clamped to the width."""
        return requantize(codes, Dyadic(self.multiplier, self.shift), self.bits, self.rounding)

    def forward(self, codes: Tensor) -> Tensor:
        """Codes on the new grid in the smallest type that holds them."""
        return narrow(self.wide(codes), self.bits)


def _after(output: nodes.Output | None, scale: Tensor) -> Requantize | None:
    if output is None:
        return None
    return Requantize(scale.double() / output.scale.double(), output.width.bits, output.plan.rounding)


class _Leaf(nn.Module):
    """An integer node; it ships what its trainable form says."""

    def __init__(self, node: nodes.Node) -> None:
        super().__init__()
        self._packed: list[Packed] = node.packed_tensors()  # type: ignore[operator]

    def packed_tensors(self) -> list[Packed]:
        """As the trainable form."""
        return self._packed


class ImageIn(_Leaf):
    """Float image to int8 codes."""

    scale: Tensor

    def __init__(self, node: nodes.Input) -> None:
        super().__init__(node)
        self.register_buffer("scale", node.out.scale)

    def forward(self, image: Tensor) -> Tensor:
        """round(x/S) clamped, int8."""
        return torch.round(image / self.scale).clamp(-128, 127).to(torch.int8)


class LogitsOut(nn.Module):
    """INT32 logits to real ones: a single scale, so the integers already have their order."""

    scale: Tensor

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)

    def forward(self, codes: Tensor) -> Tensor:
        """codes * S."""
        return codes * self.scale

    def packed_tensors(self) -> list[Packed]:
        """The float scale of the logits."""
        return [Packed("scale", 1, 32)]


class IntegerLinear(_Leaf):
    """INT8 linear layer or patch embedding with INT32 bias."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, node: nodes.Linear) -> None:
        super().__init__(node)
        codes, scale = node.weight_grid()
        scale = scale * node.in_scales[0]
        bias = node.bias_codes(scale)
        self.patches = node.patches
        self.register_buffer("weight", codes.to(torch.int8))
        self.register_buffer("bias", None if bias is None else bias.to(torch.int32))
        self.out = _after(node.out, scale)

    def forward(self, codes: Tensor) -> Tensor:
        """int8 to the output's codes, or to int32 accumulators where a residual sum takes them."""
        apply = operators_paper.convolution if self.patches else operators_paper.linear
        acc = apply(codes, self.weight, self.bias)
        return acc if self.out is None else self.out(acc)

    def operand_bits(self) -> tuple[int, int]:
        """(input, weight)."""
        return 8, 8


class IntegerMatMul(_Leaf):
    """Attention product of int8 codes, or of 16-bit probabilities and int8 codes."""

    def __init__(self, node: nodes.MatMul) -> None:
        super().__init__(node)
        self.bits = node.bits
        self.out = _after(node.out, node.in_scales[0] * node.in_scales[1] * node.factor)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """[..., n, k] @ [..., k, m]."""
        apply = operators_paper.wide_product if self.bits[0] > 8 else operators_paper.product
        acc = apply(left, right)
        return acc if self.out is None else self.out(acc)

    def operand_bits(self) -> tuple[int, int]:
        """(left, right)."""
        return self.bits


class _Operator(_Leaf):
    """An elementwise or row-wise operator with its constants as int64 scalars."""

    def __init__(self, node: nodes.Node, operator: IntegerOperator, scale: Tensor) -> None:
        super().__init__(node)
        self.operator = operator
        self.count = 0
        for value in operator.constants(float(scale)):
            self.register_buffer(f"constant{self.count}", torch.tensor(value, dtype=torch.int64, device=scale.device))
            self.count += 1

    def _constants(self) -> tuple[Tensor, ...]:
        return tuple(self.get_buffer(f"constant{i}") for i in range(self.count))


class IntegerSoftmax(_Operator):
    """Shiftmax or its replacement."""

    def __init__(self, node: nodes.Softmax) -> None:
        super().__init__(node, node.operator, node.in_scales[0])
        self.bits = node.bits

    def forward(self, codes: Tensor) -> Tensor:
        """Logit codes to probability codes, int8 or int16."""
        return narrow(self.operator.apply(codes.to(torch.int64), self._constants(), self.bits), self.bits)


class IntegerGelu(_Operator):
    """ShiftGELU or its replacement."""

    def __init__(self, node: nodes.Gelu) -> None:
        super().__init__(node, node.operator, node.in_scales[0])
        scale = node.in_scales[0]
        worth = torch.full_like(scale, node.operator.out_scale(float(scale), 8))
        self.out = _after(node.out, worth)

    def forward(self, codes: Tensor) -> Tensor:
        """int8 to int8."""
        assert self.out is not None
        return self.out(self.operator.apply(codes.to(torch.int64), self._constants(), 8))  # type: ignore[no-any-return]


class IntegerLayerNorm(_Leaf):
    """I-LayerNorm with gamma and beta as integers."""

    multiplier: Tensor
    bias: Tensor
    shift: Tensor

    def __init__(self, node: nodes.Norm) -> None:
        super().__init__(node)
        constants = node.constants()
        for name, value in constants._asdict().items():
            self.register_buffer(name, value)
        self.operator: IntegerNorm = node.operator
        self.bits, self.rounding = node.out.width.bits, node.plan.rounding

    def forward(self, codes: Tensor) -> Tensor:
        """[..., C] to the output's codes."""
        normal = self.operator.apply(codes.to(torch.int64))
        constants = Affine(self.multiplier, self.bias, self.shift)
        return narrow(affine_requantize(normal, constants, self.bits, self.rounding), self.bits)


def _clamped(total: Tensor, bits: int) -> Tensor:
    return narrow(total.clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1), bits)


class IntegerAdd(_Leaf):
    """Sum of two integers on grids of their own."""

    def __init__(self, node: nodes.Add) -> None:
        super().__init__(node)
        self.bits = node.out.width.bits
        out, operand_bits = node.out.scale.double(), min(self.bits + SUM_HEADROOM, 31)
        self.left, self.right = (
            Requantize(scale.double() / out, operand_bits, node.out.plan.rounding) for scale in node.in_scales
        )

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Broadcasting sum."""
        return _clamped(self.left.wide(left) + self.right.wide(right), self.bits)


class IntegerAddConstant(_Leaf):
    """An integer plus a learnt constant on the sum's grid."""

    constant: Tensor

    def __init__(self, node: nodes.AddConstant) -> None:
        super().__init__(node)
        self.bits = node.out.width.bits
        ratio = node.in_scales[0].double() / node.out.scale.double()
        self.left = Requantize(ratio, min(self.bits + SUM_HEADROOM, 31), node.out.plan.rounding)
        self.register_buffer("constant", narrow(node.constant_codes(node.source()), self.bits))

    def forward(self, codes: Tensor) -> Tensor:
        """Broadcasting sum."""
        return _clamped(self.left.wide(codes) + self.constant, self.bits)


class IntegerClassToken(_Leaf):
    """The class token as integers on the patches' grid."""

    token: Tensor

    def __init__(self, node: nodes.ClassToken) -> None:
        super().__init__(node)
        limit = 2.0**30
        codes = torch.round(node.token.detach() / node.in_scales[0]).clamp(-limit, limit)
        self.register_buffer("token", codes.to(torch.int32))

    def forward(self, codes: Tensor) -> Tensor:
        """[B, N, C] -> [B, 1+N, C]."""
        return torch.cat([self.token.expand(codes.shape[0], -1, -1), codes.to(torch.int32)], 1)


class IntegerPool(_Leaf):
    """Sum over positions; the division by their number is in the dyadic number."""

    def __init__(self, node: nodes.Pool, count: int) -> None:
        super().__init__(node)
        self.out = _after(node.out, node.in_scales[0] / count)

    def forward(self, codes: Tensor) -> Tensor:
        """[B, H, W, C] -> [B, C]."""
        assert self.out is not None
        return self.out(codes.to(torch.int32).sum((1, 2), dtype=torch.int32))  # type: ignore[no-any-return]


class IntegerMask(_Leaf):
    """Swin's mask as integers on the logits' grid."""

    mask: Tensor

    def __init__(self, node: nodes.Mask) -> None:
        super().__init__(node)
        self.register_buffer("mask", node.mask_codes(node.in_scales[0]).to(torch.int32))

    def forward(self, codes: Tensor) -> Tensor:
        """[B*windows, heads, n, n] int8 -> int32."""
        windows, n = self.mask.shape[0], self.mask.shape[1]
        split = codes.to(torch.int32).reshape(-1, windows, codes.shape[1], n, n)
        return (split + self.mask[:, None]).reshape(codes.shape)


_FORMS = {
    nodes.Input: ImageIn,
    nodes.Linear: IntegerLinear,
    nodes.MatMul: IntegerMatMul,
    nodes.Softmax: IntegerSoftmax,
    nodes.Gelu: IntegerGelu,
    nodes.Norm: IntegerLayerNorm,
    nodes.Add: IntegerAdd,
    nodes.AddConstant: IntegerAddConstant,
    nodes.ClassToken: IntegerClassToken,
    nodes.Mask: IntegerMask,
}


@torch.no_grad()
def integer(model: Network, size: tuple[int, int, int]) -> Network:
    """The integer form of a calibrated model in the paper's arithmetic, a new module; `size` is an image's [C, H, W].

    Raises UnsupportedError for the release arithmetic, which is a float32 simulation and has no integer form.
    """
    if model.plan.arithmetic != "paper":
        raise UnsupportedError("only the paper's arithmetic has an integer form: set arithmetic to 'paper'")
    model = copy.deepcopy(model).eval()
    device = next(model.parameters()).device
    model(torch.zeros(1, *size, device=device))  # every node notes the scales that it is given

    def swap(_: str, node: nn.Module) -> nn.Module | None:
        if isinstance(node, nodes.Pool):
            return IntegerPool(node, node.count)
        form = _FORMS.get(type(node))
        return None if form is None else form(node)

    head_out = model.logits_scale()
    replace_modules(model, swap)
    model.output = LogitsOut(head_out)
    return model
