"""Which samples were right: the outcome of a metric that is a share of the samples, as top-1 is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Right:
    """Whether each sample was right, [n] bool."""

    values: NDArray[np.bool_]

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.values)

    def value(self, _metric: str, images: Sequence[int] | None = None) -> float | None:
        """The share that is right, in percent, of all samples or of a multiset of their indices; None of nothing."""
        values = self.values if images is None else self.values[np.asarray(images, dtype=np.int64)]
        return 100 * float(values.mean()) if len(values) else None
