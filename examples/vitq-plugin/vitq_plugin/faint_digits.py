"""A data set: vitq's digits at a quarter of their contrast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vitq.datasets.base import Data
from vitq.datasets.calibration import Calibration
from vitq.datasets.digits import Digits

if TYPE_CHECKING:
    from vitq.datasets.preprocessing import Preprocessing

CONTRAST = 0.25


@dataclass(frozen=True)
class FaintDigits(Digits):
    """The same scans, each pixel p shown as 1/2 + (p - 1/2)/4; this module's code is part of what decides a result."""

    name: str = "faint-digits"
    modules: tuple[str, ...] = (*Digits.modules, "vitq_plugin.faint_digits")

    def open(
        self,
        how: Preprocessing,
        spec: Calibration,
        places: Mapping[str, Path],
        *,
        limit: int | None,
        seed: int,
        workers: int | None,
    ) -> Data:
        """Open them as a model wants them: less contrast is another mean and a larger std."""
        m0, m1, m2 = (0.5 + (mean - 0.5) / CONTRAST for mean in how.mean)
        s0, s1, s2 = (std / CONTRAST for std in how.std)
        fainter = replace(how, mean=(m0, m1, m2), std=(s0, s1, s2))
        return super().open(fainter, spec, places, limit=limit, seed=seed, workers=workers)


FAINT_DIGITS = FaintDigits()
