"""Inference form: eight signs a byte, and products by counting bits.

With k signs in words u and v, their product is k - 2 popcount(u xor v); with probabilities 0 or 1 in p it is
2 popcount(p and v) - popcount(p). Both are integers below 2^24, so the floating-point training form holds the same
numbers exactly, and multiplies them by the same factors: the two forms agree bit for bit in float32.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitq.methods.architectures.explicit import MatMul
from vitq.methods.binary_vit.binarize import centred_rows
from vitq.methods.binary_vit.layers import BinaryLinear, BinaryMatMul, linear_tensors
from vitq.methods.toolkit.modules import replace_modules
from vitq.methods.toolkit.stored import Codes, Packed, State, child_state, restore_child

Kernel = Literal["popcount", "matmul"]
CHUNK = 1 << 22
"""64-bit words that one step of a popcount product may hold (32 MB), whatever the sizes of the operands."""


def pack_bits(bits: Tensor) -> Tensor:
    """Bool [..., k] -> uint8 words [..., ceil(k / 8)], first bit lowest, padded with zeros."""
    padded = F.pad(bits.to(torch.uint8), (0, -bits.shape[-1] % 8))
    weights = 2 ** torch.arange(8, dtype=torch.uint8, device=bits.device)
    return (padded.reshape(*padded.shape[:-1], -1, 8) * weights).sum(-1, dtype=torch.uint8)


def unpack_bits(words: Tensor, k: int) -> Tensor:
    """uint8 words [..., ceil(k / 8)] -> bool [..., k]."""
    shifts = torch.arange(8, dtype=torch.uint8, device=words.device)
    bits: Tensor = (words[..., None] >> shifts) & 1
    return bits.flatten(-2)[..., :k].bool()


def popcount(words: Tensor) -> Tensor:
    """Set bits of int64 words, same shape: sums of pairs, nibbles and bytes within the word."""
    x = words - ((words >> 1) & 0x5555555555555555)
    x = (x & 0x3333333333333333) + ((x >> 2) & 0x3333333333333333)
    x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0F
    return ((x * 0x0101010101010101) >> 56) & 0xFF


def wide(words: Tensor) -> Tensor:
    """uint8 words [..., w] -> int64 words [..., ceil(w / 8)], padded with zeros."""
    return F.pad(words, (0, -words.shape[-1] % 8)).contiguous().view(torch.int64)


def popcount_product(left: Tensor, right: Tensor, k: int, low: float) -> Tensor:
    """Words [..., n, w] and [..., m, w] of k bits -> int32 products [..., n, m] of their codes.

    Right codes are -1 and 1; left ones -1 and 1 where `low` is -1, 0 and 1 where it is 0.
    """
    left, right = wide(left), wide(right)
    step = max(1, CHUNK // max(1, left.numel()))
    parts = []
    for some in torch.split(right, step, dim=-2):
        pairs = left[..., :, None, :], some[..., None, :, :]
        if low == 0:
            parts.append(2 * popcount(pairs[0] & pairs[1]).sum(-1) - popcount(left).sum(-1, keepdim=True))
        else:
            parts.append(k - 2 * popcount(pairs[0] ^ pairs[1]).sum(-1))
    return torch.cat(parts, dim=-1).to(torch.int32)


def product(left: Tensor, right: Tensor, k: int, low: float, kernel: Kernel) -> Tensor:
    """The products of `popcount_product` as float32, counted, or by a matrix product of unpacked codes."""
    if kernel == "popcount":
        return popcount_product(left, right, k, low).float()
    a, b = unpack_bits(left, k).float(), 2 * unpack_bits(right, k).float() - 1
    return (a if low == 0 else 2 * a - 1) @ b.mT


class PackedLinear(nn.Module):
    """BinaryLinear with its weight at one bit: `words` uint8 [out, ceil(in / 8)], `factor` [out], `bias` [out]."""

    kernel: Kernel
    words: Tensor
    factor: Tensor
    bias: Tensor | None

    def __init__(self, layer: BinaryLinear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.input, self.kernel = layer.input, "matmul"
        weight = layer.weight.detach()
        self.register_buffer("words", pack_bits(centred_rows(weight) >= 0))
        self.register_buffer("factor", layer.factor().detach())
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """[B, ..., in] -> [B, ..., out]."""
        words = pack_bits(self.input.bits(x)).flatten(0, -2)
        y = product(words, self.words, self.in_features, self.input.low, self.kernel)
        y = y.reshape(*x.shape[:-1], self.out_features) * self.factor
        return y if self.bias is None else y + self.bias

    def operand_bits(self) -> tuple[int, int]:
        """(1, 1)."""
        return 1, 1

    def packed_tensors(self) -> list[Packed]:
        """As the training form."""
        weights = self.in_features * self.out_features
        return linear_tensors(weights, self.out_features, self.bias is not None, self.input)

    def stored_state(self) -> State:
        """Signs as codes of one bit, without the padding of rows; factor, bias and the input's binarizer."""
        signs = unpack_bits(self.words, self.in_features).to(torch.uint8)
        state: State = {"weight": Codes(signs, 1), "factor": self.factor}
        return state | ({} if self.bias is None else {"bias": self.bias}) | child_state("input", self.input)

    def restore_state(self, state: dict[str, Tensor]) -> None:
        """Take what `stored_state` gave; KeyError, ValueError for another layer's."""
        restore_child("input", self.input, state)
        shape = [self.out_features, self.in_features]
        if list(state["weight"].shape) != shape:
            raise ValueError(f"the weight has shape {list(state['weight'].shape)}, not {shape}")
        self.words = pack_bits(state["weight"].bool()).to(self.words.device)
        self.factor = state["factor"].to(self.words.device)
        self.bias = None if "bias" not in state else state["bias"].to(self.words.device)


