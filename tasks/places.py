"""Where things are on this machine, as a task is told; read without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Places:
    """Where things are on this machine: data set folders and weights folders, by name; from the site file.

    A weights entry named as a model is that model's file or its folder; any other is a folder to search. `workers`
    threads, or processes for full augmentation, read images (0: none but the caller; None: one a core, at most 8).
    `trust`: take a detector's or segmenter's PyTorch file of which no digest is known, and hold later ones to it.
    """

    datasets: dict[str, Path] = field(default_factory=dict)
    weights: dict[str, Path] = field(default_factory=dict)
    hub: bool = True
    workers: int | None = None
    trust: bool = False
