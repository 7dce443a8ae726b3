"""Quantized layers and the quantized product: they compute as their FP forms do, on values that codes stand for.

Each can hand out its codes, scales and zero points, and says how it ships and what it stores (see `stored`).
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitq.methods.architectures.explicit import MatMul
from vitq.methods.toolkit.chunks import scratch
from vitq.methods.toolkit.quantizers import Quantizer
from vitq.methods.toolkit.stored import (
    Codes,
    Packed,
    State,
    children_state,
    restore_children,
)


def _bits(quantizer: Quantizer | None) -> int:
    return 32 if quantizer is None else quantizer.bits


def _mean_bits(quantizer: Quantizer | None) -> float:
    return 32 if quantizer is None else quantizer.mean_bits


def operand(quantizer: Quantizer | None, x: Tensor, slot: int = 0) -> Tensor:
    """x quantized, for a layer that is done with it when it returns: two operands of one product take two slots.

    Where no gradients are asked for, and no hook may keep the result, it lies in memory that serves again.
    """
    if quantizer is None:
        return x
    watched = quantizer._forward_hooks or quantizer._forward_pre_hooks
    if quantizer.mode != "on" or watched or torch.is_grad_enabled():
        y: Tensor = quantizer(x)
        return y
    quantizer.require_grid()
    return quantizer.evaluate(x, scratch(x, slot))


def _overhead(name: str, quantizer: Quantizer | None) -> list[Packed]:
    return [] if quantizer is None else [Packed(f"{name} grid", quantizer.overhead_bits() // 32, 32)]


def _same(one: list[tuple[Tensor, int]], other: list[tuple[Tensor, int]]) -> bool:
    return len(one) == len(other) and all(a is b and v == w for (a, v), (b, w) in zip(one, other, strict=True))


class _QuantizedWeight(nn.Module):
    """Shared by QLinear and QConv2d: a weight with its quantizer and an input quantizer, either may be None (FP)."""

    weight: nn.Parameter
    bias: nn.Parameter | None
    input_quantizer: Quantizer | None
    weight_quantizer: Quantizer | None
    restored_codes: Tensor | None
    """Codes of a restored layer, whose weight holds the values that they stand for; None where it is an FP weight."""

    def _adopt(self, weight_quantizer: Quantizer | None, input_quantizer: Quantizer | None) -> None:
        self.weight_quantizer, self.input_quantizer = weight_quantizer, input_quantizer
        self._cache: tuple[list[tuple[Tensor, int]], Tensor] | None = None
        self.register_buffer("restored_codes", None, persistent=False)

    def quantized_weight(self) -> Tensor:
        """The dequantized weight; kept between calls while neither the weight nor its grid changes, without grad."""
        quantizer = self.weight_quantizer
        if quantizer is None or quantizer.mode == "off":
            return self.weight
        if self._is_restored():
            return self.weight
        if quantizer.mode != "on" or (torch.is_grad_enabled() and self.weight.requires_grad):
            self._cache = None
            fresh: Tensor = quantizer(self.weight)
            return fresh
        stamp = [(t, -1 if t.is_inference() else t._version) for t in (self.weight, *quantizer.buffers())]
        if self._cache is None or not _same(self._cache[0], stamp):
            # a tensor made in inference mode could not be used where gradients are enabled later
            with torch.inference_mode(False), torch.no_grad():
                # by way of the codes, which a saved model keeps: then both have the same zeros, of the same sign
                self._cache = (stamp, quantizer.decode(self.weight_codes()))
        return self._cache[1]

    def _is_restored(self) -> bool:
        """Whether the weight is made of codes; no longer where it is to be trained."""
        if self.restored_codes is not None and self.weight.requires_grad:
            self.restored_codes = None
        return self.restored_codes is not None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the cached weight out of copies and files."""
        return {**self.__dict__, "_cache": None}

    def weight_codes(self) -> Tensor:
        """Integer codes of the weight (int32), same shape; ValueError when the weight stays in floating point."""
        if self.weight_quantizer is None:
            raise ValueError("this layer's weight is not quantized")
        self.weight_quantizer.require_grid()
        if self._is_restored():
            return cast(Tensor, self.restored_codes).to(torch.int32)
        return self.weight_quantizer.codes(self.weight.detach())

    def stored_state(self) -> State:
        """Codes of the weight, or the weight where it stays in floating point; bias; grids of all quantizers."""
        quantizer = self.weight_quantizer
        state: State = children_state(self)
        state["weight"] = self.weight if quantizer is None else weight_code_state(self.weight_codes(), quantizer)
        return state if self.bias is None else state | {"bias": self.bias}

    def restore_state(self, state: dict[str, Tensor]) -> None:
        """Take codes, bias and grids; the weight becomes the values of its codes. KeyError, ValueError."""
        restore_children(self, state)
        given, device = state["weight"], self.weight.device
        if given.shape != self.weight.shape:
            raise ValueError(f"the weight has shape {list(given.shape)}, not {list(self.weight.shape)}")
        if self.weight_quantizer is not None:
            check_codes(given, self.weight_quantizer)
            self.restored_codes = narrow(given).to(device)
            given = self.weight_quantizer.decode(given.to(device))
        self.weight, self._cache = nn.Parameter(given.to(device), requires_grad=False), None
        bias = state.get("bias")
        self.bias = None if bias is None else nn.Parameter(bias.to(device), requires_grad=False)

    def _load_from_state_dict(self, *arguments: Any, **more: Any) -> None:
        """A loaded weight replaces the restored one, codes included."""
        self.restored_codes = self._cache = None
        super()._load_from_state_dict(*arguments, **more)

    def operand_bits(self) -> tuple[float, float]:
        """(input width, weight width)."""
        return _mean_bits(self.input_quantizer), _mean_bits(self.weight_quantizer)

    def packed_tensors(self) -> list[Packed]:
        """Weight at its own width, grids and bias in FP32."""
        rows = [Packed("weight", self.weight.numel(), _bits(self.weight_quantizer))]
        rows += [] if self.bias is None else [Packed("bias", self.bias.numel(), 32)]
        return rows + _overhead("weight", self.weight_quantizer) + _overhead("input", self.input_quantizer)


