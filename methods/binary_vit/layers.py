"""Training form of the binary products: codes in floating point, whose products are exact, then their scales."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vitq.methods.architectures.explicit import MatMul
from vitq.methods.binary_vit.binarize import Binarizer, ProbabilityBinarizer, SignBinarizer, weight_sign
from vitq.methods.toolkit.stored import Packed


class BinaryLinear(nn.Linear):
    """y = a * row_scale * (sign(x + shift) . sign(W - mean)) + bias; the latent weight W stays in floating point.

    `pull` is the current weight of the gradient regularization scheme.
    """

    def __init__(self, in_features: int, out_features: int, asm: bool) -> None:
        super().__init__(in_features, out_features, device="meta")
        self.input = SignBinarizer((in_features,), asm)
        self.pull = 0.0

    @classmethod
    def of(cls, linear: nn.Linear, asm: bool) -> BinaryLinear:
        """Take over a layer's parameters; its weight becomes the latent weight."""
        self = cls(linear.in_features, linear.out_features, asm)
        self.weight, self.bias, self.training = linear.weight, linear.bias, linear.training
        self.input.to(linear.weight.device)
        return self

    def row_scale(self) -> Tensor:
        """mean|W| of each row, [out, 1], a constant to the gradient (XNOR-Net, ReActNet)."""
        return self.weight.detach().abs().mean(dim=1, keepdim=True)

    def factor(self) -> Tensor:
        """What a row's integer product is multiplied by, [out]."""
        return self.input.scale() * self.row_scale().squeeze(1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, ..., in] -> [B, ..., out]."""
        product = F.linear(self.input(x), weight_sign(self.weight, self.row_scale(), self.pull))
        y: Tensor = product * self.factor()
        return y if self.bias is None else y + self.bias

    def operand_bits(self) -> tuple[int, int]:
        """(1, 1)."""
        return 1, 1

    def packed_tensors(self) -> list[Packed]:
        """Weight at one bit; row scales, bias and the input's binarizer in FP32."""
        return linear_tensors(self.weight.numel(), self.out_features, self.bias is not None, self.input)


class BinaryMatMul(MatMul):
    """The product of two binarized activations; `transposed` says that the right one holds channels by tokens."""

    def __init__(self, left: Binarizer, right: Binarizer, transposed: bool) -> None:
        super().__init__()
        self.left, self.right, self.transposed = left, right, transposed

    @classmethod
    def query_key(cls, heads: int, width: int, asm: bool) -> BinaryMatMul:
        """Q . K^T, [B, heads, N, d] @ [B, heads, d, N]."""
        shape = (heads, 1, width)
        return cls(SignBinarizer(shape, asm), SignBinarizer(shape, asm), transposed=True)

    @classmethod
    def attention_value(cls, heads: int, width: int, asm: bool) -> BinaryMatMul:
        """P . V, [B, heads, N, N] @ [B, heads, N, d]."""
        return cls(ProbabilityBinarizer(), SignBinarizer((heads, 1, width), asm), transposed=False)

    def factor(self) -> Tensor:
        """What the integer products are multiplied by, [1]."""
        return self.left.scale() * self.right.scale()

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """[..., n, k] @ [..., k, m] -> [..., n, m]."""
        right = self.right(right.mT).mT if self.transposed else self.right(right)
        product: Tensor = self.left(left) @ right
        return product * self.factor()

    def operand_bits(self) -> tuple[int, int]:
        """(1, 1)."""
        return 1, 1

    def packed_tensors(self) -> list[Packed]:
        """Both binarizers."""
        return self.left.packed_tensors() + self.right.packed_tensors()


def linear_tensors(weights: int, rows: int, bias: bool, binarizer: Binarizer) -> list[Packed]:
    """What of a binary linear layer ships."""
    own = [Packed("weight", weights, 1), Packed("weight scale", rows, 32)]
    return own + ([Packed("bias", rows, 32)] if bias else []) + binarizer.packed_tensors()