class PackedMatMul(MatMul):
    """BinaryMatMul on packed words."""

    kernel: Kernel
    factor: Tensor

    def __init__(self, layer: BinaryMatMul) -> None:
        super().__init__()
        self.left, self.right, self.transposed, self.kernel = layer.left, layer.right, layer.transposed, "matmul"
        self.register_buffer("factor", layer.factor().detach())

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """[..., n, k] @ [..., k, m] -> [..., n, m]."""
        bits = self.right.bits(right.mT) if self.transposed else self.right.bits(right).mT
        words = pack_bits(self.left.bits(left)), pack_bits(bits)
        return product(*words, left.shape[-1], self.left.low, self.kernel) * self.factor

    def operand_bits(self) -> tuple[int, int]:
        """(1, 1)."""
        return 1, 1

    def packed_tensors(self) -> list[Packed]:
        """As the training form."""
        return self.left.packed_tensors() + self.right.packed_tensors()

    def stored_state(self) -> State:
        """Factor and both binarizers."""
        return {"factor": self.factor} | child_state("left", self.left) | child_state("right", self.right)

    def restore_state(self, state: dict[str, Tensor]) -> None:
        """Take what `stored_state` gave; KeyError, ValueError for another product's."""
        restore_child("left", self.left, state)
        restore_child("right", self.right, state)
        self.factor = state["factor"].to(self.factor.device)


def pack(model: nn.Module) -> nn.Module:
    """Replace every binary product of a model by its inference form, in place; returns the model, in eval mode."""

    def swap(_: str, module: nn.Module) -> nn.Module | None:
        if isinstance(module, BinaryLinear):
            return PackedLinear(module)
        return PackedMatMul(module) if isinstance(module, BinaryMatMul) else None

    replace_modules(model, swap).eval()  # which in some libraries gives nothing back
    return model


def set_kernel(model: nn.Module, kernel: Kernel) -> None:
    """How packed products are computed; the numbers are the same."""
    for module in model.modules():
        if isinstance(module, (PackedLinear, PackedMatMul)):
            module.kernel = kernel