def weight_code_state(codes: Tensor, quantizer: Quantizer) -> Codes:
    """Codes with the width that their grid's limits take, one bit more than the grid's for a fractional zero point."""
    low, high = quantizer.code_limits
    return Codes(codes, max(quantizer.bits, high.bit_length() + (low < 0)), low < 0)


def check_codes(codes: Tensor, quantizer: Quantizer) -> None:
    """Raise ValueError for codes that the quantizer's grid does not have."""
    low, high = quantizer.code_limits
    if codes.numel() and (int(codes.min()) < low or int(codes.max()) > high):
        raise ValueError(f"codes run from {int(codes.min())} to {int(codes.max())}, outside the grid's {low}..{high}")


def narrow(codes: Tensor) -> Tensor:
    """The same integers in the smallest type that holds them."""
    low, high = (int(codes.min()), int(codes.max())) if codes.numel() else (0, 0)
    kinds = (torch.uint8, torch.int8, torch.int16)
    fit = (k for k in kinds if torch.iinfo(k).min <= low and high <= torch.iinfo(k).max)
    return codes.to(next(fit, torch.int32))


class QLinear(_QuantizedWeight, nn.Linear):  # type: ignore[misc]
    """nn.Linear with quantized input and weight; the bias stays in floating point."""

    @classmethod
    def of(cls, linear: nn.Linear, weight_quantizer: Quantizer | None, input_quantizer: Quantizer | None) -> QLinear:
        """Take over a layer's parameters."""
        self = cls(linear.in_features, linear.out_features, bias=False, device="meta")
        self.weight, self.bias, self.training = linear.weight, linear.bias, linear.training  # type: ignore[assignment]
        self._adopt(weight_quantizer, input_quantizer)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        x = operand(self.input_quantizer, x)
        return F.linear(x, self.quantized_weight(), self.bias)


class QConv2d(_QuantizedWeight, nn.Conv2d):  # type: ignore[misc]
    """nn.Conv2d with quantized input and weight; the bias stays in floating point."""

    @classmethod
    def of(cls, conv: nn.Conv2d, weight_quantizer: Quantizer | None, input_quantizer: Quantizer | None) -> QConv2d:
        """Take over a layer's parameters."""
        self = cls(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation,  # type: ignore[arg-type]
            conv.groups, bias=False, padding_mode=conv.padding_mode, device="meta",
        )  # fmt: skip
        self.weight, self.bias, self.training = conv.weight, conv.bias, conv.training  # type: ignore[assignment]
        self._adopt(weight_quantizer, input_quantizer)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H', W']."""
        x = operand(self.input_quantizer, x)
        y: Tensor = self._conv_forward(x, self.quantized_weight(), self.bias)
        return y


class QMatMul(MatMul):
    """The product of two activations, each with its own quantizer or None (FP)."""

    def __init__(self, left: Quantizer | None, right: Quantizer | None) -> None:
        super().__init__()
        self.left, self.right = left, right

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """[..., n, k] @ [..., k, m] -> [..., n, m]."""
        return operand(self.left, left) @ operand(self.right, right, slot=1)

    def operand_bits(self) -> tuple[float, float]:
        """(left width, right width)."""
        return _mean_bits(self.left), _mean_bits(self.right)

    def packed_tensors(self) -> list[Packed]:
        """The grids of both operands."""
        return _overhead("left", self.left) + _overhead("right", self.right)

    def stored_state(self) -> State:
        """The grids of both operands."""
        return children_state(self)

    def restore_state(self, state: dict[str, Tensor]) -> None:
        """Take both grids."""
        restore_children(self, state)
