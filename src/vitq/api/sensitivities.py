"""`vitq.sensitivity`: what each component of a model costs in accuracy when it is quantized, measured and estimated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vitq.api.tables import Table

if TYPE_CHECKING:
    import torch
    from torch import nn

    from vitq.datasets.preprocessing import Preprocessing
    from vitq.subject import Progress

By = Literal["block", "layer"]
Mode = Literal["alone", "leave-one-out"]


@dataclass(frozen=True)
class Sensitivity:
    """What each component costs; `rows` as `table()` shows them."""

    bits: str
    mode: Mode
    fp32_top1: float
    quantized_top1: float
    n: int
    correlation: float | None

    def table(self) -> Table:
        """A row a component: params, MACs, measured drop of top-1 ± its paired standard error, estimated change."""
        raise NotImplementedError

    def plot(self, path: str | Path) -> Path:
        """Draw the table as a picture (PNG, SVG or PDF by the name)."""
        raise NotImplementedError


def sensitivity(
    model: nn.Module | str | Path,
    data: Any,
    *,
    bits: str = "W4A4",
    calibration_data: Any = None,
    by: By = "block",
    mode: Mode = "alone",
    scope: str = "model",
    limit: int | None = None,
    images: int | None = None,
    batch: int | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    labels: str | Path | None = None,
    preprocessing: Preprocessing | None = None,
    architecture: str | None = None,
    num_classes: int | None = None,
    img_size: int | None = None,
    site: str | Path | None = None,
    progress: Progress | None = None,
) -> Sensitivity:
    """What each component costs in accuracy when it alone is quantized (or when it alone is left in FP32)."""
    raise NotImplementedError
