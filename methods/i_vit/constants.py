"""An integer operator with the integer constants that it makes of its input's scale: Shiftmax, ShiftGELU."""

from __future__ import annotations

import torch
from torch import Tensor

from vitq.methods.i_vit.ablations import IntegerOperator
from vitq.methods.i_vit.nodes import IntegerNode


class WithConstants(IntegerNode):
    """An elementwise or row-wise operator with its constants as int64 scalars."""

    def __init__(self, operator: IntegerOperator, scale: Tensor) -> None:
        super().__init__()
        self.operator = operator
        self.count = 0
        for value in operator.constants(float(scale)):
            self.register_buffer(f"constant{self.count}", torch.tensor(value, dtype=torch.int64, device=scale.device))
            self.count += 1

    def constants(self) -> tuple[Tensor, ...]:
        """The constants, in the operator's order."""
        return tuple(self.get_buffer(f"constant{i}") for i in range(self.count))
