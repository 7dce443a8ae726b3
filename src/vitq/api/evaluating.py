"""`vitq.evaluate`: what a model's accuracy is, with its standard error and every sample's outcome."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitq.api.tables import Table
from vitq.paired import Paired

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from vitq.datasets.preprocessing import Preprocessing
    from vitq.record import Metric
    from vitq.subject import Progress


@dataclass(frozen=True)
class Evaluation:
    """Accuracy on n samples, in percent, with standard errors in percentage points."""

    metrics: dict[str, Metric]
    outcomes: dict[str, NDArray[np.bool_]]
    samples: tuple[str, ...]
    name: str = ""

    @property
    def top1(self) -> float:
        """Share of samples whose first class is right."""
        raise NotImplementedError

    @property
    def top5(self) -> float:
        """Share of samples whose class is among the first five."""
        raise NotImplementedError

    @property
    def stderr(self) -> float:
        """Standard error of `top1`."""
        raise NotImplementedError

    @property
    def n(self) -> int:
        """How many samples."""
        raise NotImplementedError

    def against(self, other: Evaluation, metric: str = "top1") -> Paired:
        """self - other on the same samples, with the paired standard error."""
        raise NotImplementedError

    def table(self) -> Table:
        """A row a metric."""
        raise NotImplementedError


def evaluate(
    model: nn.Module | str | Path,
    data: Any,
    *,
    limit: int | None = None,
    batch: int = 64,
    device: str | torch.device | None = None,
    labels: str | Path | None = None,
    preprocessing: Preprocessing | None = None,
    architecture: str | None = None,
    num_classes: int | None = None,
    img_size: int | None = None,
    site: str | Path | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Accuracy of a model on labelled data."""
    raise NotImplementedError
