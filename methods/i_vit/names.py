"""The names of I-ViT's arithmetics, operators and what an ablation puts in their place; torch-free, for options too."""

from __future__ import annotations

from typing import Literal

Arithmetic = Literal["paper", "release"]
"""Exact integers, or the released code's float32 simulation."""
Operator = Literal["weights", "activations", "softmax", "gelu", "layernorm", "residual"]
OPERATORS: tuple[Operator, ...] = ("weights", "activations", "softmax", "gelu", "layernorm", "residual")
SoftmaxKind = Literal["shiftmax", "polynomial", "log_int"]
GeluKind = Literal["shift", "polynomial"]
NormKind = Literal["integer", "l1"]
Rounding = Literal["nearest", "floor"]
"""Of a right shift: `nearest` adds half of what is shifted out first."""
