"""The integer form's softmax, GELU and LayerNorm: integer operators with their constants as buffers."""

from __future__ import annotations

import torch
from torch import Tensor

from vitq.methods.i_vit import functions
from vitq.methods.i_vit.ablations import IntegerNorm, IntegerOperator
from vitq.methods.i_vit.dyadic import Affine, affine_requantize
from vitq.methods.i_vit.integer_grids import IntegerNode, after, narrow


class _Operator(IntegerNode):
    """An elementwise or row-wise operator with its constants as int64 scalars."""

    def __init__(self, operator: IntegerOperator, scale: Tensor) -> None:
        super().__init__()
        self.operator = operator
        self.count = 0
        for value in operator.constants(float(scale)):
            self.register_buffer(f"constant{self.count}", torch.tensor(value, dtype=torch.int64, device=scale.device))
            self.count += 1

    def _constants(self) -> tuple[Tensor, ...]:
        return tuple(self.get_buffer(f"constant{i}") for i in range(self.count))


class IntegerSoftmax(_Operator):
    """Shiftmax or its replacement."""

    def __init__(self, node: functions.Softmax) -> None:
        super().__init__(node.operator, node.in_scales[0])
        self.bits = node.bits

    def forward(self, codes: Tensor) -> Tensor:
        """Logit codes to probability codes, int8 or int16."""
        return narrow(self.operator.apply(codes.to(torch.int64), self._constants(), self.bits), self.bits)


class IntegerGelu(_Operator):
    """ShiftGELU or its replacement."""

    def __init__(self, node: functions.Gelu) -> None:
        super().__init__(node.operator, node.in_scales[0])
        scale = node.in_scales[0]
        worth = torch.full_like(scale, node.operator.out_scale(float(scale), 8))
        self.out = after(node.out, worth)

    def forward(self, codes: Tensor) -> Tensor:
        """int8 to int8."""
        assert self.out is not None
        return self.out(self.operator.apply(codes.to(torch.int64), self._constants(), 8))  # type: ignore[no-any-return]


class IntegerLayerNorm(IntegerNode):
    """I-LayerNorm with gamma and beta as integers."""

    multiplier: Tensor
    bias: Tensor
    shift: Tensor

    def __init__(self, node: functions.Norm) -> None:
        super().__init__()
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
