"""Models where they are needed for a while: on the CPU to be exported, on the meta device to be described."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


class on_cpu:
    """Within, a model on the CPU in eval mode: itself where it is, else a copy."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __enter__(self) -> nn.Module:
        import copy

        from vitq.api.given_model import device_of

        here = self.model if device_of(self.model).type == "cpu" else copy.deepcopy(self.model).cpu()
        self._training = here.training
        self._here = here.eval()
        return self._here

    def __exit__(self, *_: object) -> None:
        self._here.train(self._training)


def on_meta(model: nn.Module) -> nn.Module:
    """A copy of a module on the meta device, in eval mode: its architecture without its weights."""
    import copy

    import torch
    from torch import nn

    memo: dict[int, Any] = {}
    for tensor in [*model.parameters(), *model.buffers()]:  # no weight is copied on the way
        with torch.no_grad():
            empty = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
    return copy.deepcopy(model, memo).eval()
